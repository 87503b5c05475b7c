"""What every family of agents shares, and which knows none of them.

Types and protocols, the list of agents, spaces and observations, compiling (`jit`), acting and episode statistics, greedy
evaluation, policies. It imports nothing of rl but what lies here and the pure functions beside it.
"""
