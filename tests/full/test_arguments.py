"""Every argument of every public callable: wrong ones get a sentence, scalars of numpy and torch are taken as numbers."""

from __future__ import annotations

import dataclasses

import catalogue
import pytest
from arguments import attempt, fault, replaced, scalars

pytestmark = pytest.mark.full


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # for what is named "x" and made


@pytest.mark.parametrize("group", catalogue.GROUPS)
@pytest.mark.timeout(900)
def test_wrong_arguments_are_sentences(group):
    """No traceback from inside numba, numpy or torch, and what was called still works."""
    faults, tried = [], 0
    for case in catalogue.GROUPS[group]():
        assert attempt(case, case.valid) is None, case.name
        for argument, what, arguments in replaced(case):
            tried += 1
            error = attempt(case, arguments)
            why = None if error is None else fault(error)
            if why is not None:
                faults.append(f"{case.name}({argument}={what}): {why}")
        assert attempt(case, case.valid) is None, f"{case.name} is broken by a wrong argument"
    assert not faults
    assert tried > 300


@pytest.mark.timeout(900)
def test_scalars_of_numpy_and_torch_are_numbers():
    refused, tried = [], 0
    for group in catalogue.GROUPS.values():
        for case in group():
            for name, value in case.valid.items():
                for make in scalars(value) if isinstance(value, (bool, int, float)) else ():
                    tried += 1
                    given = {**case.valid, name: make(value)}
                    error = attempt(case, given)
                    if error is not None:
                        refused.append(f"{case.name}({name}={given[name]!r}): {error}")
                    elif isinstance(case.call, type) and dataclasses.is_dataclass(case.call):
                        assert type(getattr(case.call(**given), name)) in (bool, int, float), (case.name, name)
    assert not refused
    assert tried > 3000
