"""See `envs.backends.member`."""

from envs.backends.member import Member, digest, member_seed

__all__ = ["Member", "digest", "member_seed"]
