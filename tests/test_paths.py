"""Every path that the contract, the pages or a script names can be imported, and so can those of earlier versions."""

import ast
import importlib
import pickle
import re
from pathlib import Path

import pytest
import torch

import supervised
from supervised import CNN, MLP, RNN, SoftmaxRegression, Stack
from supervised._moved import MOVED

ROOT = Path(__file__).parent.parent
# What other code is written against, besides what the pages show.
CONTRACT = """
rl.train rl.start rl.load rl.load_policy rl.presets rl.register rl.Evaluation rl.QLearning rl.DQN rl.Replay rl.Batch
rl.explore.epsilon_greedy rl.targets.q_learning rl.targets.double_q rl.targets.expected_sarsa rl.targets.n_step
rl.targets.lambda_return rl.losses rl.planning envs.make supervised.Streams supervised.Stack supervised.Stack.vjp
supervised.Stack.member supervised.stack.Stack supervised.clip_per_seed supervised.schedules.Linear supervised.data.scale
supervised.statistics.interval supervised.mnist.digits supervised.fit supervised.load supervised.Fit supervised.Recipe
"""
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "docs/guide.md",
    "docs/memory.md",
    "docs/library.md",
    "docs/commands.md",
    "docs/install.md",
    "docs/coming-from.md",
    "docs/results.md",
    "docs/tutorial.md",
    "docs/index.md",
    "docs/reference/supervised.md",
)
NAMED = re.compile(r"(?<![\w/.])(?:rl|envs|supervised)(?:\.[A-Za-z_]\w*)+")
FILE = re.compile(r"(?<![\w/.])(?:rl|envs|supervised|scripts|tests)/[\w/]+\.py")


def found(path):
    """What a dotted path stands for, as `import` and attributes find it."""
    parts = path.split(".")
    thing = importlib.import_module(parts[0])
    for i, part in enumerate(parts[1:], 2):
        if not hasattr(thing, part):
            importlib.import_module(".".join(parts[:i]))
        thing = getattr(thing, part)
    return thing


@pytest.mark.parametrize("path", CONTRACT.split())
def test_the_contract(path):
    assert found(path) is not None


@pytest.mark.parametrize("page", PAGES)
def test_what_the_pages_name_is_there(page):
    text = (ROOT / page).read_text()
    examples = "\n".join(re.findall(r"```python\n(.*?)```", text, re.S))  # these run in test_readme
    for path in set(NAMED.findall(text)) - set(NAMED.findall(examples)):
        assert path.endswith((".md", ".py")) or found(path) is not None, path
    for file in FILE.findall(text):
        assert (ROOT / file).exists(), file


@pytest.mark.parametrize("script", sorted((ROOT / "scripts").rglob("*.py")), ids=lambda path: path.stem)
def test_what_scripts_import_is_there(script):
    for node in ast.walk(ast.parse(script.read_text())):
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] in ("rl", "envs", "supervised"):
            module = importlib.import_module(node.module)
            for alias in node.names:
                assert hasattr(module, alias.name) or importlib.import_module(f"{node.module}.{alias.name}")


@pytest.mark.parametrize("old", MOVED)
def test_modules_of_earlier_versions_are_found(old):
    assert importlib.import_module(f"supervised.{old}") is importlib.import_module(f"supervised.{MOVED[old]}")


def test_the_functions_keep_their_names():
    from supervised.fit import load

    from supervised.fitting import Fit

    assert callable(supervised.fit)
    assert (supervised.load, supervised.Fit) == (load, Fit)


def test_models_pickled_by_an_earlier_version_load():
    """Pickles name modules; these are of the version before modules lay in folders."""
    models = pickle.loads((ROOT / "tests" / "fixtures" / "modules.pickle").read_bytes())
    makes = {
        "MLP": lambda: MLP(3, 2, (4,)),
        "CNN": lambda: CNN((1, 4, 4), 2, (2,), block="residual"),
        "RNN": lambda: RNN(2, 2, 2),
        "Softmax": lambda: SoftmaxRegression(3, 2),
    }
    assert models.keys() == makes.keys()
    for name, make in makes.items():
        today = Stack(make, [1]).member(1).state_dict()
        assert all(torch.equal(models[name].state_dict()[key], value) for key, value in today.items())
