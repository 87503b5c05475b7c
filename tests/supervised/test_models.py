"""Models: shapes, parameters, initial weights; shape arithmetic and layer tables."""

import itertools
import math

import pytest
import torch
from torch import nn

from supervised import CNN, MLP, RNN, LinearRegression, LogisticRegression, ShapeError, SoftmaxRegression, Stack
from supervised.models import layers
from supervised.models.layers import initialize
from supervised.models.rnn import free_running
from supervised.shapes import conv_output, layer_table, pool_output, table_text


def parameters(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("size", "filter_", "stride", "padding", "expected"),
    # the lecture notes' examples
    [
        (4, 3, 1, 0, 2),
        (5, 3, 2, 0, 2),
        (5, 4, 1, 2, 6),
        (7, 3, 1, 0, 5),
        (7, 3, 2, 0, 3),
        (9, 3, 1, 0, 7),
        (32, 5, 1, 2, 32),
    ],
)
def test_output_sizes_of_the_notes(size, filter_, stride, padding, expected):
    assert conv_output(size, filter_, stride, padding) == expected


def test_a_filter_that_does_not_fit_is_told_of():
    with pytest.raises(
        ShapeError, match=r"A filter of 3 with stride 3 .* does not fit into 7: .* = 2\.33 is not a whole"
    ):
        conv_output(7, 3, 3)
    with pytest.raises(ShapeError, match=r"A filter of 5 does not fit into 3 with padding 0: it is larger"):
        conv_output(3, 5)
    with pytest.raises(ShapeError, match="The stride must be a whole number of at least 1, not 0"):
        conv_output(3, 3, 0)
    with pytest.raises(ShapeError, match=r"The padding .* not -1"):
        conv_output(3, 3, 1, -1)
    with pytest.raises(ShapeError, match="A window of 2"):
        pool_output(7, 2)
    assert pool_output(7, 2, ceil=True) == 4
    assert pool_output(5, 3, 1) == 3


def test_output_sizes_are_torchs():
    for size, k, s, p, d in itertools.product(range(1, 9), range(1, 4), (1, 2, 3), (0, 1), (1, 2)):
        x = torch.empty(1, 1, size, device="meta")
        try:
            mine = conv_output(size, k, s, p, d)
        except ShapeError:
            whole = (size + 2 * p - d * (k - 1) - 1) % s == 0 and size + 2 * p >= d * (k - 1) + 1
            assert not whole
        else:
            assert nn.Conv1d(1, 1, k, s, p, d, device="meta")(x).shape[-1] == mine
        if p <= k // 2 and d == 1 and size + 2 * p >= k:
            pooled = nn.MaxPool1d(k, s, p, ceil_mode=True)(torch.zeros(1, 1, size)).shape[-1]
            if pooled == pool_output(size, k, s, p, ceil=True) - 1:  # torch drops a window that begins in the padding
                assert (pooled) * s >= size + p
            else:
                assert pooled == pool_output(size, k, s, p, ceil=True)


def test_parameter_counts():
    assert parameters(MLP(784, 10, (256,))) == 203_530  # the notes' figure
    assert parameters(nn.Conv2d(3, 10, 5)) == 760
    assert parameters(LinearRegression(16, 4, bias=False)) == 64  # the one-hot Q-network of FrozenLake
    lecture = CNN((1, 28, 28), 10, (32, 64, 128), widths=(625,), dropout=0.3, dense_dropout=0.5)
    rows = {row.name: row for row in layer_table(lecture, (28, 28))}
    assert parameters(lecture) == sum(row.parameters for row in rows.values()) == 1_379_557
    expected = {"conv1": 320, "conv2": 18_496, "conv3": 73_856, "dense_linear1": 1_280_625}
    assert {name: rows[f"trunk.{name}"].parameters for name in expected} == expected
    assert rows["head"].parameters == 6_260
    assert rows["trunk.pool3"].output == (128, 4, 4)
    assert rows["trunk.conv1"].activation_bytes == 25_088 * 4
    assert rows["input"].activation_bytes == 784 * 4
    text = table_text(list(rows.values()))
    assert "1,379,557" in text.splitlines()[-1]
    assert (
        parameters(CNN((1, 28, 28), 10, (32, 64, 128), widths=(625,), bias=False)) == 1_379_333
    )  # the notes' own code
    simple = CNN((1, 28, 28), 10, (32, 64))
    assert {r.name: r.output for r in layer_table(simple, (28, 28))}["trunk.flatten"] == (3136,)


