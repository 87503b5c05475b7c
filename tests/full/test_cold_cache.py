"""Machine code that a process compiles computes the same bits as what later processes read from numba's cache."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.full
CODE = """
import hashlib, sys
import numpy as np
import rl

agent = rl.DQN(learn_after_steps=30, batch_size=16, capacity_steps=400, **eval(sys.argv[1]))
run = rl.start("CartPole-v1", agent, 3, steps=400)
run.advance(150)
print(hashlib.sha256(b"".join(np.ascontiguousarray(w).tobytes() for w in run.agent.state_dict()["online"].values())).hexdigest())
"""


@pytest.mark.parametrize(
    "settings",
    [
        {"network": "layer_norm_mlp(16,16)"},
        {"network": "mlp(8)+gru(8)", "sequence_steps": 8},
        {"network": "rnn(8)", "sequence_steps": 8},
        {"network": "mlp(16)", "prioritized": True, "n_step": 3},
    ],
    ids=lambda settings: settings["network"],
)
def test_compiled_here_or_read_from_the_cache(settings, tmp_path):
    def weights():
        process = [sys.executable, "-W", "ignore", "-c", CODE, repr(settings)]
        found = subprocess.run(
            process, env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}, capture_output=True, text=True, check=True
        )
        return found.stdout

    cold = weights()
    assert list(tmp_path.rglob("*.nbc"))
    assert weights() == cold
