"""Every import is an arrow of the drawing in the design."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("supervised", "envs", "rl", "scripts", "tests")
# Within rl, from the bottom up; a module imports those of its own layer or below.
LAYERS = [
    (
        *("rl._siblings", "rl.types", "rl.targets", "rl.losses", "rl.explore", "rl.spaces", "rl.jit"),
        *("rl.masked", "rl.returns", "rl.core", "rl.moving"),
    ),
    ("rl.observations", "rl.normalize", "rl.priority", "rl.ring", "rl.tiles", "rl.divergence"),
    ("rl.replay", "rl.networks", "rl.policy"),
    ("rl.agents",),
    ("rl.planning", "rl.settings"),
    ("rl.runs", "rl.greedy"),
    ("rl.evaluate", "rl.local"),
    ("rl.run",),
    ("rl.pictures", "rl.results", "rl.worker", "rl.workers", "rl.open"),
    ("rl.report",),
    ("rl.train",),
    ("rl",),
]


def imports():
    for package in PACKAGES[:4]:
        for path in (ROOT / package).rglob("*.py"):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom) and node.module:
                    for alias in node.names:
                        full = f"{node.module}.{alias.name}"
                        exists = (ROOT / (full.replace(".", "/") + ".py")).exists() or (
                            ROOT / full.replace(".", "/")
                        ).is_dir()
                        yield module, full if exists else node.module
                elif isinstance(node, ast.Import):
                    for alias in node.names:
                        yield module, alias.name


def layer(module):
    # `rl` itself is the top; `rl.run` is not `rl.runs`.
    return max(
        (
            i
            for i, names in enumerate(LAYERS)
            for name in names
            if module == name or (name != "rl" and module.startswith(name + "."))
        ),
        default=None,
    )


def test_no_arrow_that_is_not_drawn():
    wrong = []
    for source, target in imports():
        top, goal = source.split(".")[0], target.split(".")[0]
        if goal not in PACKAGES or (source == "rl.run" and target == "rl"):  # the version, when saving
            continue
        allowed = {
            "supervised": {"supervised"},
            "envs": {"envs", "supervised"} if target == "supervised.validate" else {"envs"},
            "rl": {"rl", "envs", "supervised"},
            "scripts": set(PACKAGES[:3]),
        }
        if goal not in allowed[top]:
            wrong.append((source, target))
        if source.startswith("rl.agents") and goal == "envs":
            wrong.append((source, target))
        if top == goal == "rl":
            assert layer(source) is not None, source
            assert layer(target) is not None, target
            if layer(target) > layer(source):
                wrong.append((source, target))
    assert not wrong


def test_importing_is_cheap():
    """What takes long to import is imported where it is used."""
    late = ("matplotlib", "tensorboard", "scipy", "rich", "PIL", "numba")
    code = f"import sys, rl; print([m for m in {late} if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_the_packages_are_typed():
    assert all((ROOT / package / "py.typed").exists() for package in PACKAGES[:3])


def test_another_package_of_the_same_name_is_told_of(tmp_path):
    (tmp_path / "envs.py").write_text("x = 1\n")
    done = subprocess.run(
        [sys.executable, "-c", "import rl"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"ImportError: `import envs` finds {tmp_path / 'envs.py'}, which is somebody else's")
