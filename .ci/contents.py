"""Check what an sdist and a wheel contain: python .ci/contents.py DIST -> exit status 1, with what is wrong.

They hold the tracked files of the packages, of the sdist also those that build and describe them, and nothing else: no tests,
caches, pages or files that git ignores.
"""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

PACKAGES = ("rl", "supervised", "envs")
BESIDE = {"LICENSE", "README.md", "pyproject.toml", "MANIFEST.in"}
MADE = {"PKG-INFO", "setup.cfg"}  # by setuptools, in the sdist


def difference(name: str, found: set[str], wanted: set[str]) -> list[str]:
    """What an archive has too much and too little, in sentences."""
    too_much = [f"{name} contains {path}, which does not belong there." for path in sorted(found - wanted)]
    return too_much + [f"{name} lacks {path}." for path in sorted(wanted - found)]


def wrong(folder: Path) -> list[str]:
    """What is wrong with the sdist and the wheel in a folder, in sentences."""
    tracked = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True).stdout.splitlines()
    modules = {path for path in tracked if path.split("/")[0] in PACKAGES}
    assert {f"{package}/py.typed" for package in PACKAGES} <= modules
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    with tarfile.open(sdist) as archive:
        members = {"/".join(PurePosixPath(member.name).parts[1:]) for member in archive if member.isfile()}
    source = {path for path in members if ".egg-info/" not in path} - MADE
    with zipfile.ZipFile(wheel) as archive:
        installed = {path for path in archive.namelist() if ".dist-info/" not in path}
        about = {path.partition(".dist-info/")[2]: path for path in archive.namelist() if ".dist-info/" in path}
        described = Path("README.md").read_text().strip() in archive.read(about["METADATA"]).decode()
    return [
        *difference(sdist.name, source, modules | BESIDE),
        *difference(wheel.name, installed, modules),
        *([] if "licenses/LICENSE" in about else [f"{wheel.name} lacks the license."]),
        *([] if described else [f"{wheel.name} does not have README.md as its description."]),
    ]


if __name__ == "__main__":
    sys.exit("\n".join(wrong(Path(sys.argv[1]))) or None)
