from __future__ import annotations

import errno

import pytest

from darts_ray import location
from darts_ray.errors import ConfigError, StorageError
from darts_ray.location import redact, refuse_user_info, with_patience


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made; none takes any time."""
    made: list[float] = []
    monkeypatch.setattr(location.time, "sleep", made.append)
    return made


def test_a_storage_that_recovers_has_done_no_harm(pauses: list[float]) -> None:
    failures = [OSError("AWS Error SLOW_DOWN"), OSError(errno.ESTALE, "Stale file handle")]

    def read() -> str:
        if failures:
            raise failures.pop()
        return "content"

    assert with_patience(read, "s3://bucket/file") == "content"
    assert pauses == [0.5, 2.0]


def test_a_storage_that_stays_away_is_one_error(pauses: list[float]) -> None:
    def read() -> str:
        raise OSError("AWS Error ACCESS_DENIED for http://user:pass@store/x")

    with pytest.raises(StorageError, match=r"s3://b/file: the storage fails.*resume") as error:
        with_patience(read, "s3://b/file")
    assert "pass" not in str(error.value)
    assert pauses == list(location.WAITS_S)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_what_does_not_pass_is_not_waited_for(number: int, pauses: list[float]) -> None:
    def write() -> None:
        raise OSError(number, "no")

    with pytest.raises(StorageError):
        with_patience(write, "/disk")
    assert pauses == []


def test_a_missing_file_is_an_answer(pauses: list[float]) -> None:
    def read() -> None:
        raise FileNotFoundError("file")

    with pytest.raises(FileNotFoundError):
        with_patience(read, "/disk/file")
    assert pauses == []


@pytest.mark.parametrize(
    "uri", ["http://me:word@host/x", "https://token@host", "s3://key:secret@bucket/runs?a=b"]
)
def test_credentials_in_uris_are_refused_without_showing_them(uri: str) -> None:
    with pytest.raises(ConfigError, match=r"place: \w+://\*\*\*@.*Set VARIABLE\.") as error:
        refuse_user_info(uri, "place", "Set VARIABLE.")
    for secret in ("word", "token", "secret"):
        assert f"{secret}@" not in str(error.value)


@pytest.mark.parametrize("uri", ["/a@b/c", "http://host/a@b", "sqlite:////x", "s3://b/x?y=a@b"])
def test_other_locations_pass(uri: str) -> None:
    refuse_user_info(uri, "place", "")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("GET https://me:word@host/p failed", "GET https://***@host/p failed"),
        ("password='word', user=me", "password='***', user=me"),
        ('{"aws_secret_access_key": "word"}', '{"aws_secret_access_key": "***"}'),
        ("Authorization: Bearer word.word", "Authorization: Bearer ***"),
        ("?token=word&x=1", "?token=***&x=1"),
        ("seed 1 always fails", "seed 1 always fails"),
        ("12 tokens: a b", "12 tokens: a b"),
    ],
)
def test_texts_lose_their_credentials(text: str, shown: str) -> None:
    assert redact(text) == shown
