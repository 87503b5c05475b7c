"""Q-networks: `agent` has networks, targets and optimizer, `dqn` says what is learned from a batch.

replay: what is remembered. loops: how steps become updates. It may import `rl.core` and the pure functions of rl.
"""
