"""Whatever wrote a text file, its words are read as written, or the file is refused."""

import codecs

import pytest

from darts_ray.encoding import NotTextError, decode_text

TEXT = "the cat\nça va\n猫\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_utf8_and_whatever_a_mark_announces(encoding: str) -> None:
    assert decode_text(TEXT.encode(encoding)) == TEXT


def test_big_endian_with_a_mark() -> None:
    assert decode_text(codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be")) == TEXT


def test_marks_of_joined_files_are_removed() -> None:
    assert decode_text("one\n".encode("utf-8-sig") + "two\n".encode("utf-8-sig")) == "one\ntwo\n"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_alike(end: str) -> None:
    assert decode_text(f"one{end}two{end}".encode()) == "one\ntwo\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("the cat sat\n".encode("utf-16-le"), "as UTF-16LE does, but no byte order mark"),
        ("the cat sat\n".encode("utf-16-be"), "as UTF-16BE does, but no byte order mark"),
        ("猫 sat\n".encode("utf-16-le"), "UTF-16LE"),
        ("caf\xe9\n".encode("latin-1"), "byte 3 is not UTF-8 text; convert it"),
        (codecs.BOM_UTF16_LE + b"a", "byte order mark says UTF-16-LE, but byte 2 is not"),
        (b"a word\0and more, all of it ASCII\n", "a NUL byte at position 6"),
        (b"PK\3\4\0\0\0\0\x08\0", "NUL byte"),
    ],
)
def test_other_bytes_are_refused(content: bytes, message: str) -> None:
    with pytest.raises(NotTextError, match=message):
        decode_text(content)


def test_an_empty_file_is_an_empty_text() -> None:
    assert decode_text(b"") == ""
