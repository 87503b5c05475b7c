"""N networks computed as one: `Stack`, the memory of their weights, and optimizers over it.

memory: one vector of all weights. batched_layers: layers computed for all members at once. manual_backward: gradients
without autograd. compiled_chain: chains as compiled code, implemented in compiled_mlp and mlp_kernels. compiled_adam: compiled
steps of Adam and RAdam. sequences: compiled sequence models, implemented in compiled_sequence, compiled_cell and compiled_rnn.
May import the modules at the root of `supervised`, and none of its other folders.
"""

from supervised.stack import batched_layers  # noqa: F401  (registers the layers)
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