def test_a_layer_table_leaves_the_model_as_it_was():
    model = CNN((1, 8, 8), 2, (3,), norm=True)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    expected = torch.get_rng_state()
    layer_table(model, (8, 8))
    assert model.training
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), expected)
    with pytest.raises(ShapeError, match=r"does not accept inputs of shape \(5, 5\)"):
        layer_table(model, (5, 5))


def test_parameters_of_a_module_with_children_count_too():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale, self.layer = nn.Parameter(torch.ones(3)), nn.Linear(3, 3)

        def forward(self, x):
            return self.layer(x) * self.scale

    assert [(row.name, row.parameters) for row in layer_table(Scaled(), (3,))] == [("input", 0), ("layer", 12), ("", 3)]


@pytest.mark.parametrize("pool", ["max", "average", "fractional", None])
@pytest.mark.parametrize("block", ["plain", "vgg", "residual"])
@pytest.mark.parametrize("end", [None, "max", "average"])
def test_cnn_of_every_kind(block, pool, end):
    for norm in (False, True):
        model = CNN(
            (2, 13, 11), 5, (4, 6), block=block, pool=pool, global_pool=end, norm=norm, widths=(7,), dropout=0.1
        )
        y = model(torch.randn(3, 2, 13, 11))
        assert y.shape == (3, 5)
        y.sum().backward()
        assert all(p.grad is not None for p in model.parameters())


def test_the_network_of_atari():
    model = CNN(
        (4, 84, 84),
        6,
        (32, 64, 64),
        kernel=(8, 4, 3),
        stride=(4, 2, 1),
        padding=0,
        pool=None,
        widths=(512,),
        loss="huber",
    )
    assert parameters(model) == 1_687_206  # Mnih et al. 2015 with 6 actions
    assert model(torch.zeros(2, 4, 84, 84)).shape == (2, 6)


def test_cnns_that_do_not_fit():
    with pytest.raises(ShapeError, match=r"Stage 1 of the CNN: A filter of 8 does not fit into 7 with padding 0"):
        CNN((4, 7, 84), 6, (32,), kernel=8, stride=4, padding=0)
    floored = CNN((4, 82, 85), 6, (32,), kernel=8, stride=4, padding=0, pool=None)  # rounded down, as torch does
    assert floored(torch.zeros(2, 4, 82, 85)).shape == (2, 6)
    with pytest.raises(ShapeError, match="too small for 2x2 pooling"):
        CNN((1, 2, 2), 6, (3, 3, 3))
    with pytest.raises(ShapeError, match=r"\(channels, height, width\), not \(28, 28\)"):
        CNN((28, 28), 10)
    with pytest.raises(ValueError, match="There are 2 values of kernel for 3 stages"):
        CNN((1, 28, 28), 10, (3, 3, 3), kernel=(3, 3))
    with pytest.raises(ValueError, match=r"There is no block 'vgh'\. Did you mean 'vgg'\?"):
        CNN((1, 28, 28), 10, block="vgh")
    with pytest.raises(ShapeError, match="A vgg block keeps the size"):
        CNN((1, 28, 28), 10, block="vgg", kernel=4)


def test_residual_adds_what_goes_past():
    block = CNN((3, 5, 5), 2, (3,), block="residual", pool=None).trunk.residual1
    for parameter in block.inner.parameters():
        nn.init.zeros_(parameter)
    x = torch.rand(2, 3, 5, 5)
    assert torch.equal(block(x), x)


