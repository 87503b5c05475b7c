"""Print the lowest versions that pyproject.toml promises and this index has wheels of, as pip requirements; say which it lacks.

python .ci/lowest.py pyproject.toml
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path


def lowest(requirement: str) -> str:
    """ "numpy>=1.26" -> "numpy==1.26"."""
    return re.sub(r"\s*>=\s*", "==", requirement)


def has_wheel(requirement: str) -> bool:
    """Whether pip finds a wheel of this version for this Python."""
    with tempfile.TemporaryDirectory() as folder:
        command = [*(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:")]
        done = subprocess.run([*command, "--dest", folder, requirement], capture_output=True, check=False)
    return done.returncode == 0


def main(project: Path) -> None:
    """Print one requirement a line."""
    found = tomllib.loads(project.read_text())["project"]
    optional = found["optional-dependencies"]["test"]
    for requirement in [*found["dependencies"], *(name for name in optional if not name.startswith("valuebased"))]:
        if requirement.startswith("torch>="):  # the version that is installed is the lowest that is tested
            continue
        wanted = lowest(requirement)
        if has_wheel(wanted):
            print(wanted)
        else:
            print(f"not to be had here, so not tested at its lowest: {wanted}", file=sys.stderr)
            print(requirement)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
