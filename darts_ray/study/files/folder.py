"""A study's folder on a local path or an object store, written so that a kill leaves no halves."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import filelock
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq

from darts_ray.config import StudyConfig
from darts_ray.encoding import NotTextError, decode_text
from darts_ray.errors import DamagedFileError, StudyError
from darts_ray.location import (
    CREDENTIALS_REMEDY,
    absolute_location,
    child_location,
    refuse_user_info,
    with_patience,
)
from darts_ray.study.files.holder import Holder
from darts_ray.study.files.lease import Lease

_Result = TypeVar("_Result")

LOCK_FILE = ".driver.lock"
HOLDER_FILE = ".driver.json"
"""Beside a local lock: who holds it. A lease says so itself."""


class StudyFolder:
    """Reads and writes a study's files by name; `location` is a local path or a URI.

    Every write is atomic: locally a temporary file is renamed, and object stores show an object
    only once it is whole.
    """

    def __init__(self, location: str | Path) -> None:
        """Resolve the location; nothing is created.

        Raises:
            ConfigError: the URI holds a user or a password.
            StudyError: the URI names a file system that pyarrow does not know.
        """
        refuse_user_info(str(location), "Study folder", CREDENTIALS_REMEDY)
        self.uri = absolute_location(location)
        self.is_local = "://" not in self.uri
        self._lease: Lease | None = None
        try:
            if self.is_local:
                self._fs, self._root = pyarrow.fs.LocalFileSystem(), self.uri
            else:
                self._fs, self._root = pyarrow.fs.FileSystem.from_uri(self.uri)
        except (pa.ArrowInvalid, OSError) as error:
            raise StudyError(
                f"Study folder {self.uri}: cannot be reached: {error}. Use a local path or a URI"
                " such as s3://bucket/folder."
            ) from error

    @classmethod
    def of(cls, config: StudyConfig) -> StudyFolder:
        """Return the folder `<output>/<name>` of a study."""
        return cls(child_location(absolute_location(config.output), config.name))

    def __str__(self) -> str:
        """Return the absolute path or the URI."""
        return self.uri

    def child(self, name: str) -> str:
        """Return the absolute path or URI of something inside the folder."""
        return child_location(self.uri, name)

    def has(self, name: str) -> bool:
        """Tell whether a file or folder of that name exists."""
        info = self._guard(name, lambda: self._fs.get_file_info(self._path(name)))
        return bool(info.type != pyarrow.fs.FileType.NotFound)

    def names(self) -> list[str]:
        """Return what the folder holds, sorted; empty when there is no folder."""
        selector = pyarrow.fs.FileSelector(self._root, allow_not_found=True)
        infos = self._guard("", lambda: self._fs.get_file_info(selector))
        return sorted(info.base_name for info in infos)

    def folders(self) -> list[str]:
        """Return the names of the folders that this one holds, sorted."""
        selector = pyarrow.fs.FileSelector(self._root, allow_not_found=True)
        infos = self._guard("", lambda: self._fs.get_file_info(selector))
        kind = pyarrow.fs.FileType.Directory
        return sorted(info.base_name for info in infos if info.type == kind)

    def size(self) -> int:
        """Return the bytes of all files, those of the trials included."""
        selector = pyarrow.fs.FileSelector(self._root, allow_not_found=True, recursive=True)
        infos = self._guard("", lambda: self._fs.get_file_info(selector))
        return sum(info.size or 0 for info in infos)

    def modified(self) -> dict[str, float]:
        """Return when each file was last written, in seconds since 1970, those of trials included.

        Returns:
            Path relative to this folder to time; empty when there is no folder.
        """
        selector = pyarrow.fs.FileSelector(self._root, allow_not_found=True, recursive=True)
        infos = self._guard("", lambda: self._fs.get_file_info(selector))
        start = len(self._path(""))
        return {
            info.path[start:]: (info.mtime_ns or 0) / 1e9
            for info in infos
            if info.type == pyarrow.fs.FileType.File
        }

    def read_bytes(self, name: str) -> bytes:
        """Return a file's content.

        Raises:
            StudyError: it does not exist or cannot be read.
        """

        def read() -> bytes:
            with self._fs.open_input_stream(self._path(name), compression=None) as stream:
                return bytes(stream.read())

        return self._guard(name, read)

    def read_text(self, name: str) -> str:
        """Return a file's content as UTF-8 text.

        Raises:
            StudyError: as `read_bytes`, or the content is no text.
        """
        try:
            return decode_text(self.read_bytes(name))
        except NotTextError as error:
            raise DamagedFileError(
                f"{self.child(name)}: is cut short or altered ({error})."
            ) from error

    def read_table(self, name: str, dictionaries: Sequence[str] = ()) -> pa.Table:
        """Return a Parquet file's content; named text columns as dictionaries, to save memory.

        Raises:
            StudyError: as `read_bytes`, or the file is damaged.
        """
        content = pa.BufferReader(self.read_bytes(name))
        try:
            return pq.read_table(content, read_dictionary=list(dictionaries))
        except (pa.ArrowException, OSError) as error:
            raise DamagedFileError(
                f"{self.child(name)}: is cut short or altered ({_first_line(error)}). The trials"
                f" are untouched; `darts-ray resume {self}` writes it anew from them."
            ) from error

    def write_bytes(self, name: str, content: bytes) -> None:
        """Put a file under its name at once, replacing what was there.

        Raises:
            StudyError: the storage refuses, for example because it is full.
        """
        self._guard(name, lambda: self._write(name, content))

    def write_text(self, name: str, content: str) -> None:
        """Write UTF-8 text as `write_bytes` does."""
        self.write_bytes(name, content.encode("utf-8"))

    def write_table(self, name: str, table: pa.Table) -> None:
        """Write a Parquet file as `write_bytes` does."""
        sink = pa.BufferOutputStream()
        # why: without Arrow's schema, text that is a dictionary in memory is text to all readers
        pq.write_table(table, sink, compression="zstd", store_schema=False)
        self.write_bytes(name, sink.getvalue().to_pybytes())

    def delete(self, name: str) -> None:
        """Remove a file; nothing happens when there is none."""
        if self.has(name):
            self._guard(name, lambda: self._fs.delete_file(self._path(name)))

    def write_file(self, name: str, source: Path) -> None:
        """Copy a local file into the folder as `write_bytes` does."""
        self.write_bytes(name, source.read_bytes())

    @contextmanager
    def lock(self, *, wait: bool = False) -> Iterator[None]:
        """Keep other drivers off this study while the block runs.

        Locally the operating system drops the lock with the process; on an object store it is a
        lease, which runs out by itself (`lease.py` says what all locks promise).

        Args:
            wait: wait for the lease of a driver that has died, until it has run out.

        Raises:
            StudyError: another driver holds the lock.
        """
        if self.is_local:
            with self._lock_local():
                yield
            return
        lease = Lease(self._fs, self._path(LOCK_FILE), self.uri)
        self._lease = lease
        try:
            with lease.held(wait=wait):
                yield
        finally:
            self._lease = None

    @contextmanager
    def _lock_local(self) -> Iterator[None]:
        is_new = [folder for folder in self._and_parents() if not os.path.isdir(folder)]
        try:
            with_patience(
                lambda: os.makedirs(self._root, exist_ok=True), f"Study folder {self}: storage"
            )
        except OSError as error:
            raise StudyError(
                f"Study folder {self}: cannot be made ({error.strerror}: {error.filename})."
                " Choose another output (--set output=...), or mend what is in the way."
            ) from error
        lock = filelock.FileLock(self._path(LOCK_FILE), timeout=0)
        try:
            lock.acquire()
        except filelock.Timeout as error:
            raise StudyError(
                f"Study folder {self}: another driver is working on this study. Wait for it or"
                " stop it."
            ) from error
        except OSError as error:
            raise StudyError(
                f"Study folder {self}: cannot be written: {error}. Mend its permissions, or copy"
                " it to a place of your own."
            ) from error
        try:
            self.write_text(HOLDER_FILE, Holder.here().to_json())
            yield
        finally:
            Path(self._path(HOLDER_FILE)).unlink(missing_ok=True)
            # why: removed while still held, so no other driver can be waiting on this inode
            Path(self._path(LOCK_FILE)).unlink(missing_ok=True)
            lock.release()
            with suppress(OSError):  # one holds something by now
                for folder in is_new:
                    os.rmdir(folder)

    def _and_parents(self) -> list[str]:
        root = Path(self._root)
        return [str(folder) for folder in (root, *root.parents)]

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _write(self, name: str, content: bytes) -> None:
        if self._lease is not None and self._lease.lost:
            raise self._lease.lost_error()
        if not self.is_local:
            with self._fs.open_output_stream(self._path(name), compression=None) as stream:
                stream.write(content)
            return
        target = Path(self._path(name))
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)

    def _guard(self, name: str, action: Callable[[], _Result]) -> _Result:
        place = f"Study folder {self}: {name or 'storage'}"
        try:
            return with_patience(action, place)
        except FileNotFoundError as error:
            raise StudyError(f"Study folder {self}: there is no {name}.") from error
        except (OSError, pa.ArrowException) as error:
            raise StudyError(f"{place}: {error}.") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
