"""Finite models: `model` stores one as arrays, `extract` reads it from an environment, `proof` verifies it step by step.

`kernel` steps a model with scalar functions, which rl's tabular agents compile. Only a verified model replaces its environment.
`envs.tables` is the public module. May import `envs.errors`, and nothing that steps environments.
"""
