"""Networks of one's own: what is none is told of in a sentence, and a file that lacks one is not called damaged."""

import pytest
from torch import nn

import rl


def start(network, seeds=1, **settings):
    return rl.start("CartPole-v1", rl.DQN(network=network, learn_after_steps=10, batch_size=8, **settings), seeds)


class Recurrent(nn.Module):
    def __init__(self, space, outputs):
        super().__init__()
        self.cell, self.head = nn.LSTM(4, 8), nn.Linear(8, outputs)

    def forward(self, x):
        y, state = self.cell(x[None])
        return self.head(y[0]), state


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (nn.Linear(4, 2), r"not an existing module \(Linear\(in_features=4.*on_trunk"),
        (nn.Linear, r"Linear\(observation_space, 2\) failed: .*Box"),
        (Recurrent, r"must return a tensor of values \[B, 2\], not a tuple; a recurrent one maps sequences"),
        ("gur(8)", "There is no network 'gur'. Did you mean 'gru'"),
        (lambda: nn.Linear(4, 2), "called with observation_space, outputs; <lambda> takes none"),
        (lambda space, outputs: nn.Linear, r"must return a torch\.nn\.Module, not type"),
        (lambda space, outputs: nn.Linear(4, 3), r"to values \[B, 2\].* it returns \[2, 3\]"),
    ],
)
def test_what_is_no_network(network, said):
    with pytest.raises((TypeError, ValueError), match=said):
        start(network)


def test_a_mask_takes_observations():
    with pytest.raises(ValueError, match=r"mask must be a function .* called with observations; <lambda> takes none"):
        rl.DQN(mask=lambda: None)


def test_the_target_network_is_another():
    net = nn.Linear(4, 2)
    with pytest.raises(ValueError, match="online and target networks need their own"):
        start(lambda space, outputs: net)
    start(lambda space, outputs: net, target_every_updates=None)


def test_a_file_without_its_function_is_whole(tmp_path):
    run = start(lambda space, outputs: nn.Linear(4, outputs))
    run.save(tmp_path / "run")
    run.policy().save(tmp_path / "policy")
    for load, name in ((rl.load, "run"), (rl.load_policy, "policy")):
        with pytest.raises(
            rl.CheckpointError, match=r"contains no code\..*network=.*<lambda>, .*pass it again"
        ) as told:
            load(tmp_path / name)
        assert "damaged" not in str(told.value)
        with pytest.raises(rl.CheckpointError, match=r"does not match the given function.*a different model"):
            load(tmp_path / name, network=lambda space, outputs: nn.Sequential(nn.Linear(4, outputs)))
        with pytest.raises(ValueError, match=r"^network must be .*not an existing module"):
            load(tmp_path / name, network=nn.Linear(4, 2))
        load(tmp_path / name, network=lambda space, outputs: nn.Linear(4, outputs))


def test_a_file_whose_description_is_not_imported_is_whole(tmp_path, monkeypatch):
    class Other(rl.DQN):
        pass

    from rl.core import registry

    with monkeypatch.context() as patch:
        patch.setitem(registry.TYPES, "Other", Other)
        patch.setitem(registry.AGENTS, "Other", Other)
        rl.start("CartPole-v1", Other(), 1).save(tmp_path / "run")
    with pytest.raises(rl.CheckpointError, match=r"'Other' is not one of the registered configs.* is imported") as told:
        rl.load(tmp_path / "run")
    assert "damaged" not in str(told.value)
