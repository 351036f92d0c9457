"""Where files lie: local paths and URIs of object stores, as text, and how to bear with them."""

from __future__ import annotations

import errno
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from darts_ray.errors import ConfigError, StorageError

_Result = TypeVar("_Result")

WAITS_S = (0.5, 2.0, 8.0)
"""Pauses between attempts; an object store that throttles, or a file server, is back by then."""

_LASTING = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
_USER_INFO = re.compile(r"(?<=://)[^/?#\s@]*@")
_SECRET = re.compile(
    r"(?i)\b((?:[a-z_]*(?:password|passwd|secret|token|api[_-]?key|access[_-]?key))"
    r"[\"']?\s*[=:]\s*[\"']?|bearer\s+|basic\s+)[^\s\"'&,;]+"
)


CREDENTIALS_REMEDY = (
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or what else the store's clients read, in"
    " the environment."
)
"""Where the credentials of an object store belong."""


def absolute_location(location: str | Path) -> str:
    """Return a URI unchanged and a path as absolute, with `~` expanded.

    Workers change directory per trial, so nothing relative may leave the driver.
    """
    text = str(location)
    if "://" in text and not text.startswith("file://"):
        return text
    return str(Path(text.removeprefix("file://")).expanduser().resolve())


def child_location(location: str, name: str) -> str:
    """Append a name to a path or to a URI's path, before any `?query` of the URI."""
    base, mark, query = location.partition("?") if "://" in location else (location, "", "")
    return f"{base.rstrip('/')}/{name}{mark}{query}"


def refuse_user_info(uri: str, key: str, remedy: str) -> None:
    """Refuse a URI with a user or password in it, as URIs end up in files, logs and trackers.

    Args:
        uri: a path or URI.
        key: where the user gave it.
        remedy: where the credentials belong instead.

    Raises:
        ConfigError: there is user information in it; the message shows none of it.
    """
    if _USER_INFO.search(uri):
        raise ConfigError(
            f"{key}: {redact(uri)} must not hold a user or a password, because it is written to"
            f" files and logs. {remedy}"
        )


def redact(text: str) -> str:
    """Return a text without the credentials that URIs and error messages may hold."""
    return _SECRET.sub(r"\1***", _USER_INFO.sub("***@", text))


def with_patience(action: Callable[[], _Result], place: str) -> _Result:
    """Return what an action on stored files returns, tried again while the storage fails.

    That a file is missing is an answer of the storage, not a failure, and is raised at once.

    Args:
        action: reads or writes; repeating it does no harm.
        place: what the error message names.

    Raises:
        FileNotFoundError: there is no such file.
        StorageError: the storage still fails after the last pause, or says that it is full or
            forbidden.
    """
    for pause in (*WAITS_S, None):
        try:
            return action()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise
        except OSError as error:
            if pause is None or error.errno in _LASTING:
                raise StorageError(
                    f"{redact(place)}: the storage fails: {redact(str(error))}. Nothing that was"
                    " written is lost; mend the storage, its permissions or the network, and go on"
                    " with `darts-ray resume`."
                ) from error
            time.sleep(pause)
    raise AssertionError("the last attempt returns or raises")
