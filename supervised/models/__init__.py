"""The models: regressions, multilayer perceptrons, convolutional and recurrent networks, each a trunk and a head.

layers: building blocks, with activations and initializers by name. May import the modules at the root of `supervised` and
`supervised.stack`, with which `Model` is registered here.
"""
