"""docs/architecture.md shows the rooms that there are."""

from tests.docs.architecture import PAGE, page


def test_the_tree_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), (
        "write it anew: python -m tests.docs.architecture"
    )
