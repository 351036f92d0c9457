import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from darts_ray.errors import ExportError, PredictionError
from darts_ray.export import (
    ModelMetadata,
    OnnxLanguageModel,
    OnnxNetwork,
    benchmark_onnx,
    export_recurrent_onnx,
    load_proto,
    unroll_onnx,
    verify_recurrent_onnx,
)
from darts_ray.export.consumer.session import open_session
from darts_ray.export.onnx_file import sidecar
from darts_ray.nn import RecurrentNetwork
from darts_ray.space import zoo

VOCABULARY = tuple("abcdefghijk")


@dataclass(frozen=True)
class ExportedText:
    network: RecurrentNetwork
    path: Path


@pytest.fixture(scope="module")
def exported_text(tmp_path_factory: pytest.TempPathFactory) -> ExportedText:
    genotype = zoo["RECURRENT_DARTS_V2"]
    torch.manual_seed(0)
    network = RecurrentNetwork(genotype, len(VOCABULARY), embedding_dim=6, hidden_dim=6)
    for weight in network.parameters():
        torch.nn.init.normal_(weight)  # the paper's start is so small that all words are alike
    path = tmp_path_factory.mktemp("text") / "best.onnx"
    metadata = ModelMetadata(genotype.to_json(), VOCABULARY, layout="TB", value_range="", color="")
    export_recurrent_onnx(network, path, metadata=metadata)
    return ExportedText(network, path)


def test_export_agrees_with_torch_over_sequences(exported_text: ExportedText) -> None:
    tokens = torch.randint(0, len(VOCABULARY), (19, 8))
    result = verify_recurrent_onnx(exported_text.path, exported_text.network, tokens)
    assert result.batch_sizes == (1, 2, 7)
    assert 0 <= result.max_difference < 1e-5


@pytest.mark.parametrize("length", [1, 5, 40])
def test_one_file_reads_texts_of_any_length(exported_text: ExportedText, length: int) -> None:
    tokens = np.random.default_rng(0).integers(0, len(VOCABULARY), (length, 3))
    hidden = np.zeros((1, 3, 6), np.float32)
    session = open_session(exported_text.path)
    log_probs, last = session.run(None, {"tokens": tokens, "hidden": hidden})
    assert log_probs.shape == (length, 3, len(VOCABULARY))
    np.testing.assert_allclose(np.exp(log_probs).sum(-1), 1, atol=1e-5)
    # Word by word, with the hidden state carried by hand, gives the same.
    for word in range(length):
        feed = {"tokens": tokens[word : word + 1], "hidden": hidden}
        one, hidden = session.run(None, feed)
        np.testing.assert_allclose(one[0], log_probs[word], atol=1e-5)
    np.testing.assert_allclose(hidden, last, atol=1e-5)


@pytest.fixture(scope="module")
def unrolled(exported_text: ExportedText) -> Path:
    path = exported_text.path.with_name("best-unrolled.onnx")
    unroll_onnx(exported_text.path, path, 4)
    return path


def test_an_unrolled_file_has_no_loop_and_agrees_over_several_pieces(
    exported_text: ExportedText, unrolled: Path
) -> None:
    graph = load_proto(unrolled).graph
    assert not {node.op_type for node in graph.node} & {"Scan", "Loop", "If"}
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_value == 4
    once, again = (
        [
            t.name
            for t in load_proto(path).graph.initializer
            if t.data_type == onnx.TensorProto.FLOAT
        ]
        for path in (exported_text.path, unrolled)
    )
    assert again == once  # weights are in the file once
    tokens = torch.randint(0, len(VOCABULARY), (11, 8))  # two pieces of four, and a rest
    result = verify_recurrent_onnx(unrolled, exported_text.network, tokens)
    assert 0 <= result.max_difference < 1e-5
    with pytest.raises(ExportError, match="verifying needs 8 words, not 7"):
        verify_recurrent_onnx(unrolled, exported_text.network, tokens[:7])
    contract = json.loads(sidecar(unrolled))
    assert contract["inputs"]["tokens"] == [4, "batch"]


@pytest.mark.parametrize("words", [2, 4, 8, 13])
def test_an_unrolled_file_scores_texts_of_any_length(
    exported_text: ExportedText, unrolled: Path, words: int
) -> None:
    text = " ".join(np.random.default_rng(words).choice(list(VOCABULARY), words))
    expected = OnnxLanguageModel(exported_text.path).score(text)
    score = OnnxLanguageModel(unrolled).score(text)
    assert score.perplexity == pytest.approx(expected.perplexity, rel=1e-5)
    assert [w.label for w in score.next_words] == [w.label for w in expected.next_words]


def test_an_unrolled_file_takes_its_own_length_alone(unrolled: Path) -> None:
    model = OnnxLanguageModel(unrolled)
    assert model.length == 4
    with pytest.raises(PredictionError, match="takes 4 words per run, not 5"):
        model.run(np.zeros((5, 1), np.int64), model.initial_state())
    (timed,) = benchmark_onnx(unrolled, batch_sizes=(2,), seconds=0.01)
    assert timed.images_per_second > 0


def test_only_a_loop_can_be_unrolled(unrolled: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no language model with a loop"):
        unroll_onnx(unrolled, tmp_path / "again.onnx", 4)


def test_a_changed_weight_is_found(exported_text: ExportedText, tmp_path: Path) -> None:
    proto = load_proto(exported_text.path)
    weight = max(proto.graph.initializer, key=lambda tensor: int(np.prod(tensor.dims)))
    changed = numpy_helper.to_array(weight) * np.float32(1.01)
    weight.CopyFrom(numpy_helper.from_array(changed, weight.name))
    onnx.save_model(proto, str(tmp_path / "a.onnx"))
    tokens = torch.randint(0, len(VOCABULARY), (5, 7))
    with pytest.raises(ExportError, match="differ from torch"):
        verify_recurrent_onnx(tmp_path / "a.onnx", exported_text.network, tokens)


def test_it_is_no_image_network(exported_text: ExportedText) -> None:
    with pytest.raises(ExportError, match="no image network"):
        OnnxNetwork(exported_text.path)
