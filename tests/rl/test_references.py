"""Targets, losses, heads, returns and the replay's numbers beside those of rlax, and of formulas recomputed from papers."""

import functools
import inspect
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT

from rl import losses, targets

FILE = Path(__file__).parent / "references" / "references.npz"
NAMES = sorted({key.split("/")[0] for key in np.load(FILE).files if "/" in key})


@pytest.fixture(scope="module")
def references():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "scripts"))
        from benchmarks import references

        yield references


@functools.cache
def contents(references):
    return references.read(FILE)


@pytest.mark.parametrize("name", NAMES)
def test_ours_are_the_references(name, references):
    inputs, outputs = contents(references)[1][name]
    assert all(len(part) == 20 for part in (*inputs.values(), *outputs.values()))
    for function, precision, most in references.precisions(name):
        assert references.difference(function(inputs, precision), outputs) <= most


def test_the_file_has_every_case_and_says_where_it_comes_from(references):
    provenance, cases = contents(references)
    assert set(cases) == set(references.CASES) == set(references.OURS) | set(references.OWN)
    assert provenance["sources"] == {name: case.source for name, case in references.CASES.items()}
    assert set(provenance["versions"]) == {"rlax", "jax", "numpy"}
    assert provenance["command"].startswith("python scripts/benchmarks/references.py")
    assert FILE.stat().st_size < 1_000_000


def test_every_target_and_loss_has_a_reference(references):
    text = Path(inspect.getsourcefile(references.OURS["q_learning"])).read_text()
    for module in (targets, losses):
        public = [name for name, f in inspect.getmembers(module, inspect.isfunction) if f.__module__ == module.__name__]
        for name in set(public) - {"select", "scatter_to_action"}:  # those two pick numbers and change none
            assert name.startswith("_") or f"{module.__name__.split('.')[-1]}.{name}(" in text, name


@pytest.mark.parametrize("name", ["q_learning", "lambda_return", "quantile", "scalar_masked", "table_q_lambda"])
def test_the_inputs_are_those_of_the_command(name, references):
    inputs, _ = contents(references)[1][name]
    again = references.CASES[name].inputs(references.rng_of(0, name), 20)
    for key, part in again.items():
        np.testing.assert_array_equal(inputs[key], part)


def test_the_inputs_have_what_goes_wrong(references):
    """Ties, discounts of 0 with NaN behind them, masks; atoms hit exactly, targets beyond the support."""
    cases = contents(references)[1]
    given = cases["q_learning"][0]
    top = np.sort(given["next_q"], -1)
    assert (top[..., -1] == top[..., -2]).any()
    assert (given["discount"] == 0).any()
    assert np.isnan(given["next_q"][given["discount"] == 0]).all()
    assert not given["mask"].all()
    values = cases["projected"][0]["values"]
    assert (np.abs(values) > 4).any()
    assert (values % 0.5 == 0).any()
    assert np.isnan(cases["n_step"][0]["reward"]).any()


def test_a_difference_is_seen(references):
    one = {"x": np.array([1.0, np.nan, 100.0])}
    assert references.difference(one, one) == 0
    assert references.difference({"x": np.array([1.0, np.nan, 100.1])}, one) == pytest.approx(1e-3)  # relative above 1
    assert references.difference({"x": np.array([1.5, np.nan, 100.0])}, one) == 0.5
    assert references.difference({"x": np.array([1.0, 0.0, 100.0])}, one) == np.inf
    with pytest.raises(ValueError, match="Our outputs are"):
        references.difference({"y": one["x"]}, one)
