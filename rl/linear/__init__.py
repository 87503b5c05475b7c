"""Tile coding and linear SARSA(lambda): the coding, the rule with its agent, and the loop.

It may import `rl.core`, the pure functions of rl and, for traces and limits, `rl.tabular`.
"""
