"""Configurations load, resolve and explain what is wrong."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darts_ray.config import StudyConfig, build_config, load_config, parse_yaml, to_yaml
from darts_ray.errors import ConfigError, DartsError

CONFIGS = Path(__file__).parents[3] / "configs"
STUDY = """
name: example
data: {source: digits}
seeds: [0, 1]
search:
  network: {channels: 4, layers: 2}
  optim:
    order: {grid: [first, unrolled]}
    weight_lr: 3e-4
    xi: {loguniform: [1e-3, 1e-1]}
select: {epochs: 2}
retrain: {seeds: [0, 1], network: {channels: 8}}
export: {}
"""


@pytest.fixture
def study_file(tmp_path: Path) -> Path:
    file = tmp_path / "study.yaml"
    file.write_text(STUDY)
    return file


def test_numbers_that_yaml_reads_as_text(study_file: Path) -> None:
    # PyYAML reads 3e-4 as a string; the models turn it into the number.
    config = load_config(study_file)
    trial = config.search_config({"optim.order": "first", "optim.xi": 0.01}, seed=1)
    assert trial.optim.weight_lr == 3e-4
    assert config.search_axes()["optim.xi"].values == (1e-3, 1e-1)


def test_sections_inherit_the_study_data(study_file: Path) -> None:
    config = load_config(study_file, ["data.split_seed=7"])
    assert config.search_config({"optim.order": "first", "optim.xi": 1}, 0).data.split_seed == 7
    assert config.retrain_config("DARTS_V1", 3).data.split_seed == 7
    assert config.select_config("DARTS_V1", 3).test_at_end is False


def test_resolved_yaml_loads_back_equal(study_file: Path) -> None:
    config = load_config(study_file)
    assert build_config(parse_yaml(to_yaml(config), "text"), "text") == config


def test_text_data_chooses_the_recurrent_space() -> None:
    config = build_config({"name": "t", "data": {"source": "english"}, "search": {}}, "text")
    trial = config.search_config({}, 0)
    assert trial.network.kind == "recurrent"
    assert trial.search_space().name == "recurrent"


def test_own_space_in_yaml() -> None:
    space = {"name": "mine", "primitives": ["skip_connect", "sep_conv_3x3"], "nodes": 2}
    config = build_config({"name": "t", "search": {"space": space}}, "text")
    assert config.search_config({}, 0).search_space().alpha_shapes["normal"][0] == 5


def test_own_operations_follow_the_cells_into_retraining() -> None:
    space = {"name": "mine", "primitives": ["skip_connect", "mine"], "imports": ["my_ops"]}
    values = {"name": "t", "search": {"space": space}, "select": {}, "retrain": {}}
    config = build_config(values, "text")
    assert config.retrain_config("DARTS_V1", 0).imports == ("my_ops",)
    assert config.select_config("DARTS_V1", 0).imports == ("my_ops",)


def test_own_operations_of_every_searched_space_follow() -> None:
    mine = {"name": "mine", "primitives": ["skip_connect", "mine"], "imports": ["my_ops"]}
    yours = {**mine, "name": "yours", "imports": ["your_ops", "my_ops"]}
    search = {"space": {"grid": ["darts", mine, yours]}}
    values = {"name": "t", "search": search, "select": {}, "retrain": {"imports": ["last"]}}
    config = build_config(values, "text")
    assert config.select_config("DARTS_V1", 0).imports == ("my_ops", "your_ops")
    assert config.retrain_config("DARTS_V1", 0).imports == ("my_ops", "your_ops", "last")
    # the same when only the list of modules is searched over
    inner = {"space": {**mine, "imports": {"grid": [["my_ops"], ["your_ops"]]}}}
    config = build_config({**values, "search": inner}, "text")
    assert config.select_config("DARTS_V1", 0).imports == ("my_ops", "your_ops")


def test_resolved_writes_the_search_defaults_out(study_file: Path) -> None:
    config = load_config(study_file)
    search = config.resolved().search
    assert search is not None
    assert search["batch_size"] == 64
    assert search["network"] == {"channels": 4, "layers": 2, "kind": "conv", "stem_multiplier": 3}
    assert search["optim"]["order"] == {"grid": ["first", "unrolled"]}
    # min(default 0.001, weight_lr), now that weight_lr is one number
    assert search["optim"]["weight_lr_min"] == 3e-4
    trial = config.search_config({"optim.order": "first", "optim.xi": 1.0}, 0)
    assert set(search) == set(trial.model_dump(exclude={"data", "seed"}))
    assert config.resolved().search_axes() == config.search_axes()
    assert config.resolved().resolved() == config.resolved()


def test_resolved_leaves_what_follows_an_axis(study_file: Path) -> None:
    override = "search.optim.weight_lr={grid: [0.1, 1e-4]}"
    search = load_config(study_file, [override]).resolved().search
    assert search is not None
    assert "weight_lr_min" not in search["optim"]
    given = [override, "search.optim.weight_lr_min=5e-5"]
    search = load_config(study_file, given).resolved().search
    assert search is not None
    assert search["optim"]["weight_lr_min"] == 5e-5


def test_a_study_without_search_is_resolved() -> None:
    config = build_config({"name": "t", "retrain": {"genotype": "DARTS_V1"}}, "text")
    assert config.resolved() == config


def test_int8_of_a_text_network_is_refused() -> None:
    values = {"name": "t", "data": {"source": "english"}, "search": {}, "retrain": {}}
    build_config({**values, "export": {}}, "text")
    with pytest.raises(ConfigError, match=r"export\.quantize: is for images"):
        build_config({**values, "export": {"quantize": True}}, "text")


def shipped_configs() -> list[Path]:
    return sorted(file for file in CONFIGS.rglob("*.yaml") if file.parent != CONFIGS / "cluster")


@pytest.mark.parametrize("file", shipped_configs(), ids=lambda f: str(f.relative_to(CONFIGS)))
def test_shipped_configs_load(file: Path) -> None:
    assert isinstance(load_config(file), StudyConfig)


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("serch.epochs=1", "serch: unknown key. Did you mean 'search'?"),
        ("data.soruce=digits", "data.soruce: unknown key. Did you mean 'source'?"),
        ("search.optim.weight_rl=1", "search.optim.weight_rl: unknown key. Did you mean"),
        ("search.network.chanels=4", "search.network.chanels: unknown key"),
        ("retrain.network.chanels=4", "retrain.network.chanels: unknown key"),
        ("search.epochs=many", "search.epochs: Input should be a valid integer"),
        ("search.epochs=0", "search.epochs: Input should be greater than or equal to 1"),
        ("search.optim.weight_lr=.nan", "search.optim.weight_lr"),
        ("search.optim.order={grid: [first, third]}", "search.optim.order"),
        ("search.optim.xi={loguniform: [0, 1]}", "search.optim.xi.loguniform: needs 0 < low"),
        ("search.optim.xi={grid: []}", "search.optim.xi.grid: must be a list"),
        ("search.space=unknown", "search.space: No search space is named 'unknown'"),
        ("search.seed=1", "search.seed: give 'seeds' at the top level"),
        ("search.batch_size=0", "search.batch_size"),
        ("seeds=[1, 1]", "seeds: a seed is listed twice"),
        ("seeds=[]", "seeds"),
        ("retrain.seeds=[0, 0]", "retrain.seeds: a seed is listed twice"),
        ("select.seeds=[1, 2, 1]", "select.seeds: a seed is listed twice"),
        ("search.data.split_seed=1", "search.data: give 'data' at the top level"),
        ("select.data.split_seed=1", "select.data: give 'data' at the top level"),
        ("retrain.data={}", "retrain.data: give 'data' at the top level"),
        ("name=../escape", "name"),
        ("data={source: cifar10}", "data: path: the source 'cifar10' needs the folder"),
        ("retrain.genotype=DARTS_V3", "retrain.genotype: No published cell is named 'DARTS_V3'"),
        ("retrain.genotype=ENAS", "does not fit a conv network"),
        ("retrain=null", "export: needs a retrain section"),
        ("name", "--set name: must look like"),
        ("name.x=1", "'name' is a value, not a section"),
    ],
)
def test_bad_values_name_place_and_remedy(study_file: Path, override: str, part: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(study_file, [override])
    assert part in str(caught.value)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("name: a\nsearch: {epochs: 1\nseeds: [0]\n", "line 3"),
        ("name: a\nname: b\n", "line 2: not valid YAML: the key 'name' is given twice"),
        ("- just\n- a list\n", "must hold keys and values"),
        ("name: !!python/object/apply:os.system ['true']\n", "not valid YAML"),
        ("1: 2\n", "is not text"),
    ],
)
def test_unparsable_yaml_names_the_line(tmp_path: Path, text: str, part: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert part in str(caught.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot be read"):
        load_config(tmp_path / "nowhere.yaml")


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["grid", "first", "digits", "darts", "DARTS_V1", "conv", "recurrent"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "grid",
                    "choice",
                    "uniform",
                    "loguniform",
                    "kind",
                    "source",
                    "optim",
                    "network",
                    "space",
                    "order",
                    "xi",
                    "seeds",
                    "genotype",
                    "epochs",
                    "primitives",
                    "name",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@settings(max_examples=500, deadline=None)
@given(
    st.dictionaries(st.sampled_from([*StudyConfig.model_fields, "junk"]), JUNK, max_size=5).map(
        lambda values: {"name": "n", "search": {}, **values}
    )
)
def test_any_values_load_or_raise_a_darts_error(values: dict[str, object]) -> None:
    try:
        config = build_config(values, "values")
    except DartsError:
        return
    assert build_config(parse_yaml(to_yaml(config), "text"), "text") == config
    resolved = config.resolved()
    assert build_config(parse_yaml(to_yaml(resolved), "text"), "text") == resolved


def write_study(folder: Path, content: str | bytes) -> Path:
    file = folder / "written.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def test_merge_keys_bring_a_sections_values(tmp_path: Path) -> None:
    text = """
