"""Every import is an arrow of the drawing in the design."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("supervised", "envs", "rl", "scripts", "tests")
# Within a package, each folder, or file at its root, and what it may import besides itself.
PURE = ("_siblings", "_version", "explore", "masked", "targets", "losses", "planning", "networks")
FAMILIES = (
    "tabular",
    "linear",
    "deep",
)  # they know nothing of each other, but that tiles use tables' traces and limits
ROOTS = tuple(path.stem for path in (ROOT / "supervised").glob("*.py") if not path.stem.startswith("_"))
MAY_IMPORT = {
    "rl": {
        **dict.fromkeys(PURE, (*PURE, "core")),
        "core": PURE,
        "tabular": (*PURE, "core"),
        "linear": (*PURE, "core", "tabular"),
        "deep": (*PURE, "core"),
        "run": (*PURE, "core", *FAMILIES),
        "settings": (*PURE, "core", *FAMILIES),
        "report": (*PURE, "core", "run"),
        "train": (*PURE, "core", "run", "report", "deep"),
        "agents": ("tabular", "deep"),
    },
    "supervised": {
        **dict.fromkeys(ROOTS, ROOTS),
        "_moved": (),
        "session": ROOTS,
        "stack": ROOTS,
        "models": (*ROOTS, "stack"),
        "fitting": (*ROOTS, "stack", "models", "session"),
    },
}


# What is left of circles: rules with masks are made of those without, and the array form takes either.
CIRCLES = {"rl.explore", "rl.masked"}


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


def place(module):
    """The folder of a package, or the file at its root, that a module is or lies in; "" for the package itself."""
    return module.partition(".")[2].partition(".")[0]


def test_no_arrow_that_is_not_drawn():
    wrong = []
    for source, target in imports():
        top, goal = source.split(".")[0], target.split(".")[0]
        if goal not in PACKAGES:
            continue
        allowed = {
            "supervised": {"supervised"},
            "envs": {"envs", "supervised"} if target == "supervised.validate" else {"envs"},
            "rl": {"rl", "envs", "supervised"},
            "scripts": set(PACKAGES[:3]),
        }
        if goal not in allowed[top]:
            wrong.append((source, target))
        if place(source) in FAMILIES and top == "rl" and goal == "envs" and ".loop" not in source:
            files = {"rl.tabular.executors", "rl.tabular.play"}  # these step environments too
            if source not in files:
                wrong.append((source, target))
        if top == goal and top in MAY_IMPORT and place(source):
            drawn = (place(source), *MAY_IMPORT[top][place(source)])
            if place(target) not in drawn:
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


def test_no_circle():
    """Modules of a package import each other in one direction, those for annotations alone included."""
    arrows = {}
    for source, target in imports():
        if source != target and target.split(".")[0] in PACKAGES[:3]:
            arrows.setdefault(source, set()).add(target)

    def reached(start):
        seen, todo = set(), list(arrows.get(start, ()))
        while todo:
            module = todo.pop()
            if module not in seen:
                seen.add(module)
                todo += arrows.get(module, ())
        return seen

    assert {m for m in arrows if m in reached(m)} == CIRCLES
