from pathlib import Path

import pytest
import torch

from darts_ray.config import DataConfig
from darts_ray.data import TextData, open_data, open_text
from darts_ray.errors import DataError
from tests.data.files import write_text

WIKITEXT = Path(__file__).parents[4] / "shared" / "data" / "wikitext-2"


def opened(folder: Path, **settings: int) -> TextData:
    return open_text(DataConfig(source="text", path=str(folder), **settings))


def words(data: TextData, tokens: torch.Tensor) -> list[str]:
    return [data.info.vocabulary[token] for token in tokens]


def test_words_are_numbered_in_order_of_appearance(tmp_path: Path) -> None:
    folder = write_text(tmp_path, train="the cat\n\n the dog \n", valid="a cat", test="a dog\n")
    data = opened(folder)
    assert data.info.vocabulary == ("the", "cat", "<eos>", "dog", "a")
    # Every line ends in <eos>, an empty one too, as in the original code.
    assert data.train.tolist() == [0, 1, 2, 2, 0, 3, 2]
    assert data.valid.tolist() == [4, 1, 2]
    assert data.open_test().tolist() == [4, 3, 2]
    assert data.train.dtype == data.valid.dtype == data.open_test().dtype == torch.int64
    assert (data.info.vocab_size, data.info.num_train, data.info.num_valid) == (5, 7, 3)


def test_only_newlines_end_a_line(tmp_path: Path) -> None:
    # WikiText holds such separators inside lines; Python's splitlines would cut there.
    folder = write_text(tmp_path, train="one\x85two\u2028three\n", valid="one\n")
    assert words(opened(folder), opened(folder).train) == ["one", "two", "three", "<eos>"]


def test_unknown_test_words_become_the_unknown_word(tmp_path: Path) -> None:
    folder = write_text(tmp_path, train="a <unk> b\n", valid="b\n", test="a new b\n")
    data = opened(folder)
    assert words(data, data.open_test()) == ["a", "<unk>", "b", "<eos>"]


def test_without_an_unknown_word_they_are_an_error(tmp_path: Path) -> None:
    folder = write_text(tmp_path, train="a b\n", valid="b\n", test="a new b\n")
    with pytest.raises(DataError, match=r"Word 1 of the test text, 'new'.*<unk>"):
        opened(folder).open_test()


def test_maxima_cut_tokens_but_not_the_vocabulary(tmp_path: Path) -> None:
    folder = write_text(tmp_path, train="a b c d\n", valid="a\n", test="a b c\n")
    data = opened(folder, max_train=2, max_test=1)
    assert (len(data.train), data.info.num_train, len(data.open_test())) == (2, 2, 1)
    assert data.info.vocab_size == 5


def test_fingerprint_follows_the_content_not_the_path(tmp_path: Path) -> None:
    same = [write_text(tmp_path / name, train="a b\n", valid="b\n") for name in "xy"]
    other = write_text(tmp_path / "z", train="a\n", valid="b b\n")
    prints = [opened(folder).info.fingerprint for folder in (*same, other)]
    assert prints[0] == prints[1] != prints[2]


def test_test_text_is_only_opened_on_request(tmp_path: Path) -> None:
    data = opened(write_text(tmp_path, train="a b\n", valid="b\n"))
    with pytest.raises(DataError, match=r"test.txt: cannot be read"):
        data.open_test()
    with pytest.raises(DataError, match=r"test.txt: cannot be read"):
        data.check_test()
    write_text(tmp_path, test="b a\n")
    assert data.check_test() == 3
    assert data.open_test().tolist() == [1, 0, 2]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({}, r"train.txt: cannot be read: No such file.*train.txt, valid.txt and test.txt"),
        ({"train": "a\n"}, r"valid.txt: cannot be read"),
        ({"train": "", "valid": "a\n"}, r"train.txt: holds no words"),
        ({"train": "a\n", "valid": "\n \n"}, r"valid.txt: holds no words"),
    ],
)
def test_missing_and_empty_files(tmp_path: Path, parts: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        opened(write_text(tmp_path, **parts))


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    write_text(tmp_path, valid="a\n")
    (tmp_path / "train.txt").write_bytes(b"caf\xe9 \xff\n")
    with pytest.raises(DataError, match=r"train.txt: byte 3 is not UTF-8"):
        opened(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_is_no_part_of_the_first_word(tmp_path: Path, encoding: str) -> None:
    write_text(tmp_path, valid="the\n", test="the\n")
    (tmp_path / "train.txt").write_bytes("the cat\r\nthe dog\r\n".encode(encoding))
    data = opened(tmp_path)
    assert data.info.vocabulary == ("the", "cat", "<eos>", "dog")
    assert data.train.tolist() == [0, 1, 2, 0, 3, 2]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_without_a_mark_is_refused(tmp_path: Path, encoding: str) -> None:
    write_text(tmp_path, valid="the\n")
    (tmp_path / "train.txt").write_bytes("the cat\n".encode(encoding))
    with pytest.raises(DataError, match=r"train.txt: .*byte order mark.*iconv"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x1f\x8b\x08\0" * 9, "gunzip"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"<!DOCTYPE html><p>Sign in", "an HTML page"),
    ],
)
def test_other_files_are_no_texts(tmp_path: Path, content: bytes, message: str) -> None:
    write_text(tmp_path, valid="the\n")
    (tmp_path / "train.txt").write_bytes(content)
    with pytest.raises(DataError, match=f"train.txt: is .*{message}"):
        opened(tmp_path)


def test_english_is_a_connected_text_with_three_parts() -> None:
    data = open_data(DataConfig(source="english"))
    assert isinstance(data, TextData)
    test = data.open_test()
    assert data.info.num_train > 6 * data.info.num_valid > 0
    assert data.info.num_train > 6 * len(test) > 0
    assert 1000 < data.info.vocab_size < 5000
    counts = torch.bincount(data.train, minlength=data.info.vocab_size)
    assert counts.min() >= 3  # rarer words are <unk>
    share = (test == data.info.vocabulary.index("<unk>")).double().mean()
    assert share < 0.15
    # No long stretch of the test text also stands in the training text.
    train = " ".join(words(data, data.train))
    stretches = [" ".join(words(data, piece)) for piece in test.split(40)[:-1]]
    assert sum(stretch in train for stretch in stretches) < len(stretches) / 20


@pytest.mark.skipif(not WIKITEXT.exists(), reason="shared data are not here")
def test_wikitext(tmp_path: Path) -> None:
    lines = (WIKITEXT / "valid.txt").read_text(encoding="utf-8").splitlines(keepends=True)
    write_text(tmp_path, train="".join(lines[:2000]), valid="".join(lines[2000:]))
    data = opened(tmp_path)
    # 217,646 tokens is the size of WikiText-2's validation part (Merity et al. 2016), which
    # counts an end mark per line.
    assert data.info.num_train + data.info.num_valid == 217_646
