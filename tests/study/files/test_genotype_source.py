from __future__ import annotations

import json
from pathlib import Path

import pytest

from darts_ray.errors import ConfigError
from darts_ray.space import zoo
from darts_ray.study.files.genotype_source import find_genotype


def test_a_genotype_may_be_a_name_a_text_or_a_file(tmp_path: Path) -> None:
    cell = zoo["DARTS_V2"]
    path = tmp_path / "cell.json"
    path.write_text(cell.to_json())
    for source in ("DARTS_V2", cell.to_json(), str(path)):
        assert find_genotype(source) == cell


def test_what_is_none_of_them_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="DARTS_V3: is no published cell"):
        find_genotype("DARTS_V3")
    with pytest.raises(ConfigError):
        find_genotype(json.dumps({"normal": []}))
    (tmp_path / "picture").write_bytes(bytes([255, 254, 0]))
    with pytest.raises(ConfigError, match="is not a text file"):
        find_genotype(str(tmp_path / "picture"))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_file_with_a_byte_order_mark(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "cell.json"
    file.write_bytes(zoo["DARTS_V1"].to_json().encode(encoding))
    assert find_genotype(str(file)) == zoo["DARTS_V1"]


def test_a_file_whose_encoding_is_not_told(tmp_path: Path) -> None:
    file = tmp_path / "cell.json"
    file.write_bytes(zoo["DARTS_V1"].to_json().encode("utf-16-le"))
    with pytest.raises(ConfigError, match=r"cell.json: .*UTF-16LE.*iconv"):
        find_genotype(str(file))


def test_a_line_copied_from_a_log_is_no_path(tmp_path: Path) -> None:
    cell = ", ".join(["('sep_conv_3x3', 0), ('skip_connect', 1)"] * 4)
    line = (
        f"genotype = Genotype(normal=[{cell}], normal_concat=range(2, 6), reduce=[{cell}],"
        " reduce_concat=range(2, 6))"
    )
    assert len(line) > 255  # longer than a file's name may be
    genotype = find_genotype(line)
    assert genotype.num_skip == 4
    file = tmp_path / "mine.txt"
    file.write_text(f"MINE = {line.partition(' = ')[2]}\n")
    assert find_genotype(str(file)) == genotype
    with pytest.raises(ConfigError, match="is no published cell"):
        find_genotype("x" * 300)
    with pytest.raises(ConfigError, match="is no published cell"):
        find_genotype("a\0b")
