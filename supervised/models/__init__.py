"""The models: regressions, multilayer perceptrons, convolutional and recurrent networks, each a trunk and a head.

layers: what they are made of, with activations and initialisers by name. It may import `supervised.stack`, which learns here
how a `Model` is computed for all members, and the modules at the root of `supervised`.
"""
