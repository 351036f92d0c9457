"""What made a trial fail, in one line: the innermost cause, not Ray's account of it."""

from __future__ import annotations

import re

from ray.exceptions import RayActorError, RayError, RayTaskError

from darts_ray import errors
from darts_ray.location import redact
from darts_ray.tune.failures.worker_death import explain_death

FINAL = (
    errors.ConfigError,
    errors.NonFiniteLossError,
    errors.CheckpointError,
    errors.StorageError,
)
"""What fails again when it is tried again from the same state."""

_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_NAMED = re.compile(
    r"(?:[A-Za-z_]\w*\.)*(?P<name>[A-Za-z_]\w*)(?::\s*(?P<message>.*))?", re.DOTALL
)


def explain_failure(error: BaseException | None) -> str:
    """Return the innermost cause of a trial's failure as `Kind: message`, without credentials."""
    if error is None:
        return "unknown error"
    kind, message = _kind_and_message(error)
    lines = [line.strip() for line in _ESCAPES.sub("", message).splitlines() if line.strip()]
    if _ours(kind) is None:
        lines = lines[:1]  # what other libraries add are stacks and advice of their own
    text = " ".join(lines) or "no message"
    return redact(f"{kind}: {text}" if kind else text)


def is_final(error: BaseException | None) -> bool:
    """Whether trying again from the same state would only fail again."""
    return _is_a(error, FINAL)


def is_of_storage(error: BaseException | None) -> bool:
    """Whether the storage of the study failed, and not the trial."""
    return _is_a(error, (errors.StorageError,))


def _is_a(error: BaseException | None, kinds: tuple[type[errors.DartsError], ...]) -> bool:
    kind = None if error is None else _ours(_kind_and_message(error)[0])
    return kind is not None and issubclass(kind, kinds)


def _ours(kind: str) -> type[errors.DartsError] | None:
    found = getattr(errors, kind, None)
    is_error = isinstance(found, type) and issubclass(found, errors.DartsError)
    return found if is_error else None


def _kind_and_message(error: BaseException) -> tuple[str, str]:
    cause = getattr(error, "cause", None)
    if isinstance(error, RayTaskError):
        # it may be that it could not be sent, only its traceback
        if cause is None or type(cause) is RayError:
            return _last_in_traceback(str(error))
        return _kind_and_message(cause)
    if isinstance(error, RayActorError):
        if error.actor_init_failed:
            return _last_in_traceback(str(error))
        return "", explain_death(_ESCAPES.sub("", str(error)))
    return type(error).__name__, str(error)


def _last_in_traceback(text: str) -> tuple[str, str]:
    """Return the kind and the message of the exception that a traceback ends with."""
    plain = _ESCAPES.sub("", text)
    lines = plain[plain.rfind('\n  File "') + 1 :].splitlines()
    after = next((i for i, line in enumerate(lines) if line and not line[0].isspace()), None)
    if after is None:
        return "", plain
    match = _NAMED.fullmatch("\n".join(lines[after:]))
    if match is None:
        return "", "\n".join(lines[after:])
    return match["name"], match["message"] or ""
