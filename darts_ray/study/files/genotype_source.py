"""Where a genotype can be named: the published zoo, a file, a study."""

from __future__ import annotations

from pathlib import Path

from darts_ray.encoding import NotTextError, decode_text
from darts_ray.errors import ConfigError, StudyError
from darts_ray.space import Genotype, zoo
from darts_ray.study.files.study import load_study


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
    if name.lstrip().startswith(("{", "Genotype(")):
        return Genotype.parse(name)
    if Path(name).is_file():
        try:
            return Genotype.parse(decode_text(Path(name).read_bytes()))
        except NotTextError as error:
            raise ConfigError(f"{name}: is not a text file with a genotype: {error}.") from error
        except OSError as error:
            raise ConfigError(f"{name}: cannot be read: {error.strerror or error}.") from error
    if Path(name).is_dir() or "://" in name:
        winner = load_study(name).winner
        if winner is None:
            raise StudyError(f"{name}: has no winner yet; finish it with: darts-ray resume {name}")
        return winner
    raise ConfigError(
        f"--genotype {name}: is no published cell ({', '.join(zoo)}), file or study folder."
    )
