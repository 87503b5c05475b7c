"""Heads: what the outputs of a network mean, and what is learned from them. One file for each.

A head is pure: it knows no agent, no replay and no optimizer. It may import `rl.core` and the pure functions of rl.
"""
