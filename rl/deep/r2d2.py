"""Presets of recurrent Q-networks: DRQN and R2D2, which are `rl.DQN` with a recurrent network.

DRQN (Hausknecht and Stone 2015): DQN with a recurrent layer. R2D2 (Kapturowski et al. 2019): windows that may start within an
episode, from the stored recurrent state and with burn-in; double and dueling Q-learning, n-step returns, prioritized replay,
rescaled values.

Deviations: a GRU of 64 units instead of an LSTM of 512, Adam at 1e-3 and a batch size of 16 or 32, for small environments. DRQN
learns from whole episodes, not from random segments of 10 steps with a zero initial state. R2D2 acts in one environment, not in
256, and does not observe its last action and reward (`envs.LastActionReward` adds them). The 80 steps of a window include the
burn-in, which precedes them in the paper.
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
