"""Every block of README and docs is loaded, read or executed, and every link leads somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from darts_ray.cli import app
from darts_ray.config import load_config
from darts_ray.config.methods import METHOD_CONFIGS
from darts_ray.search import methods
from tests.docs.blocks import PAGES, REPOSITORY, Block, blocks_of, darts_ray_words
from tests.docs.material import MATERIAL

BLOCKS = [block for page in PAGES for block in blocks_of(page)]
LONG = ("study", "search", "retrain", "resume", "bench")
RUN = [
    page
    for page in PAGES
    if any(
        block.page == page and block.language in ("console", "python") and block.mark != "not run"
        for block in BLOCKS
    )
]
# Partial configurations are shown in the docs; these are the smallest sections around them.
AROUND: Mapping[str, Any] = {"name": "example", "search": {}}
RETRAIN: Mapping[str, Any] = {"epochs": 1}


def is_long(page: str) -> bool:
    """Whether running a page's blocks starts Ray."""
    return any(
        "tune.Tuner" in block.text
        or any(
            words and words[0] in LONG
            for command in block.commands
            if (words := darts_ray_words(command))
        )
        for block in blocks_of(page)
        if block.mark != "not run" and block.language in ("console", "python")
    )


def named(blocks: list[Block]) -> Any:
    return pytest.mark.parametrize("block", blocks, ids=[block.place for block in blocks])


@named([block for block in BLOCKS if block.language == "yaml"])
def test_yaml_loads(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a whole configuration, or as sections of one."""
    values = yaml.safe_load(block.text)
    if "kind" in values and "apiVersion" in values:  # of Kubernetes
        return
    whole = values if "name" in values else {**AROUND, **values}
    if "export" in whole:
        whole = {"retrain": RETRAIN, **whole}
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(whole), encoding="utf-8")
    with modules_of(block.page, tmp_path, monkeypatch):
        load_config(file)


@contextmanager
def modules_of(page: str, folder: Path, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make the modules that a page has its reader write importable for the time of the block."""
    for block in blocks_of(page):
        if block.mark == "file" and block.language == "python":
            (folder / block.argument).write_text(block.text, encoding="utf-8")
    patch.syspath_prepend(folder)
    methods_before, modules_before = set(METHOD_CONFIGS), set(sys.modules)
    yield
    for name in set(METHOD_CONFIGS) - methods_before:
        methods.unregister(name)
    for name in set(sys.modules) - modules_before:
        if name.startswith("my_"):
            del sys.modules[name]


@named([block for block in BLOCKS if block.language == "console"])
def test_commands_exist(block: Block) -> None:
    """Options and arguments are those of the command line, also where nothing is executed."""
    root = typer.main.get_command(app)
    for command in block.commands:
        words = darts_ray_words(command)
        if words is None or not words:
            continue
        command_or_group: Any = root
        while words and hasattr(command_or_group, "commands") and "--help" not in words[:1]:
            name = words.pop(0)
            assert name in command_or_group.commands, command
            command_or_group = command_or_group.commands[name]
        if "--help" not in words:
            command_or_group.make_context(command, words)


def test_the_overview_names_every_command() -> None:
    text = PAGES["docs/index.md"].read_text(encoding="utf-8")
    commands: Any = typer.main.get_command(app)
    assert {name for name in commands.commands if f"`darts-ray {name}" not in text} == set()


@pytest.mark.parametrize("page", PAGES)
def test_relative_links_lead_somewhere(page: str) -> None:
    text = re.sub(r"```.*?```", "", PAGES[page].read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (PAGES[page].parent / path).resolve() if path else PAGES[page]
        assert file.exists(), f"{page}: {target}"
        if page.startswith("docs/"):  # mkdocs publishes this folder alone
            assert file.is_relative_to(REPOSITORY / "docs"), f"{page}: {target}"
        if anchor:
            assert anchor in _anchors(file), f"{page}: {target}"


@pytest.mark.parametrize("page", PAGES)
def test_files_that_are_named_exist(page: str) -> None:
    rooms = "darts_ray|tests|configs|pipelines|search|nn|space|data|config|study|tune|export"
    text = PAGES[page].read_text(encoding="utf-8")
    named = re.findall(rf"`((?:{rooms})/[\w/.-]+)`", text)
    missing = [
        path
        for path in named
        if "NAME" not in path
        and not (REPOSITORY / path).exists()
        and not (REPOSITORY / "darts_ray" / path).exists()
    ]
    assert missing == []


def _anchors(file: Path) -> set[str]:
    """Return the anchors that forges and mkdocs make of headings."""
    headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in plain}


def test_every_page_is_in_the_navigation_once() -> None:
    navigation = yaml.safe_load((REPOSITORY / ".mkdocs.yml").read_text())["nav"]
    listed = [page for entry in navigation for page in entry.values()]
    assert sorted(listed) == sorted(page.removeprefix("docs/") for page in PAGES if "/" in page)


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=[pytest.mark.slow] if is_long(page) else []) for page in RUN],
)
def test_the_blocks_of_a_page_run_in_their_order(page: str, tmp_path: Path) -> None:
    """In one folder, with the sizes of studies reduced."""
    for block in blocks_of(page):
        if block.mark == "needs":
            MATERIAL[block.argument](tmp_path)
        if block.mark == "file":
            (tmp_path / block.argument).write_text(block.text, encoding="utf-8")
        elif block.mark != "not run" and block.language == "python":
            _run([sys.executable, "-c", block.text], tmp_path, block.place)
        elif block.mark != "not run" and block.language == "console":
            for command in block.commands:
                if block.mark == "without" and command == block.argument:
                    continue
                shown = f"{command} {_smaller(command, tmp_path)}"
                _run(["bash", "-euo", "pipefail", "-c", shown], tmp_path, block.place)


def _smaller(command: str, folder: Path) -> str:
    """Return what makes a study take seconds; it goes behind the reader's own words."""
    words = darts_ray_words(command)
    if not words or words[0] not in ("study", "search", "retrain"):
        return ""
    config = yaml.safe_load((folder / words[1]).read_text(encoding="utf-8"))
    text = config.get("data", {}).get("source") in ("text", "english")
    chosen = [f"data.max_train={3000 if text else 128}", f"data.max_test={1000 if text else 30}"]
    chosen += ["seeds=[0]"]
    if "select" in config:  # the test from the wheel runs it
        chosen += ["select=null"]
    for section in ("search", "retrain"):
        if section in config:
            chosen += [f"{section}.epochs=1", f"{section}.max_steps=2", f"{section}.batch_size=8"]
    if "retrain" in config:
        chosen += ["retrain.seeds=[0]"]
    return " ".join(f"--set '{value}'" for value in chosen)


def _run(command: list[str], folder: Path, place: str) -> None:
    inherited = {key: value for key, value in os.environ.items() if key != "PYTHONWARNINGS"}
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=folder,
        env={
            **inherited,
            "HOME": str(folder),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": f"{folder}{os.pathsep}{REPOSITORY}",
        },
        timeout=300,
    )
    assert done.returncode == 0, f"{place}: {command[-1]}\n{done.stdout}\n{done.stderr[-3000:]}"
