"""Methods that draw their mixing weights from a distribution of the alphas."""
