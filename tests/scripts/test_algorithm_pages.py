"""docs/algorithms: every preset has a page, what is generated is up to date, commands can be run, curves are drawn."""

import importlib
import json
import re
import shlex

import pytest
import tyro
from daily import daily
from helpers import ROOT, run_in_process
from rich.console import Console

import rl
from rl.core import registry

PAGES = sorted((ROOT / "docs" / "algorithms").glob("*.md"))
FENCE = re.compile(r"^```\n(.*?)^```$", re.M | re.S)
COMMANDS = [
    (page.stem, line)
    for page in PAGES
    for block in FENCE.findall(page.read_text())
    for line in block.splitlines()
    if line.startswith("python ")
]
SECTIONS = ("## The update", "## Run it", "## Deviations", "## Common mistakes")


@pytest.fixture(autouse=True)
def in_scripts(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")


@pytest.fixture
def tool():
    return importlib.import_module("tools.algorithm_pages")


@pytest.fixture
def curves():
    return importlib.import_module("comparisons.curves")


def test_every_preset_is_found_and_run_on_a_page():
    index = (ROOT / "docs" / "algorithms" / "index.md").read_text()
    rows = {
        name: row for row in index.splitlines() for name in re.findall(r"`([a-z0-9-]+)`", row) if row.startswith("| [")
    }
    assert {*rl.presets()} <= rows.keys()
    for name, row in rows.items():
        page = (ROOT / "docs" / "algorithms" / re.search(r"\]\((.*?)\)", row)[1]).read_text()
        assert f"`{name}`" in page or f"--agent {name} " in page, name


@pytest.mark.parametrize("page", [page for page in PAGES if page.stem != "index"], ids=lambda page: page.stem)
def test_a_page_has_all_its_parts_and_is_in_the_navigation(page):
    text = page.read_text()
    missing = [head for head in SECTIONS if head not in text]
    assert not missing
    assert "## Settings" in text
    assert "<!-- curve: " in text
    assert text.count("```text") >= 2  # equation and pseudo-code
    assert f"algorithms/{page.name}" in (ROOT / "mkdocs.yml").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_is_generated_is_up_to_date(page, tool):
    """If this fails, run python scripts/tools/algorithm_pages.py."""
    assert page.read_text() == tool.filled(page.read_text())


def test_every_reason_is_of_a_default_that_there_is(tool):
    agents = registry.presets()
    places = {(tool.owner(type(agent), name), name) for agent in agents.values() for name in vars(agent)}
    places |= {(preset, name) for preset in agents for name in tool.changed(preset)}
    places |= {
        (part, name)
        for part in ("Atoms", "Quantiles", "ImplicitQuantiles", "Munchausen")
        for name in vars(getattr(rl, part)())
    }
    assert {(kind, name) for kind, lines in tool.reasons().items() for name in lines} == places


def test_a_table_cannot_break_on_what_a_text_holds(tool):
    assert tool.plain("a | b, x**2, `q | r**2`, <i>") == r"a \| b, x\*\*2, `q | r**2`, \<i>"


FIRST = {page: (page, command) for page, command in reversed(COMMANDS)}.values()


@pytest.mark.parametrize(
    ("page", "command"), daily(COMMANDS, FIRST), ids=[f"{page}-{i}" for i, (page, _) in enumerate(COMMANDS)]
)
def test_the_commands_can_be_run(page, command, tmp_path):
    """By the real command line: `--show-settings` checks the environment and the agent, and trains nothing."""
    _, script, *words = shlex.split(command)
    name = script.removeprefix("scripts/")
    if name == "train_frozenlake.py":
        settings = importlib.import_module("train_frozenlake")
        flags = importlib.import_module("cli.flags")
        agent = flags.named(words, "agent", settings.Settings.agent)
        assert flags.read(settings.Settings, rl.presets(), agent, words)[0].agent == agent
    else:
        assert name == "train.py"
        assert "--agent" in words
        if words[0].startswith("LunarLander"):
            pytest.importorskip("Box2D")
        run_in_process(name, *words, "--show-settings", cwd=tmp_path)
        importlib.import_module("cli.common").parse_seeds(tuple(words[words.index("--seeds") + 1].split()))


def test_a_command_that_cannot_be_run_is_noticed(tmp_path):
    with pytest.raises(AssertionError, match="--n is not a setting of q-learning"):
        run_in_process(
            "train.py", "FrozenLake-v1", "--agent", "q-learning", "--n", "3", "--show-settings", cwd=tmp_path
        )


def test_the_commands_that_draw_are_understood(tool, curves):
    compare = importlib.import_module("compare")
    for name in (*curves.TABULAR, *curves.DEEP, curves.MEMORY[0]):
        words = shlex.split(curves.command(name))[2:]
        assert tyro.cli(tool.Settings, args=words).curves in (None, (name,))
    for name in (*curves.DEEP, curves.MEMORY[0]):
        assert tyro.cli(compare.Settings, args=shlex.split(curves.comparison(name))[2:]).what in {"deep", "memory"}


def test_every_tabular_curve_is_drawn_and_every_picture_is_shown(tool, curves):
    shown = {name for page in PAGES for name in re.findall(r"<!-- curve: (.*?) -->", page.read_text())}
    assert shown == {*curves.TABULAR, *curves.DEEP, curves.MEMORY[0]}
    record = tool.recorded()
    assert {*curves.TABULAR} <= record.keys() <= shown
    pictures = {path.stem for path in (ROOT / "docs" / "pictures" / "algorithms").glob("*.png")}
    assert pictures == record.keys()


def test_a_curve_that_is_not_drawn_says_how(tool, monkeypatch):
    monkeypatch.setattr(tool, "recorded", dict)
    assert tool.curve("q-learning").endswith("`python scripts/tools/algorithm_pages.py --curves q-learning` draws it.*")
    assert "from the folder of `python scripts/compare.py deep`" in tool.curve("c51")
    assert "![" not in tool.curve("c51")


def test_a_curve_is_trained_and_drawn_beside_the_optimum(curves, monkeypatch):
    few = curves.Curve("FrozenLake-v1", 400, curves.of("q-learning", "sarsa"), "Few steps.", points=2, digits=4)
    monkeypatch.setitem(curves.TABULAR, "few", few)
    drawn = curves.trained("few", 2, Console(quiet=True))
    assert drawn.png.startswith(b"\x89PNG")
    assert drawn.caption.startswith("Few steps. Mean over 2 seeds")
    assert "400 steps per seed; at the end: q-learning 0." in drawn.caption
    one = {"stationary": 0.74, "promised": 0.73, "best": 0.744}
    assert curves._optima({"a": one}) == ((0.74, "optimum"), (0.73, "best while exploring"))


def test_deep_curves_are_drawn_from_a_comparison_and_missing_cells_are_named(curves, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(curves, "DEEP_CELL", ("CartPole-v1", 300))
    monkeypatch.setattr(curves.deep, "SEEDS", range(100, 102))
    words = ("--steps", 300, "--seeds", 2, "--first-seed", 100, "--workers", 1, "--episodes", 2, "--logdir", "run")
    run_in_process("compare.py", "deep", *words, "--agents", "q-network", "--envs", "CartPole-v1", cwd=tmp_path)
    drawn = curves.compared(tmp_path / "run", Console())
    said = capsys.readouterr().out
    assert list(drawn) == ["dqn"]
    assert "q-network" in drawn["dqn"].alt
    assert "dqn: missing in" in said
    assert "c51: missing in" in said
    found = curves.read(
        tmp_path / "run" / "CartPole-v1-300" / "q-network", curves.Cell("CartPole-v1", 300, "q-network")
    )
    assert found["steps"] == [60, 120, 180, 240, 300]
    assert [len(row) for row in found["values"]] == [2] * 5
    (tmp_path / "cells").mkdir()
    with pytest.raises(
        ValueError, match=r"has no curves of t-maze: `python scripts/compare\.py memory --panels t-maze`"
    ):
        curves.drawn_from(tmp_path, Console())


def test_curves_of_memory_are_drawn_from_its_cells(curves, tmp_path):
    (tmp_path / "cells").mkdir()
    for agent, end in (("Q-learning", 0.5), ("DRQN", 1.0)):
        cell = {"steps": [10, 20], "values": [[0.0, 0.2], [end, end]]}
        (tmp_path / "cells" / f"t-maze_{agent}.json").write_text(json.dumps(cell))
    (drawn,) = curves.drawn_from(tmp_path, Console()).values()
    assert drawn.png.startswith(b"\x89PNG")
    assert "at the end: DRQN 1.000 [1.000, 1.000]; Q-learning 0.500 [0.500, 0.500]" in drawn.caption


def test_an_agent_that_knows_the_way_arrives_more_often_once_the_shortcut_opens(curves):
    before, after = 3_000 // 16, 3_000 // 10  # steps of each way
    assert (curves.arrivals(3_000), curves.arrivals(6_000)) == (before, before + after)
