"""Native batched environments: a game's rules as pure functions over the arrays of many copies.

`vector.NativeVectorEnv` is the `gymnasium.vector.VectorEnv` around a game (`game.Game`), `single.NativeEnv` one copy as a
`gymnasium.Env`. Games are written once, for numpy on the host and torch on a device (`arrays`); `draws` and `random` make their
random numbers.
"""
