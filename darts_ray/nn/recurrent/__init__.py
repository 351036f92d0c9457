"""Recurrent cells, language models, and the supernet of a recurrent search."""
