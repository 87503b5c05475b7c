"""The lecture notes' experiments, by name."""

from lectures import mnist, regression
from lectures.experiment import Experiment

EXPERIMENTS: dict[str, type[Experiment]] = {
    "linear": regression.Linear,
    "multivariable": regression.MultiVariable,
    "mnist-softmax": mnist.Softmax,
    "mnist-mlp": mnist.Perceptron,
    "mnist-initialisers": mnist.Initialisers,
    "mnist-deep": mnist.Deep,
    "mnist-cnn": mnist.Convolutional,
    "mnist-ensemble": mnist.Ensemble,
}
