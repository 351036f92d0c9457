"""Opens a table of accuracies that a user has."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from darts_ray.benchmarks.nasbench201.nats_files import NatsFolder, read_nats_file
from darts_ray.benchmarks.nasbench201.table import ColumnTable, Table
from darts_ray.errors import ConfigError

_KINDS = (
    "a folder of NATS-Bench (NATS-tss-v1_0-3ffb9-simple), its single file"
    " (NATS-tss-v1_0-3ffb9.pickle.pbz2), or a .parquet file with columns like those of the table"
    " that is shipped"
)


def open_table(path: str | Path) -> Table:
    """Return a table of accuracies from a file or folder of the user's own.

    Of a folder only the list of cells is read, and a cell's file when the cell is asked for; all
    of them take minutes. The single file is read completely, which takes longer and gigabytes of
    memory. Convert either once, with `pyarrow.parquet.write_table(table.to_arrow(), path)`.
    Whatever the files hold, no code in them is run.

    Args:
        path: NATS-Bench's folder with `meta.pickle.pbz2` and a file per cell, its single
            `.pickle.pbz2` file, or a `.parquet` file with the column `arch` and any of `COLUMNS`.

    Raises:
        ConfigError: there is no such file, or it is something else or damaged.

    Example:
        >>> table = open_table("NATS-tss-v1_0-3ffb9-simple")
        >>> nasbench201.accuracy(nasbench201.RESNET_LIKE, "cifar100", table=table)
    """
    place = Path(path).expanduser()
    if not place.exists():
        raise ConfigError(f"{path}: there is no such file or folder. It must be {_KINDS}.")
    if place.is_dir():
        return NatsFolder(place)
    if place.suffix == ".pbz2":
        return read_nats_file(place)
    if place.suffix == ".parquet":
        try:
            content = pq.read_table(place)
        except (pa.ArrowInvalid, OSError) as error:
            raise ConfigError(f"{place}: is not readable as Parquet: {error}.") from error
        return ColumnTable.from_arrow(str(place), content)
    raise ConfigError(f"{place}: is no table of accuracies. It must be {_KINDS}.")
