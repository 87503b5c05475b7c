"""Sizes and costs of convolutional networks: the notes' arithmetic, and their table of parameters with corrections."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from lectures.experiment import Experiment
from lectures.mnist import lecture_cnn
from lectures.report import Report
from supervised import CNN, MLP, ShapeError
from supervised.shapes import conv_output, layer_table, table_text

SIZES = (  # input, filter, stride, padding, output in the notes
    *((4, 3, 1, 0, 2), (5, 3, 2, 0, 2), (5, 4, 1, 2, 6), (7, 3, 1, 0, 5), (7, 3, 2, 0, 3), (9, 3, 1, 0, 7)),
    *((32, 5, 1, 2, 32), (5, 3, 1, 0, 3)),
)
SEED = {
    "conv1": "288",
    "conv2": "576 (took 3x3x1)",
    "conv3": "1,152 (took 3x3x1)",
    "dense_linear1": "4,194,304 (took 2048 units)",
    "head": "20,480 (took 2048 inputs)",
}


@dataclass
class Shapes(Experiment):
    """Output sizes, parameters and memory of single layers, the notes' CNNs and an MLP."""

    def run(self, report: Report) -> None:
        for size, filter_, stride, padding, stated in SIZES:
            found = conv_output(size, filter_, stride, padding)
            real = nn.Conv1d(1, 1, filter_, stride, padding, device="meta")(
                torch.empty(1, 1, size, device="meta")
            ).shape[-1]
            what = f"({size} - {filter_} + 2 x {padding}) / {stride} + 1"
            report.row(what, f"{found} (torch's layer: {real})", str(stated))
        try:
            conv_output(7, 3, 3)
        except ShapeError as error:
            report.row("(7 - 3) / 3 + 1", f"error: {str(error).split(':')[0]}", "doesn't fit")
        ten = nn.Conv2d(3, 10, 5)
        report.row("parameters of ten 5x5 filters over 3 channels", sum(p.numel() for p in ten.parameters()), "760", 0)
        self.table(
            report,
            "3 convolutions and 625 units",
            CNN((1, 28, 28), 10, (32, 64, 128), widths=(625,)),
            SEED,
            "4,216,800",
        )
        written = sum(p.numel() for p in lecture_cnn((28, 28)).parameters())
        report.row("as in the notes' code, convolutions without bias: parameters", written, "", 0)
        self.table(report, "2 convolutions", CNN((1, 28, 28), 10, (32, 64)), {}, "")
        one = MLP(784, 10, (256,))
        rows = layer_table(one, (784,))
        parameters = sum(row.parameters for row in rows)
        report.row("MLP 784-256-10: parameters", parameters, "203,530", 0)
        report.row(
            "MLP 784-256-10: bytes of weights without biases and inputs",
            (784 + 784 * 256 + 10) * 4,
            '805,992, called memory; "804k"',
            0,
        )
        report.row("MLP 784-256-10: bytes of activations for one image", (784 + 256 + 10) * 4, "", 0)
        cnn = sum(p.numel() for p in CNN((1, 28, 28), 10, (32, 64, 128), widths=(625,)).parameters())
        report.row("parameters of the CNN / those of the MLP", cnn / parameters, '"memory 5x"', 1)

    def table(self, report: Report, title: str, model: nn.Module, seed: dict[str, str], total: str) -> None:
        """Write the layer table of a model to TensorBoard's Text tab, and compare its weights with the notes'."""
        rows = layer_table(model, (28, 28))
        report.logger.text(f"layers of {title}", f"```\n{table_text(rows)}\n```")
        for row in rows:
            name = row.name.rsplit(".", maxsplit=1)[-1]
            if row.parameters:
                weights = next(p.numel() for n, p in model.named_parameters() if n == f"{row.name}.weight")
                output = "x".join(map(str, row.output))
                report.row(
                    f"{title}, {name} ({output}): weights, with biases",
                    f"{weights:,}, {row.parameters:,}",
                    seed.get(name, ""),
                )
        report.row(f"{title}: parameters", sum(row.parameters for row in rows), total, 0)
        kept = ("conv", "pool", "linear", "head", "input")
        layers = [
            row for row in rows if row.name.rsplit(".", maxsplit=1)[-1].startswith(kept) or "dense_linear" in row.name
        ]
        report.row(
            f"{title}: bytes of activations for one image",
            sum(row.activation_bytes for row in layers),
            "k x 4" if seed else "",
            0,
        )
