"""Finite models: `model` stores one as arrays, `extract` reads it from an environment, `proof` verifies it step by step.

`kernel` steps a model in scalar functions, which rl's tables compile. Only a verified model replaces its environment.
`envs.tables` is the public module. May import `envs.errors`, and nothing that steps environments.
"""
