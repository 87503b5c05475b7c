"""Every import is an arrow of the drawing in the design."""

import ast
import contextlib
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("supervised", "envs", "rl", "scripts", "tests")
# Within a package, each folder, or file at its root, and what it may import besides itself.
PURE = (
    *("_check_packages", "_version", "explore", "masked", "targets", "losses", "planning", "belief"),
    *("networks", "network_names", "network_layers"),
)
FAMILIES = ("tabular", "linear", "deep")  # they do not know each other, but that tiles use tables' traces and limits
EXECUTORS = ("compiled", "executor", "single", "step_by_step", "vector")
WORLDS = ("diagnostic", "textbook", "mazes", "atari")  # environments, which know nothing of what steps them
HIDDEN = ("memory", "views")  # worlds that give the model of their hidden states
OLD_PATHS = ("member", "rows", "tables")  # of envs
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
        "training": (*PURE, "core", "run", "report", "deep"),
        "agents": ("tabular", "deep"),
    },
    "supervised": {
        **dict.fromkeys(ROOTS, ROOTS),
        "_moved": (),
        "session": ROOTS,
        "stack": ROOTS,
        "models": (*ROOTS, "_moved", "stack"),
        "fitting": (*ROOTS, "stack", "models", "session"),
    },
    "envs": {
        "errors": (),
        "ids": ("errors",),
        "last": (),
        "source": ("errors", "ids", "last"),
        "backends": ("errors", "source", "native"),
        "model": ("errors",),
        "native": ("errors", "model", "diagnostic", "textbook", "memory", "views"),
        "vector": ("errors", "source", "backends"),
        **dict.fromkeys(WORLDS, ("diagnostic", "mazes")),
        **dict.fromkeys(HIDDEN, ("model",)),
        **dict.fromkeys(OLD_PATHS, ("backends", "model")),
    },
}


# Within rl.explore, likewise.
EXPLORE_MAY_IMPORT = {"configs": (), "scalar": ("configs",), "masked": ("configs", "scalar")}


SHARED = ("supervised.validate", "supervised.renamed", "supervised.device")  # that `envs` imports too


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
            "envs": {"envs", "supervised"} if target in SHARED else {"envs"},
            "rl": {"rl", "envs", "supervised"},
            "scripts": set(PACKAGES[:3]),
        }
        if goal not in allowed[top]:
            wrong.append((source, target))
        if place(source) in FAMILIES and top == "rl" and goal == "envs" and ".loop" not in source:
            files = {
                "rl.tabular.play",
                *(f"rl.tabular.executors.{name}" for name in EXECUTORS),
            }  # these step environments too
            if source not in files:
                wrong.append((source, target))
        if top == goal and top in MAY_IMPORT and place(source):
            drawn = (place(source), *MAY_IMPORT[top][place(source)])
            if place(target) not in drawn:
                wrong.append((source, target))
    assert not wrong


# What the README, the guide and the reference name, and what other code was told to import.
PATHS = {
    "envs": "make EnvError read read_partial PartialModel HiddenStates source ReplayableEnv Model NoModelError Source Step"
    " TableEnv World LastActionReward with_last exact_q exact_textbook_q exact_access_control seeds_of register",
    "envs.vector": "Step World make",
    "envs.source": "source from_description with_last",
    "envs.tables": "read Model World",
    "envs.member": "ReplayableEnv",
    "envs.rows": "SingleEnvs VectorEnvs",
    "envs.diagnostic": "TableEnv",
    "envs.textbook": "TEXTBOOK",
    "envs.mazes": "ChangingMaze",
    "envs.last": "LastActionReward",
    "envs.memory": "HiddenStates TMaze MemoryChain RepeatPrevious RepeatFirst",
    "envs.views": "Components Window",
    "rl": "train start load load_policy register presets Batch Replay Evaluation QLearning DQN",
    "rl.targets": "q_learning double_q expected_sarsa n_step lambda_return",
    "rl.losses": "taken",
    "rl.planning": "greedy",
    "rl.belief": "worth_of_memory best_return best_memoryless memoryless_returns belief_model",
    "rl.networks": "Network Name NAMES KNOWN parse check make nature on_trunk reads_sequences Joined Dueling",
    "rl.core.policy": "NetworkPolicy TablePolicy load_policy",
    "rl.explore": "BOLTZMANN EPSILON_GREEDY GAUSSIAN_NOISE RULES TIES UCB UPPER_BOUND Boltzmann DecayingNoise EpsilonGreedy "
    "Explore Greedy TableExplore boltzmann boltzmann_action select_actions choose choose_each epsilon_greedy "
    "epsilon_greedy_action expected forbidden greedy greedy_action highest noisy_action noisy_greedy random_action upper_bound "
    "upper_bound_action",
    "rl.masked": "RULES as_mask best_allowed boltzmann_action check_allowed expected forbidden greedy_action highest "
    "noisy_action random_action upper_bound_action",
    "rl.tabular.agent": "Transition QTable TabularConfig",
    "rl.deep.agent": "DeepAgent",
    "rl.agents.table": "TabularConfig",
    "rl.agents.deep": "DeepAgent",
    "supervised": "Stack Streams Model Recipe fit",
}


