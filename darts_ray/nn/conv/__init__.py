"""Convolutional cells and networks, and the supernet of a conv search."""
