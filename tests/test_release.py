"""What a release says of itself in several places is the same in all."""

import re
import tomllib
from pathlib import Path

import rl

ROOT = Path(__file__).parent.parent


def test_one_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "rl._version.__version__"}
    assert f"version: {rl.__version__}" in (ROOT / "CITATION.cff").read_text()
    assert re.search(r"^## (Unreleased|\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.M)


def test_pins_are_those_that_the_package_needs():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]

    def names(lines):
        return {re.split(r"[\[=<>~ ]", line)[0] for line in lines if line[0] not in "-#"}

    first = (ROOT / "requirements.txt").read_text().splitlines()
    assert names(first) == names(project["dependencies"])
    tests = names([*extras["test"], *extras["atari"], *extras["search"]]) - {"valuebased"}
    assert names((ROOT / "requirements-test.txt").read_text().splitlines()) == tests
    pinned = [line for line in first if "==" in line]
    assert len(pinned) == len(project["dependencies"])