name: merged
search: {network: &small {channels: 4, layers: 3}, epochs: 1}
select: {network: {<<: *small, auxiliary: false, layers: 4}}
"""
    config = load_config(write_study(tmp_path, text))
    assert config.select is not None
    network = config.select_config("DARTS_V1", 0).network
    assert (network.channels, network.layers, network.auxiliary) == (4, 4, False)
    assert config.search_config({}, 0).network.layers == 3


def test_of_several_merged_sections_the_first_wins() -> None:
    text = """
one: &one {epochs: 1}
two: &two {<<: *one, epochs: 2, layers: 2}
all: {<<: [*two, *one], channels: 3}
chain: {<<: *two}
"""
    values = parse_yaml(text, "text")
    assert values["all"] == {"epochs": 2, "layers": 2, "channels": 3}
    assert values["chain"] == {"epochs": 2, "layers": 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: {<<: 3}", "<< takes one section"),
        ("a: {<<: [{b: 1}, 2]}", "<< takes one section"),
        ("a: {<<: {b: 1}, <<: {c: 1}}", "'<<' is given twice"),
        ("a: &a {<<: *a}", "not valid YAML"),
        ("a: &a {b: *a}", "not valid YAML"),
        ("a: {<<: {b: 1}, c: 1, c: 2}", "'c' is given twice"),
    ],
)
def test_wrong_merges_and_circles_are_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_yaml(text, "text")


def test_an_override_changes_one_of_the_places_that_share_an_anchor(tmp_path: Path) -> None:
    text = "name: s\nsearch: {}\nselect: {network: &n {channels: 4}}\nretrain: {network: *n}\n"
    config = load_config(write_study(tmp_path, text), ["retrain.network.channels=9"])
    assert config.select_config("DARTS_V1", 0).network.channels == 4
    assert config.retrain_config("DARTS_V1", 0).network.channels == 9


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_tells_the_encoding(tmp_path: Path, encoding: str) -> None:
    file = write_study(tmp_path, "name: study\noutput: läufe\nsearch: {}\n".encode(encoding))
    config = load_config(file)
    assert (config.name, config.output) == ("study", "läufe")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "latin-1"])
def test_an_encoding_that_the_file_does_not_tell_is_refused(tmp_path: Path, encoding: str) -> None:
    file = write_study(tmp_path, "name: study\noutput: läufe\n".encode(encoding))
    with pytest.raises(ConfigError, match=r"written.yaml: .*convert it"):
        load_config(file)


@pytest.mark.parametrize("output", ["runs #1", "#1", "runs # 1 # 2", "a#b"])
def test_a_number_sign_on_the_command_line_begins_no_comment(
    study_file: Path, output: str
) -> None:
    assert load_config(study_file, [f"output={output}"]).output == output


def test_a_comment_behind_a_list_or_quotes_is_refused(study_file: Path) -> None:
    for value in ("[0, 1] # two", "'runs' #1"):
        with pytest.raises(ConfigError, match="would be lost"):
            load_config(study_file, [f"seeds={value}"])


@pytest.mark.parametrize(
    "place",
    ["seeds=[SEED]", "select.seeds=[SEED]", "retrain.seeds=[SEED]", "data.split_seed=SEED"],
)
def test_seeds_are_bounded(study_file: Path, place: str) -> None:
    load_config(study_file, [place.replace("SEED", str(2**63 - 1))])
    for seed in (2**63, 2**64, 2**70, -1):
        with pytest.raises(ConfigError, match=r"should be (less|greater) than"):
            load_config(study_file, [place.replace("SEED", str(seed))])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seeds=10", "seeds: write a list such as"),
        ("resources.gpus_per_trial=2", "gpus_per_trial: a trial uses one GPU"),
        ("tune.scheduler=pbt", "tune.scheduler: pbt changes learning rates in mid-run"),
        ("tune.searcher=optuna", "tune.searcher: optuna needs at least one axis"),
        (
            "tracking.uri=http://me:hush@host",
            r"uri: http://\*\*\*@host .*MLFLOW_TRACK",
        ),
        ("output=s3://key:hush@bucket/x", r"output: s3://\*\*\*@bucket/x .*AWS_SECRET_ACCESS_KEY"),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_read(
    override: str, message: str, tmp_path: Path
) -> None:
    file = tmp_path / "study.yaml"
    file.write_text("name: s\nsearch: {epochs: 1}\n")
    with pytest.raises(ConfigError, match=message) as error:
        load_config(file, [override])
    assert "hush" not in str(error.value)
