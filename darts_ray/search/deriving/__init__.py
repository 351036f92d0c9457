"""From a trained supernet to a genotype."""
