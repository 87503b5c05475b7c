"""What the README, the guide and the page on memory show runs as it stands there, but for the number of steps."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", "docs/guide.md", "docs/memory.md", "docs/coming-from.md", "docs/library.md")
EXAMPLES = [code for page in PAGES for code in re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.S)]
SHORT = {"steps=50_000, seeds=8": "steps=2_000, seeds=4", "steps=100_000": "steps=20_000"}
ONE_PROCESS = "workers=2, ", ""  # in the tutorial: the README has the same call


def run(code, name, names):
    for long, short in SHORT.items():
        code = code.replace(long, short)
    exec(compile(code, name, "exec"), names)


@pytest.mark.filterwarnings("ignore:Episodes of")  # an example has windows shorter than its episodes
@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_the_examples_run(number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(EXAMPLES[number], f"example {number}", {})


def test_the_tutorial_runs_from_top_to_bottom(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for i, code in enumerate(re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "tutorial.md").read_text(), re.S)):
        run(code.replace(*ONE_PROCESS), f"tutorial {i}", names)
    assert (tmp_path / "policy.safetensors").stat().st_size > 0


def test_every_file_that_it_names_is_there():
    for name in re.findall(r"\]\(([^)#:]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / name).exists(), name
