"""One thread: the networks here are so small that waiting for a second one costs more."""

from tests.search.conftest import _one_thread

__all__ = ["_one_thread"]
