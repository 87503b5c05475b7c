"""N networks computed as one: `Stack`, the memory that holds their weights, and optimizers over it.

memory: one vector of all weights. batched_layers: how each layer is computed for all members. manual_backward and
compiled_mlp: gradients without autograd. sequences: models that read sequences, compiled; compiled_sequence, compiled_cell and
compiled_rnn are the code. It may import the modules at the root of `supervised`, and none of its other folders.
"""

from supervised.stack import batched_layers  # noqa: F401  (it registers how layers are computed)
from supervised.stack.members import check_make, make_member, owned
from supervised.stack.optimizers import optimizer
from supervised.stack.registry import Members, Op, register_batched, register_deterministic
from supervised.stack.stack import Stack, clip_per_seed, norms

__all__ = [
    "Members",
    "Op",
    "Stack",
    "check_make",
    "clip_per_seed",
    "make_member",
    "norms",
    "optimizer",
    "owned",
    "register_batched",
    "register_deterministic",
]
