"""Which Parquet files in a folder make up a part, by their exact names."""

from __future__ import annotations

import re
from pathlib import Path

from darts_ray.errors import DataError

# NAME.parquet, NAME-0.parquet, NAME-00000-of-00002.parquet, the latter also with the hash that
# older versions of Hugging Face's library append.
_NUMBERED = (
    r"(?:(?P<separator>[-_.]?)(?P<number>\d+)(?:-of-(?P<total>\d+))?(?:-[0-9a-f]{16})?)?\.parquet"
)
# In a folder named like the part also 0000.parquet (the hub's convert branch) and Spark's names.
_INNER = re.compile(
    r"(?P<part>[a-z_-]*?)[-_.]?(?P<number>\d{1,6})"
    r"(?:-of-(?P<total>\d+))?(?:-[0-9a-f]{16}|-[0-9a-f-]{36}[\w.-]*)?\.parquet",
    re.IGNORECASE,
)


def find_shards(root: Path, part: str) -> list[Path]:
    """Return the files of a part, in reading order.

    They lie in `root` or in one folder below it, as NAME.parquet or NAME-00000-of-00002.parquet,
    or in a folder there with the part's name. All parts are read from the folder that holds the
    training part, so that those of different datasets are never mixed.

    Raises:
        DataError: there are none, a shard is missing, or several sets of files match.
    """
    if not root.is_dir():
        raise DataError(
            f"{root}: there is no such folder. data.path must name the folder that holds the"
            " Parquet files."
        )
    base = _base(root, "train")
    if base is None:
        raise DataError(_missing(root, _bases(root), "train"))
    shards = _files(base, part)
    if not shards:
        raise DataError(_missing(base, [base], part))
    return shards


def _bases(root: Path) -> list[Path]:
    folders = (path for path in root.iterdir() if path.is_dir() and path.name[0] not in "._")
    return [root, *sorted(folders)]


def _base(root: Path, part: str) -> Path | None:
    """Return the folder whose files are read: the root if it has the part, else one in it."""
    found = [base for base in _bases(root) if _files(base, part)]
    if len(found) > 1 and found[0] != root:
        names = ", ".join(map(str, found))
        raise DataError(f"{root}: several datasets match: {names}. Set data.path to one of them.")
    return found[0] if found else None


def _files(base: Path, part: str) -> list[Path]:
    """Return a part's shards in a folder; none if there are none."""
    pattern = re.compile(f"(?P<part>{re.escape(part)}){_NUMBERED}", re.IGNORECASE)
    outer = [path for path in _parquet(base) if pattern.fullmatch(path.name)]
    outer = [path for path in outer if not path.is_dir()]
    if any(path.stem.lower() == part.lower() for path in outer):
        # beside test.parquet, test2.parquet is another part and no shard
        matches = {path: pattern.fullmatch(path.name) for path in outer}
        outer = [p for p, match in matches.items() if match and match["separator"] != ""]
    groups = [_complete(outer, pattern)] if outer else []
    for name in (part, f"{part}.parquet"):
        if (base / name).is_dir() and (inner := _parquet(base / name)):
            groups.append(_complete(inner, _INNER))
    if len(groups) > 1:
        names = " and ".join(str(group[0]) for group in groups)
        raise DataError(f"{base}: the part {part!r} is there twice: {names}. Keep one of them.")
    return groups[0] if groups else []


def _parquet(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() == ".parquet" and path.name[0] not in "._"
    )


def _complete(files: list[Path], pattern: re.Pattern[str]) -> list[Path]:
    """Insist that numbered files are all of one set, and return them by number."""
    for file in files:
        if not file.is_file():
            kind = "is a link to nothing" if file.is_symlink() else "is not a file"
            raise DataError(f"{file}: {kind}. Remove it, or put the file there.")
    matches = [pattern.fullmatch(file.name) for file in files]
    numbered = [
        (match, file)
        for match, file in zip(matches, files, strict=True)
        if match is not None and match["number"] is not None
    ]
    if not numbered:
        if len(files) > 1 and pattern is not _INNER:
            raise DataError(f"{files[0]} and {files[1]}: are the same part; keep one of them.")
        return files
    if len(numbered) < len(files):
        odd = next(file for file in files if all(file != other for _, other in numbered))
        raise DataError(
            f"{odd}: does not belong to the numbered files beside it, such as"
            f" {numbered[0][1].name}. Move it elsewhere."
        )
    sets = {(match["part"], match["total"]): file for match, file in numbered}
    if len(sets) > 1:
        names = ", ".join(file.name for file in sets.values())
        raise DataError(f"{files[0].parent}: holds several sets of files: {names}. Keep one.")
    ((_, total),) = sets
    numbers = sorted(int(match["number"]) for match, _ in numbered)
    # some count from 1
    first = 1 if numbers[0] == 1 and (total is None or numbers[-1] == int(total)) else 0
    count = int(total) if total is not None else numbers[-1] + 1 - first
    missing = sorted(set(range(first, first + count)) - set(numbers))
    if missing:
        raise DataError(
            f"{files[0].parent}: of {count} files such as {files[0].name},"
            f" {_numbers(missing)} missing. Fetch all of them."
        )
    if len(set(numbers)) < len(numbers) or numbers[-1] >= first + count:
        raise DataError(
            f"{files[0].parent}: there are {len(numbers)} files such as {files[0].name}, but"
            f" {count} with different numbers are expected. Remove those of another version."
        )
    return [file for _, file in sorted(numbered, key=lambda pair: int(pair[0]["number"]))]


def _numbers(missing: list[int]) -> str:
    shown = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
    return f"number {shown} is" if len(missing) == 1 else f"numbers {shown} are"


def _missing(place: Path, bases: list[Path], part: str) -> str:
    """Explain that a part is not there, by what is there."""
    below = "" if len(bases) == 1 else ", nor does a folder in it"
    text = f"{place}: holds no {part}.parquet or {part}-00000-of-*.parquet{below}."
    for base in bases:
        if (base / f"partial-{part}").is_dir():
            return (
                f"{text} {base / f'partial-{part}'} holds only a share of the part, as the hub"
                f" converts of large datasets: fetch the original files, or rename it to {part!r}"
                " if a share is enough."
            )
    parts = sorted({name for base in bases for name in _parts(base)})
    if part != "train" and parts:
        return f"{text} The parts there are: {', '.join(parts)}. Name one in data.test_part."
    there = f" The parts there are: {', '.join(parts)}." if parts else ""
    return f"{text}{there} data.path must name the folder with the Parquet files."


def _parts(base: Path) -> list[str]:
    """Return the names of the parts in a folder, for messages."""
    pattern = re.compile(rf"(?P<part>[A-Za-z][\w.]*?){_NUMBERED}", re.IGNORECASE)
    matches = (pattern.fullmatch(path.name) for path in _parquet(base))
    names = {match["part"] for match in matches if match}
    return [*names, *(path.name for path in _bases(base)[1:] if _parquet(path))]
