"""The configurations that come with the package: what they are for, and copies to start from."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from darts_ray.errors import ConfigError

_COST = "Cost: "


@dataclass(frozen=True)
class ShippedConfig:
    """A commented YAML file of the package.

    Attributes:
        name: its place without the ending, such as `cifar10/search`.
        summary: what it is for, from its first comment.
        cost: what running it takes.
        text: the file.
    """

    name: str
    summary: str
    cost: str
    text: str


def shipped_configs() -> dict[str, ShippedConfig]:
    """Return every shipped configuration by name; those at the top, to begin with, come first."""
    found: list[ShippedConfig] = []
    _collect(files("darts_ray").joinpath("configs"), "", found)
    ordered = sorted(found, key=lambda config: ("/" in config.name, config.name))
    return {config.name: config for config in ordered}


def write_config(name: str, target: Path | None = None, *, overwrite: bool = False) -> Path:
    """Copy a shipped configuration to where it can be edited.

    Args:
        name: as `shipped_configs` lists it; the ending `.yaml` may stand there.
        target: the new file, or an existing folder for it; default: the current folder.
        overwrite: replace a file that is there.

    Returns:
        The file that was written.

    Raises:
        ConfigError: no configuration has that name, the file exists, or it cannot be written.
    """
    configs = shipped_configs()
    key = name.removesuffix(".yaml").removeprefix("configs/")
    if key not in configs:
        raise ConfigError(
            f"init: no configuration is named {name!r}; there are: {', '.join(configs)}."
        )
    place = target or Path()
    if place.is_dir():
        place = place / f"{key.replace('/', '-')}.yaml"
    try:
        with place.open("w" if overwrite else "x", encoding="utf-8") as file:
            file.write(configs[key].text)
    except FileExistsError:
        raise ConfigError(
            f"init: {place} is there already. Name another file, or replace it with --force."
        ) from None
    except OSError as error:
        raise ConfigError(f"init: {place} cannot be written: {error.strerror}.") from error
    return place


def _collect(folder: Traversable, prefix: str, found: list[ShippedConfig]) -> None:
    for item in folder.iterdir():
        if item.is_dir():
            _collect(item, f"{prefix}{item.name}/", found)
        elif item.name.endswith(".yaml"):
            text = item.read_text(encoding="utf-8")
            summary, cost = _head(text)
            name = prefix + item.name.removesuffix(".yaml")
            found.append(ShippedConfig(name, summary, cost, text))


def _head(text: str) -> tuple[str, str]:
    """Return the first paragraph of the leading comment, and its line on the cost."""
    comment = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        comment.append(line.removeprefix("#").strip())
    paragraphs = [part.replace("\n", " ") for part in "\n".join(comment).split("\n\n")]
    costs = [part.removeprefix(_COST) for part in paragraphs if part.startswith(_COST)]
    return paragraphs[0] if comment else "", costs[0] if costs else ""
