"""Code shared by all families of agents, and independent of each of them.

Types and protocols, the registry of agents, spaces and observations, compilation (`jit`), acting and episode statistics, greedy
evaluation, and policies. Within rl it imports only this package and rl's pure functions.
"""
