"""Bytes of a text file to text, whichever program wrote them."""

from __future__ import annotations

import codecs

# The longer marks come first: that of UTF-32 (little-endian) begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_MARK = "\ufeff"


class NotTextError(ValueError):
    """Bytes are no text that can be read without guessing; the message completes "FILE: ..."."""


def decode_text(content: bytes) -> str:
    """Decode UTF-8, or what a byte order mark announces; every line ends in one newline.

    A mark is no part of the text; files that were joined keep theirs at the start of a line, so
    it is removed there too.

    Raises:
        NotTextError: the bytes are in another encoding, or are no text.
    """
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), None)
    try:
        text = content.decode(encoding or "utf-8")
    except UnicodeDecodeError as error:
        if encoding is None:
            raise NotTextError(_foreign(content, error.start)) from error
        raise NotTextError(
            f"its byte order mark says {encoding.upper()}, but byte {error.start} is not"
        ) from error
    if "\0" in text:
        raise NotTextError(_with_nulls(content))
    text = text.replace("\r\n", "\n").replace("\r", "\n").removeprefix(_MARK)
    return text.replace(f"\n{_MARK}", "\n")


def _foreign(content: bytes, position: int) -> str:
    """Say what bytes that are not UTF-8 might be."""
    if b"\0" in content:
        return _with_nulls(content)
    return (
        f"byte {position} is not UTF-8 text; convert it, for example with"
        " `iconv -f LATIN1 -t UTF-8` if it was written on an older system"
    )


def _with_nulls(content: bytes) -> str:
    """Say what bytes with NULs among them might be: UTF-16 has most on one side of each pair."""
    sample = content[:4096]
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    if max(even, odd) > 4 * min(even, odd) and max(even, odd) > len(sample) // 8:
        name = "UTF-16BE" if even > odd else "UTF-16LE"
        return (
            f"holds NUL bytes as {name} does, but no byte order mark that says so; convert it with"
            f" `iconv -f {name} -t UTF-8`"
        )
    return f"holds a NUL byte at position {content.index(0)}; it is no text"


def recognise(head: bytes) -> str | None:
    """Say what a file is that turned out to be something else than expected.

    Args:
        head: its first bytes, 512 or more where there are so many.

    Returns:
        such as "an HTML page, as servers send instead of a file"; None for no known kind.
    """
    if not head:
        return "empty"
    start = head.lstrip()[:64].lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "an HTML page, as servers send instead of a file"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer instead of the file itself; fetch it with `git lfs pull`"
    for magic, kind in _KINDS:
        if head.startswith(magic):
            return kind
    if head[257:262] == b"ustar":
        return "a tar archive; unpack it first"
    return None


_KINDS = (
    (b"\x1f\x8b", "gzip-compressed; unpack it with gunzip"),
    (b"BZh", "bzip2-compressed; unpack it first"),
    (b"\xfd7zXZ", "xz-compressed; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed; unpack it first"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x89HDF", "an HDF5 file"),
    (b"PAR1", "a Parquet file"),
    (b"%PDF", "a PDF document"),
    (b"Rar!", "a RAR archive; unpack it first"),
)
