"""The error that this package raises for environments."""


class EnvError(ValueError):
    """Raised when an environment cannot be created or violates Gymnasium's interface; the message names it."""
