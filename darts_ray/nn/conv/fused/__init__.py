"""The fast edges of a conv supernet: all edges that leave a state at once."""