def exists(path):
    """Whether a module, or a name in one, can be imported."""
    module, _, name = path.rpartition(".")
    with contextlib.suppress(ModuleNotFoundError):  # of a class, whose attribute is documented
        if not module or hasattr(importlib.import_module(module), name):
            return True
    try:
        importlib.import_module(path)
    except ModuleNotFoundError:
        return False
    return True


@pytest.mark.parametrize("module", PATHS)
def test_public_paths_are_importable_as_they_are_written(module):
    for name in PATHS[module].split():
        assert exists(f"{module}.{name}"), name


def test_every_path_of_the_reference_exists():
    lines = [line for page in (ROOT / "docs" / "reference").glob("*.md") for line in page.read_text().splitlines()]
    paths = [line.removeprefix("::: ") for line in lines if line.startswith("::: ") and "atari" not in line]
    assert paths
    assert not [path for path in paths if not exists(path)]


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
    assert last.startswith(
        f"ImportError: `import envs` finds {tmp_path / 'envs.py'}, which is not part of this package"
    )


def test_ways_to_choose_actions_know_what_they_are_made_of_alone():
    for source, target in imports():
        own = source.removeprefix("rl.explore.")
        if own in EXPLORE_MAY_IMPORT and target.startswith("rl"):
            assert target.removeprefix("rl.explore.") in EXPLORE_MAY_IMPORT[own]


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

    assert not {m for m in arrows if m in reached(m)}


@pytest.mark.parametrize("package", ["rl", "rl.explore", "rl.run", "supervised"])
def test_the_names_of_lazy_packages_are_those_that_a_type_checker_sees(package):
    """What `if TYPE_CHECKING:` shows is where each name is found when it is first asked for, and all of it is there."""
    module = importlib.import_module(package)
    tree = ast.parse(Path(module.__file__).read_text())
    (shown,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {alias.name: node.module for node in shown.body for alias in node.names}
    assert {name: place for name, place in seen.items() if place != package} == module._PLACES
    assert set(seen) <= set(module.__all__) <= set(dir(module))
    names = {}
    exec(f"from {package} import *", names)
    assert set(module.__all__) <= set(names)
    for name, place in seen.items():
        found = importlib.import_module(f"{package}.{name}") if place == package else None
        found = getattr(importlib.import_module(place), name) if found is None else found
        assert names[name] is getattr(module, name) is found
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nonsense'"):
        module.nonsense  # noqa: B018  (reading it raises)
    with pytest.raises(ImportError):
        exec(f"from {package} import nonsense", {})


@pytest.mark.parametrize(
    "code",
    [
        "import rl; print(rl.train.__name__, 'torch' in sys.modules)",
        "import rl.training; import rl; print(rl.train.__name__, 'torch' in sys.modules)",
        "from rl.core.registry import from_json; print(from_json({'type': 'DynaQ'}).planning_steps, True)",
        "import rl; print('rl.train' in sys.modules, 'torch' in sys.modules)",
        "import rl; rl.presets('Acrobot-v1'); rl.SARSA(); print('rl.train' in sys.modules, 'torch' in sys.modules)",
        "import supervised, envs; print('rl.train' in sys.modules, 'torch' in sys.modules)",
    ],
)  # fmt: skip
def test_rl_in_a_fresh_process(code):
    done = subprocess.run([sys.executable, "-c", f"import sys; {code}"], capture_output=True, text=True, check=False)
    expected = {"train True": 2, "10 True": 1, "False False": 3}
    assert done.stdout.strip() in expected, done.stdout + done.stderr
    assert ("False" in done.stdout) == ("rl.train' in" in code)  # imports and settings alone import no torch
