"""One bilevel step: the gradient of the alphas, both updates, and its replay as a graph."""
