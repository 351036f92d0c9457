from pathlib import Path

import pytest

from darts_ray.config import StudyConfig, load_config
from darts_ray.config.reading.shipped import shipped_configs, write_config
from darts_ray.errors import ConfigError

CONFIGS = Path(__file__).parents[3] / "configs"


def test_every_file_is_listed_with_its_purpose_and_cost() -> None:
    configs = shipped_configs()
    assert set(configs) == {
        str(file.relative_to(CONFIGS).with_suffix("")) for file in CONFIGS.rglob("*.yaml")
    }
    assert next(iter(configs)) == "quickstart"
    for config in configs.values():
        assert config.summary.endswith((".", "?")), config.name
        assert config.cost.endswith("."), config.name


def test_a_copy_is_the_file_and_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written = write_config("cifar10/search.yaml")
    assert written == Path("cifar10-search.yaml")
    assert written.read_text() == (CONFIGS / "cifar10/search.yaml").read_text()
    assert isinstance(load_config(written), StudyConfig)


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("mine")
    with pytest.raises(ConfigError, match="is there already"):
        write_config("quickstart", file)
    assert file.read_text() == "mine"
    write_config("quickstart", file, overwrite=True)
    assert "digits" in file.read_text()


def test_mistakes_name_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there are: quickstart"):
        write_config("quickstrat")
    with pytest.raises(ConfigError, match="cannot be written"):
        write_config("quickstart", tmp_path / "no" / "folder.yaml")
