"""The error that everything in this package raises for an environment."""


class EnvError(ValueError):
    """An environment could not be made or misbehaved; the message names it."""
