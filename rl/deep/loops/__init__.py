"""How the steps of environments become updates of a network.

It may import `rl.deep`, `rl.core` and the pure functions of rl.
"""
