"""Where the runs go: the embedded SQLite file, a client for it, and whether a server answers."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from filelock import FileLock

from darts_ray.errors import ConfigError, TrackingError
from darts_ray.location import redact

_SQLITE = "sqlite:///"
_ESCAPE = re.compile("%[0-9a-fA-F]{2}")  # what SQLAlchemy takes for another character

# Each may be set in the environment to something else. The queue in front of the client retries
# for as long as it takes; a client that retries too would only make every outage slower to notice.
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",  # INFO tells the terminal about database migrations
}


def sqlite_uri(folder: Path) -> str:
    """Return the tracking URI of the embedded store `mlflow.db` in a local folder.

    Raises:
        ConfigError: in a URI the folder's path would mean another one, and so would the file.
    """
    path = str(folder.resolve())
    if "?" in path or _ESCAPE.search(path):
        raise ConfigError(
            f"output: {path} holds a `?` or a `%` with two digits, and MLflow would put its SQLite"
            " file elsewhere. Choose another output, name a tracking server (tracking.uri), or set"
            " tracking.enabled=false."
        )
    return f"{_SQLITE}{folder.resolve() / 'mlflow.db'}"


def named_uri(configured: str | None) -> str | None:
    """Return the tracking URI of the configuration, else of MLFLOW_TRACKING_URI, else None."""
    return configured or os.environ.get("MLFLOW_TRACKING_URI") or None


def resolve_uri(uri: str) -> str:
    """Make the path of an SQLite URI absolute, as processes may change their directory."""
    if not uri.startswith(_SQLITE):
        return uri
    return f"{_SQLITE}{Path(uri.removeprefix(_SQLITE)).resolve()}"


def sqlite_folder(uri: str) -> Path | None:
    """Return the folder of an SQLite store; None for servers."""
    return Path(uri.removeprefix(_SQLITE)).parent if uri.startswith(_SQLITE) else None


def open_client(uri: str) -> Any:
    """Return an `MlflowClient`; mlflow is imported here, which takes seconds, and only here.

    The client is bound to `uri` for runs and models. The process-wide tracking URI and active run
    belong to the user and are neither read nor set.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    folder = sqlite_folder(uri)
    if folder is None:
        return MlflowClient(tracking_uri=uri, registry_uri=uri)
    folder.mkdir(parents=True, exist_ok=True)
    # why: whoever comes first makes the tables, and two at once spoil the file for good
    with FileLock(folder / ".mlflow.lock"):
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        client.search_experiments(max_results=1)
    return client


def check_server(uri: str) -> None:
    """Ask a named tracking server for one experiment; an SQLite file is made when it is needed.

    Raises:
        TrackingError: it does not answer, or mlflow does not know such a URI; the message names
            the URI and the remedy.
    """
    if sqlite_folder(uri) is not None:
        return
    try:
        open_client(uri).search_experiments(max_results=1)
    except Exception as error:  # mlflow raises whatever its store or HTTP library raises
        raise TrackingError(
            f"tracking.uri: {uri} does not answer ({brief(error)}). Start it (`mlflow server"
            " --host 0.0.0.0 --port 5000`), correct the URI, or leave tracking.uri out to track"
            f" into an SQLite file.{_proxy_hint(uri)}"
        ) from error


def _proxy_hint(uri: str) -> str:
    scheme = urlsplit(uri).scheme
    proxy = getproxies().get(scheme)
    host = urlsplit(uri).hostname or ""
    if scheme not in ("http", "https") or proxy is None or proxy_bypass(host):
        return ""
    return (
        f" It was asked through the proxy {redact(proxy)}; if that is wrong, set NO_PROXY={host}."
    )


def brief(error: BaseException) -> str:
    """Return the first line of an error's text, shortened to fit a log line."""
    lines = str(error).strip().splitlines() or [""]
    text = f"{type(error).__name__}: {lines[0]}"
    return text if len(text) <= 200 else f"{text[:197]}..."
