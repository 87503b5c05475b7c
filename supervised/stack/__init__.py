"""N networks computed as one: `Stack`, the memory that holds their weights, and optimizers over it.

memory: one vector of all weights. batched_layers: how each layer is computed for all members. manual_backward and
compiled_mlp: gradients without autograd. It may import the modules at the root of `supervised`, and none of its other folders.
"""

from supervised.stack import batched_layers  # noqa: F401  (it registers how layers are computed)
from supervised.stack.optimizers import optimizer
from supervised.stack.stack import Op, Stack, check_make, clip_per_seed, make_member, norms, owned, rule, still

__all__ = [
    "Op",
    "Stack",
    "check_make",
    "clip_per_seed",
    "make_member",
    "norms",
    "optimizer",
    "owned",
    "rule",
    "still",
]
