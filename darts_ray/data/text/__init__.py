"""Texts as token numbers, and windows over them."""
