"""What the site is made of: lists that are lists, pictures that are there, public names under their public paths."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

import envs
import rl
import supervised

ROOT = Path(__file__).parent.parent
PAGES = [
    *sorted((ROOT / "docs").rglob("*.md")),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
]
ITEM = re.compile(r"\s*([-*+]|\d+\.)\s")


def swallowed(text):
    """The numbers of lines that Python-Markdown reads in another way than GitHub.

    A list wants an empty line above it, else it belongs to the paragraph there; what stands below an empty line belongs to an
    item if four spaces stand in front of it.
    """
    found, before, code, listed = [], "", False, False
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("```"):
            code = not code
        joined = ITEM.match(line) and not listed and before.strip() and not before.startswith(("#", "<!--", "```"))
        outside = re.match(" {1,3}[^ ]", line) and not ITEM.match(line) and not before.strip()
        if not code and (joined or outside):
            found.append(number)
        listed = (listed and bool(line.strip())) or bool(ITEM.match(line))
        listed = listed or (line.startswith(" ") and not code)  # goes on with an item
        before = line
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_lists_are_lists_and_pictures_are_there(page):
    text = page.read_text()
    assert not swallowed(text)
    for target in re.findall(r"!\[[^]]*\]\(([^)#]+)\)", text):
        assert (page.parent / target).is_file(), target


def test_a_list_that_would_be_a_paragraph_is_found():
    assert swallowed("Text:\n- one\n- two\n") == [2]
    assert swallowed("Text:\n1. one\n") == [2]
    assert swallowed("1. one\n\n   not in the item\n\n    in it\n") == [3]
    assert swallowed("Text:\n\n- one\n  more\n- two\n\n# Head\n- three\n```\na\n- no list\n```\n") == []


@pytest.mark.parametrize("package", [rl, supervised, envs], ids=lambda package: package.__name__)
def test_every_public_method_has_a_docstring(package):
    kinds = [getattr(package, name) for name in package.__all__]
    bare = [
        f"{kind.__name__}.{name}"
        for kind in filter(inspect.isclass, kinds)
        for name, member in inspect.getmembers(kind)
        if not name.startswith("_")
        and (inspect.isfunction(member) or isinstance(member, property))
        and getattr(getattr(member, "fget", member), "__module__", "").partition(".")[0] in ("rl", "supervised", "envs")
        and not inspect.getdoc(member)
    ]
    assert not bare


@pytest.mark.parametrize("package", [rl, supervised, envs], ids=lambda package: package.__name__)
def test_the_reference_shows_every_public_name_by_its_public_path(package):
    name = package.__name__
    shown = re.findall(rf"^::: {name}\.([\w.]+)$", (ROOT / "docs" / "reference" / f"{name}.md").read_text(), re.M)
    assert {one.partition(".")[0] for one in shown} >= {*package.__all__}
    assert not [one for one in shown if one.rpartition(".")[2] in package.__all__ and "." in one]


@pytest.fixture
def tables(monkeypatch):
    pytest.importorskip("griffe")
    monkeypatch.syspath_prepend(ROOT / "scripts")
    return importlib.import_module("tools.docstring_tables")


def test_parameters_in_running_text_become_arguments(tables):
    text = (
        "Do it.\n\nlow, high: bounds of\nreturns; None: not known. odd: no parameter. steps: how many. Raises ValueError for"
        " none.\n\nMore."
    )
    kept, found = tables.separated(text, {"low", "high", "steps"})
    bounds = "Bounds of returns; None: not known. odd: no parameter."
    assert found == {"low": bounds, "high": bounds, "steps": "How many."}
    assert kept == "Do it.\n\nRaises ValueError for none.\n\nMore."
    assert tables.separated("steps: the summary.", {"steps"}) == ("steps: the summary.", {})
    said = tables.with_sections("Do it.", {"steps": "How many.", "mean": "Of all."}, {"steps"})
    assert said == "Do it.\n\nArgs:\n    steps: How many.\n\nAttributes:\n    mean: Of all."


def test_fields_and_parameters_stand_in_tables(tables):
    import griffe

    loader = griffe.GriffeLoader(extensions=griffe.load_extensions(tables.ParameterTables), search_paths=[ROOT])
    loader.load("supervised")
    package = loader.load("rl")
    dqn, tabular, sarsa = (
        package["deep.dqn.DQN"],
        package["tabular.agent.TabularConfig"],
        package["tabular.sarsa.SARSA"],
    )
    assert "    gamma: The discount factor, in [0, 1].\n" in dqn.docstring.value
    assert dqn["gamma"].docstring is None
    assert "    count_bonus: " in tabular.docstring.value
    assert "    initial_q: " in sarsa.docstring.value  # of its base
    assert "    explore: As in `TabularConfig`" in sarsa.docstring.value  # of the nearer of two
    assert "    seeds: A count (0..n-1), a list or a range." in package["training.train"].docstring.value
