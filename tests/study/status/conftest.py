from tests.study.files.conftest import bucket

__all__ = ["bucket"]
