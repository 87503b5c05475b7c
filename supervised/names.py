"""What torch has by name, so that settings can be checked without importing it."""

CELLS = ("rnn", "lstm", "gru")  # recurrent cells, of torch.nn in capitals
# Torch's elementwise optimizers, under which members do not affect each other.
OPTIMIZERS = (
    "SGD", "Adam", "AdamW", "NAdam", "RAdam", "Adamax", "Adagrad", "Adadelta", "RMSprop", "Rprop", "ASGD",
)  # fmt: skip
