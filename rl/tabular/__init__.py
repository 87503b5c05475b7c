"""Tabular agents: one file per update rule; `agent`, `kernel`, `executors` and `loop` run it.

A rule is one scalar function of `QTable` and `Transition` that runs as plain Python or compiled (`rl.core.jit`). This package may
import `rl.core` and the pure functions of rl; nothing here depends on tile coding or networks.
"""
