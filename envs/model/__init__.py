"""Finite models: `model` holds one as arrays, `extract` reads it from an environment, `proof` steps both side by side.

`kernel` steps a model in scalar functions, which rl's tables compile. Only a model that was proved stands in for its
environment. `envs.tables` is the public name of all this. It may import `envs.errors`, and nothing that steps environments.
"""
