"""Tile coding and linear SARSA(lambda): the coding, the update rule with its agent, and the training loop.

This package may import `rl.core`, the pure functions of rl and, for traces and limits, `rl.tabular`.
"""