def test_former_names_work_and_warn():
    with pytest.warns(DeprecationWarning, match=r"layers\.initialise is deprecated .* use .*layers\.initialize"):
        assert layers.initialise is initialize
    with pytest.warns(DeprecationWarning, match="INITIALISERS"):
        assert layers.INITIALISERS is layers.INITIALIZERS
    with pytest.raises(AttributeError, match="no attribute 'initialization'"):
        layers.initialization  # noqa: B018  (reading it raises)


def test_initializers():
    torch.manual_seed(0)

    def weight(how, n=400, m=600):
        return initialize(nn.Linear(m, n), how).weight

    assert (weight("zeros") == 0).all()
    assert weight("normal(0.01)").std().item() == pytest.approx(0.01, rel=0.02)
    assert weight("normal").std().item() == pytest.approx(1, rel=0.02)
    cut = weight("truncated_normal(0.1)")
    assert 0.15 < cut.abs().max() <= 0.2
    assert cut.std().item() == pytest.approx(0.088, rel=0.02)  # of a normal cut at two deviations
    limit = math.sqrt(6 / 1000)
    assert limit * 0.99 < weight("xavier").abs().max() <= limit
    assert weight("he").std().item() == pytest.approx(math.sqrt(2 / 600), rel=0.02)
    assert weight("lecun").std().item() == pytest.approx(math.sqrt(1 / 600), rel=0.02)
    layer = initialize(nn.Linear(3, 3), "he")
    assert (layer.bias == 0).all()
    norm = initialize(nn.LayerNorm(3), "xavier")
    assert (norm.weight == 1).all()
    torch.manual_seed(1)
    plain = nn.Linear(3, 3)
    torch.manual_seed(1)
    assert torch.equal(initialize(nn.Linear(3, 3), "torch").weight, plain.weight)
    for bad, said in (
        ("xavir", r"no initializer 'xavir'\. Did you mean 'xavier'"),
        ("he(2)", "takes no number"),
        ("normal(0)", "above 0, not 0"),
        ("normal(-1)", "above 0"),
        ("normal(e)", "above 0"),
        (3, "no initializer 3"),
    ):
        with pytest.raises(ValueError, match=said):
            initialize(nn.Linear(2, 2), bad)


def test_activations_by_name():
    x = torch.tensor([-2.0, 0.0, 3.0])
    expected = {
        "identity": x,
        "relu": [0, 0, 3],
        "leaky_relu": [-0.02, 0, 3],
        "tanh": [math.tanh(-2), 0, math.tanh(3)],
        "sigmoid": [1 / (1 + math.exp(2)), 0.5, 1 / (1 + math.exp(-3))],
        "elu": [math.exp(-2) - 1, 0, 3],
    }
    for name, values in expected.items():
        torch.testing.assert_close(layers.activation(name)(x), torch.as_tensor(values).float())
    with pytest.raises(ValueError, match=r"no activation 'rellu'\. Did you mean 'relu'\?"):
        MLP(3, 2, activation="rellu")


def test_regressions_are_one_layer():
    for kind, loss in (
        (LinearRegression, "mse"),
        (LogisticRegression, "binary_cross_entropy"),
        (SoftmaxRegression, "cross_entropy"),
    ):
        model = kind(6, 3)
        assert model.loss == loss
        x = torch.randn(4, 2, 3)
        torch.testing.assert_close(model(x), x.flatten(1) @ model.head.weight.T + model.head.bias)
        assert Stack(lambda kind=kind: kind(6, 3), [0, 1]).batched
    for bad in (0, -1, 2.5, True, "3"):
        with pytest.raises(ValueError, match="whole number of at least 1"):
            LinearRegression(bad)


def test_mlp_layers_in_order():
    names = [name for name, _ in MLP(4, 2, (8, 8), norm="batch", dropout=0.1, activation="tanh").trunk.named_children()]
    assert names == ["flatten", "linear1", "norm1", "tanh1", "dropout1", "linear2", "norm2", "tanh2", "dropout2"]
    assert MLP(4, 2, ())(torch.zeros(3, 4)).shape == (3, 2)
    for settings in ({"dropout": 1.0}, {"dropout": -0.1}, {"norm": "layers"}, {"widths": (0,)}):
        with pytest.raises(ValueError, match=r"dropout must lie in|Did you mean 'layer'|widths\[0\] must be"):
            MLP(4, 2, **settings)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("count", [1, 2])
