"""Time purejaxql's PQN in CartPole, for `benchmark.py pqn`: run by the Python that has its packages (jax, flax, optax, gymnax).

python purejaxql.py FOLDER SEEDS STEPS: compile, then train anew for each line of standard input and print the seconds. FOLDER: a
checkout of github.com/mttga/purejaxql, whose settings for CartPole are used.
"""

from __future__ import annotations

import importlib
import re
import sys
import time
import types
from pathlib import Path
from typing import Any


def settings(folder: Path) -> dict[str, Any]:
    """Return its settings for CartPole: lines of NAME: VALUE."""
    text = (folder / "purejaxql" / "config" / "alg" / "pqn_cartpole.yaml").read_text()
    found: dict[str, Any] = {}
    for name, value in re.findall(r"^(\w+): *([^#\n]*)", text, re.MULTILINE):
        plain = value.strip().strip('"')
        try:
            found[name] = float(plain)
        except ValueError:
            found[name] = {"True": True, "False": False}.get(plain, plain)
    return {
        name: int(value) if value == int(value) else value for name, value in found.items() if type(value) is float
    } | {name: value for name, value in found.items() if type(value) is not float}


def main(folder: Path, seeds: int, steps: int) -> None:
    import jax

    jax.tree_map = jax.tree_util.tree_map  # removed in newer versions
    for name in ("hydra", "wandb", "omegaconf", "safetensors", "safetensors.flax"):  # which training does not need
        stand_in: Any = types.ModuleType(name)
        stand_in.main = lambda *_, **__: lambda function: function
        stand_in.OmegaConf = stand_in.load_file = stand_in.save_file = None
        sys.modules.setdefault(name, stand_in)
    sys.path.insert(0, str(folder))
    peer = importlib.import_module("purejaxql.pqn_gymnax")
    config = settings(folder) | {
        "TOTAL_TIMESTEPS": steps, "TEST_DURING_TRAINING": False, "WANDB_MODE": "disabled", "SEED": 0,
    }  # fmt: skip
    keys = jax.random.split(jax.random.PRNGKey(0), seeds)
    train = jax.jit(jax.vmap(peer.make_train(config))).lower(keys).compile()
    jax.block_until_ready(train(keys))
    print("ready", flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        jax.block_until_ready(train(keys))
        print(time.perf_counter() - began, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
