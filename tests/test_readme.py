"""What the README and the guide show runs as it stands there, but for the number of steps."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", "docs/guide.md")
EXAMPLES = [code for page in PAGES for code in re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.S)]


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_the_examples_run(number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = EXAMPLES[number].replace("steps=50_000, seeds=8", "steps=2_000, seeds=4")
    exec(compile(code, f"example {number}", "exec"), {})


def test_every_file_that_it_names_is_there():
    for name in re.findall(r"\]\(([^)#:]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / name).exists(), name
