"""What Ray takes from the environment: its folder, its token, variables it no longer knows."""

from __future__ import annotations

import logging
import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

from darts_ray.errors import ResourceError

SOCKET_BYTES = 107
"""The longest path of a Unix socket on Linux."""

SOCKET = "ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
"""Where, below its folder, Ray puts the socket with the longest name."""

SHORT_FOLDER = Path("/tmp")
RETIRED_BY_TUNE = ("TUNE_RESULT_DIR", "RAY_AIR_LOCAL_CACHE_DIR")

logger = logging.getLogger("darts_ray.tune")


def folder_for_ray() -> Path:
    """Return the folder that an embedded Ray keeps its session in, as RAY_TMPDIR or TMPDIR say.

    Raises:
        ResourceError: the folder cannot be written, or RAY_TMPDIR is too long a path.
    """
    name = next((name for name in ("RAY_TMPDIR", "TMPDIR") if os.environ.get(name)), None)
    folder = Path(os.environ[name]).absolute() if name else SHORT_FOLDER
    if len(os.fsencode(folder / SOCKET)) > SOCKET_BYTES:
        if name == "RAY_TMPDIR":
            raise ResourceError(
                f"RAY_TMPDIR: {folder} is too long a path; Ray makes sockets below it, whose paths"
                f" may have {SOCKET_BYTES} bytes. Set RAY_TMPDIR to a path of at most"
                f" {SOCKET_BYTES - len(SOCKET) - 1} bytes."
            )
        logger.warning(
            "%s: %s is too long a path for Ray's sockets; Ray's session goes to %s instead"
            " (RAY_TMPDIR chooses another folder)",
            *(name, folder, SHORT_FOLDER),
        )
        name, folder = None, SHORT_FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ResourceError(
            f"{name or 'RAY_TMPDIR'}: {folder} cannot be written ({error.strerror}), and Ray needs"
            " a folder for its session. Set RAY_TMPDIR to a folder that can."
        ) from error
    return folder


def has_token() -> bool:
    """Whether Ray would find a token to show to a cluster."""
    if "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ:
        return True
    return Path("~/.ray/auth_token").expanduser().exists()


def token_variables(address: str | None) -> dict[str, str]:
    """Return the environment that makes Ray use a token, where it should.

    A cluster that asks for no token accepts one, so one that is there is always shown. An
    embedded Ray gets a token of its own, from the environment: Ray would write one to
    ~/.ray/auth_token, which turns the authentication of every later cluster on.

    Args:
        address: of the cluster; None for an embedded Ray.
    """
    mode = os.environ.get("RAY_AUTH_MODE")
    if mode is not None and mode.lower() != "token":
        return {}
    if address is None:
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": _own_token()}
    return {"RAY_AUTH_MODE": "token"} if has_token() else {}


@cache
def _own_token() -> str:
    return secrets.token_hex(32)


@contextmanager
def ray_environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables for the time of the block, and hide those that Tune refuses to run with."""
    retired = [name for name in RETIRED_BY_TUNE if os.environ.get(name)]
    for name in retired:
        logger.warning("%s is set and has no effect: files go to the study's folder", name)
    before = {name: os.environ.get(name) for name in (*variables, *retired)}
    for name in retired:
        del os.environ[name]
    os.environ.update(variables)
    if variables:
        _read_again()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if variables:
            _read_again()


def _read_again() -> None:
    """Make Ray look at the environment anew; a process keeps mode and token of its first Ray."""
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()
