"""Every shape that a study's record can have."""

from __future__ import annotations

from hypothesis import strategies as st

from darts_ray.space import zoo
from darts_ray.study.files.exported import Exported, Int8File, UnrolledFile
from darts_ray.study.files.record import (
    STAGES,
    Failure,
    Record,
    RetrainEntry,
    SearchEntry,
    StageState,
    Winner,
    cell_name,
)

CELLS = st.sampled_from([zoo["DARTS_V1"], zoo["DARTS_V2"]])
TEXTS = st.sampled_from(["-", "order=first", "<b>&"])
SEEDS = st.integers(0, 3)
SCORES = st.floats(0, 1)
MAYBE = st.none() | SCORES

METRICS = st.dictionaries(
    st.sampled_from(
        [
            "test_accuracy",
            "test_top5",
            "test_loss",
            "train_loss",
            "num_parameters",
            "multiply_adds",
        ]
    ),
    SCORES,
)
SEARCHES = st.builds(
    SearchEntry,
    trial=st.sampled_from(["a", "b", "c"]),
    setting=TEXTS,
    seed=SEEDS,
    genotype=CELLS,
    validation=MAYBE,
    num_skip=st.none() | SEEDS,
    num_parameters=st.integers(0, 10**7),
    epochs=st.integers(1, 50),
    select_scores=st.lists(SCORES, max_size=2).map(tuple),
)
WINNERS = st.builds(
    Winner,
    trial=st.none() | st.just("a"),
    setting=TEXTS,
    seed=st.none() | SEEDS,
    genotype=CELLS,
    reason=TEXTS,
)
INT8 = st.builds(
    Int8File,
    error=st.none() | TEXTS,
    file=st.none() | st.just("best-int8.onnx"),
    accuracy=MAYBE,
    float_accuracy=MAYBE,
)
EXPORTS = st.builds(
    Exported,
    file=st.just("best.onnx"),
    trial=TEXTS,
    seed=SEEDS,
    opset=st.just(20),
    tolerance=SCORES,
    max_difference=SCORES,
    batch_sizes=st.just((1, 2)),
    checked_on=TEXTS,
    size_bytes=SEEDS,
    int8=st.none() | INT8,
    unrolled=st.none() | st.builds(UnrolledFile, st.just("u.onnx"), SEEDS, SCORES),
    registered=st.none() | TEXTS,
    reason=TEXTS,
)
RECORDS = st.builds(
    Record,
    format=st.just(1),
    search=st.lists(SEARCHES, max_size=3).map(tuple),
    winner=st.none() | WINNERS,
    retrain=st.lists(
        st.builds(
            RetrainEntry,
            st.just("r"),
            SEEDS,
            st.none() | TEXTS,
            METRICS,
            st.sampled_from(["", *(cell_name(zoo[name]) for name in ("DARTS_V1", "DARTS_V2"))]),
        ),
        max_size=3,
    ).map(tuple),
    failed=st.lists(
        st.builds(Failure, st.sampled_from(STAGES), TEXTS, TEXTS, SEEDS, TEXTS), max_size=2
    ).map(tuple),
    stages=st.dictionaries(
        st.sampled_from(STAGES), st.builds(StageState, SCORES, SEEDS, st.booleans())
    ),
    export=st.none() | EXPORTS,
    settings=st.lists(TEXTS, max_size=2, unique=True).map(tuple),
)
