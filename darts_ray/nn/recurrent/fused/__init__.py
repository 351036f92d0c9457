"""The fast edges of a recurrent supernet."""
