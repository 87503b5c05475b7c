"""See `envs.backends.member`."""

from envs.backends.beginning import member_seed
from envs.backends.member import Member, digest

__all__ = ["Member", "digest", "member_seed"]
