"""Training loops of Q-networks. Imports only `rl.deep`, `rl.core` and the pure functions of rl."""
