"""Heads: how the outputs of a network are read, and their losses. One file each.

Heads are pure functions, without agent, replay or optimizer. Imports only `rl.core` and the pure functions of rl.
"""
