"""See `envs.backends.member`."""

from envs.backends.beginning import member_seed
from envs.backends.member import ReplayableEnv, digest
from supervised.renamed import former_name

__all__ = ["ReplayableEnv", "digest", "member_seed"]

__getattr__ = former_name(__name__)