def test_rnn_in_five_shapes(cell, count):
    many, one = torch.randn(3, 6, 4), torch.randn(3, 4)
    cases = {
        "one-to-one": (one, None, (3, 2)),
        "one-to-many": (one, 5, (3, 5, 2)),
        "many-to-one": (many, None, (3, 2)),
        "many-to-many": (many, None, (3, 6, 2)),
        "sequence-to-sequence": (many, 5, (3, 5, 2)),
    }
    for shape, (x, steps, expected) in cases.items():
        model = RNN(4, 2, 8, cell=cell, shape=shape, steps=steps, layers=count)
        y, state = model(x)
        assert y.shape == expected, shape
        assert (state[0] if cell == "lstm" else state).shape == (count, 3, 8)
        y.sum().backward()
        assert all(p.grad is not None for p in model.parameters()), shape


def test_rnn_reads_on_where_it_stopped():
    for cell in ("rnn", "lstm", "gru"):
        model, x = RNN(4, 2, 8, cell=cell, layers=2), torch.randn(3, 10, 4)
        whole, last = model(x)
        first, state = model(x[:, :6])
        second, end = model(x[:, 6:], state)
        torch.testing.assert_close(torch.cat([first, second], 1), whole)
        torch.testing.assert_close(end, last)
        step = RNN(4, 2, 8, cell=cell, shape="one-to-one", layers=2)
        step.load_state_dict(model.state_dict())
        state = None
        for t in range(10):
            y, state = step(x[:, t], state)
            torch.testing.assert_close(y, whole[:, t])


def test_rnn_by_hand():
    model = RNN(1, 1, 1, cell="rnn")
    for name, value in (("weight_ih_l0", 0.5), ("weight_hh_l0", 2.0), ("bias_ih_l0", 0.1), ("bias_hh_l0", 0.0)):
        nn.init.constant_(getattr(model.trunk.cell, name), value)
    nn.init.constant_(model.head.weight, 3.0)
    nn.init.constant_(model.head.bias, 1.0)
    first = math.tanh(0.5 * 2 + 0.1)
    second = math.tanh(0.5 * -1 + 0.1 + 2 * first)
    y, _ = model(torch.tensor([[[2.0], [-1.0]]]))
    assert y.flatten().tolist() == pytest.approx([1 + 3 * first, 1 + 3 * second])


def test_characters_as_one_hot_or_embedding():
    model = RNN(5, 5, 8)
    numbers = torch.tensor([[0, 3, 4]])
    torch.testing.assert_close(model(numbers)[0], model(nn.functional.one_hot(numbers, 5).float())[0])
    assert RNN(5, 5, 8, embedding=3).trunk.embedding.weight.shape == (5, 3)
    assert RNN(5, 5, 8, embedding=3)(numbers)[0].shape == (1, 3, 5)
    with pytest.raises(ValueError, match="Only a many-to-many model can generate sequences, not a many-to-one"):
        free_running(RNN(5, 5, shape="many-to-one"), numbers, 3)
    assert free_running(model, numbers, 4).shape == (1, 4)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"cell": "ltsm"}, r"no cell 'ltsm'\. Did you mean 'lstm'"),
        ({"shape": "many-to-few"}, "no shape 'many-to-few'"),
        ({"shape": "one-to-many"}, "needs steps"),
        ({"steps": 3}, "has no steps"),
        ({"dropout": 0.5}, "needs at least two layers"),
        ({"layers": 0}, "layers must be a whole number"),
        ({"embedding": 0}, "embedding must be a whole number"),
    ],
)
def test_rnns_that_cannot_be(settings, said):
    with pytest.raises(ValueError, match=said):
        RNN(4, 2, **settings)
