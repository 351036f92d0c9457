"""Where a genotype can be named: the published zoo, a file, a study."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from darts_ray.encoding import NotTextError, decode_text
from darts_ray.errors import ConfigError, StudyError
from darts_ray.space import Genotype, zoo
from darts_ray.study.files.study import load_study

_TEXTS = ("{", "Genotype(", "~0|", "\n")
"""What no path has that anybody gives, and every text of a genotype does."""


def find_genotype(name: str) -> Genotype:
    """Return the genotype that a zoo name, a genotype's text, a file or a study stands for.

    A text is JSON or what the original code prints, and so is the content of a file; a study
    (folder or URI) stands for its winner.

    Raises:
        ConfigError: it is none of these, or the text is no genotype.
        StudyError: the study has no winner yet.
    """
    if name in zoo:
        return zoo[name]
    if any(mark in name for mark in _TEXTS):
        return Genotype.parse(name)
    if _is(Path.is_file, name):
        try:
            return Genotype.parse(decode_text(Path(name).read_bytes()))
        except ConfigError as error:
            raise ConfigError(f"{name}: {error}") from error
        except NotTextError as error:
            raise ConfigError(f"{name}: is not a text file with a genotype: {error}.") from error
        except OSError as error:
            raise ConfigError(f"{name}: cannot be read: {error.strerror or error}.") from error
    if "://" in name or _is(Path.is_dir, name):
        winner = load_study(name).winner
        if winner is None:
            raise StudyError(f"{name}: has no winner yet; finish it with: darts-ray resume {name}")
        return winner
    shown = name if len(name) < 80 else f"{name[:77]}..."
    raise ConfigError(
        f"--genotype {shown}: is no published cell ({', '.join(zoo)}), file or study folder."
    )


def _is(check: Callable[[Path], bool], name: str) -> bool:
    """Ask the file system about a name that may be too long for it, or hold a NUL."""
    try:
        return check(Path(name))
    except (OSError, ValueError):
        return False
