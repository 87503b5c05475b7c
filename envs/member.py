"""See `envs.backends.member`."""

from envs.backends.beginning import member_seed
from envs.backends.member import ReplayableEnv, digest
from supervised.renamed import module_getattr

__all__ = ["ReplayableEnv", "digest", "member_seed"]

__getattr__ = module_getattr(__name__, globals())
