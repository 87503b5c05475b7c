"""Native batched environments: a game's rules as pure functions over the arrays of many copies.

`vector.NativeVectorEnv` wraps a game (`game.Game`) as a `gymnasium.vector.VectorEnv`, `single.NativeEnv` wraps one copy as a
`gymnasium.Env`. Games are written once, for numpy on the host and torch on a device (`arrays`); `draws` and `random` make their
random numbers.
"""
