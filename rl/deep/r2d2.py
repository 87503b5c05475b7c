"""Presets of Q-networks that remember: DRQN and R2D2, which are `rl.DQN` with a recurrent network.

DRQN (Hausknecht and Stone 2015): DQN whose network has a recurrent layer. R2D2 (Kapturowski et al. 2019): windows that
begin within episodes too, from the state that was stored there, burned in; double, dueling, n-step returns, prioritized
replay, rescaled values.

Deviations: a GRU of 64 units instead of an LSTM of 512, Adam at 1e-3 and a batch of 16 or 32, for small worlds. DRQN here
learns from whole episodes, not from random pieces of 10 steps whose state begins as zeros. R2D2 acts in one environment, not
in 256, and does not read its last action and reward: `envs.LastActionReward` adds them. A window's 80 steps include its
burn-in, which the paper puts in front of them.
"""

from __future__ import annotations

from rl.core.registry import add_presets
from rl.deep.dqn import DQN

add_presets(
    "memory",
    {
        "drqn": DQN(
            network="gru(64)",
            batch_size=16,
            update_every_steps=4,
            target_every_updates=200,
            double=True,
        ),
        "r2d2": DQN(
            network="gru(64)",
            gamma=0.997,
            batch_size=32,
            update_every_steps=4,
            target_every_updates=200,
            double=True,
            dueling=True,
            n_step=5,
            prioritized=True,
            priority_exponent=0.9,
            importance_exponent=0.0,
            rescale_values=True,
            sequence_steps=80,
            sequence_every_steps=40,
            burn_in_steps=40,
        ),
    },
)
