"""Verification that an environment behaves like its model: both are stepped with the same random numbers and compared."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from gymnasium.utils import seeding

from envs.model.kernel import ModelState, model_reset, model_step, world_of
from envs.model.model import Model, NoModelError

CHECKED_PAIRS = 20_000  # maximum number of (state, action) pairs to try
CHECKED_STEPS = 2_000


def proved(base: Any, model: Model) -> Model:
    """Step `base` and `model` side by side and return the model with `step_draws` and `reset_draws`.

    Raises NoModelError if they differ.
    """
    first, _ = base.reset(seed=0)
    allowed = np.ones((model.states, model.actions), np.bool_) if model.mask is None else model.mask
    if not isinstance(getattr(base, "np_random", None), np.random.Generator):
        raise NoModelError(f"{model.name} has P, but its random generator cannot be read.")
    twin = seeding.np_random(0)[0]
    reset_draws = _state(base) != _state_of(twin)
    before = _state(base)
    base.step(int(allowed[int(first)].argmax()))
    model = dataclasses.replace(model, reset_draws=reset_draws, step_draws=_state(base) != before)

    world = world_of(model, np.zeros(1, np.int64), np.zeros(1, np.int64), (twin,))
    actions = np.random.default_rng(0).integers(model.actions, size=CHECKED_STEPS)
    observation, info = base.reset(seed=0)
    twin.bit_generator.state = seeding.np_random(0)[0].bit_generator.state
    _compare(base, model, "reset", observation, model_reset(world, 0), twin)
    _compare_mask(model, "reset", int(observation), info)
    for drawn in actions.tolist():
        s = int(world.state[0])
        a = drawn if allowed[s, drawn] else int(allowed[s].argmax())
        terminated = _compare_step(base, model, world, s, a, twin)
        if terminated or world.elapsed[0] >= 200:
            observation, info = base.reset()
            _compare(base, model, "reset", observation, model_reset(world, 0), twin)
            _compare_mask(model, "reset", int(observation), info)
    if isinstance(getattr(base, "s", None), (int, np.integer)):
        pairs = np.argwhere(allowed).tolist()
        stride = max(1, len(pairs) // CHECKED_PAIRS)
        for s, a in pairs[::stride]:
            base.s = s
            world.state[0] = s
            _compare_step(base, model, world, s, a, twin)
    return model


def _compare_step(base: Any, model: Model, world: ModelState, s: int, a: int, twin: np.random.Generator) -> bool:
    observation, reward, terminated, truncated, info = base.step(a)
    s2, model_reward, model_terminated, _ = model_step(world, 0, a)
    place = f"in state {s}, action {a}"
    _compare(base, model, place, observation, s2, twin)
    if float(reward) != model_reward or bool(terminated) != bool(model_terminated) or truncated:
        raise NoModelError(f"{model.name} does not behave like its P: {place}, reward or termination differs.")
    _compare_mask(model, place, s2, info, bool(terminated))
    if isinstance(info, dict) and not np.array_equal(info.get("discount", 1.0), 1.0):
        raise NoModelError(f"{model.name} returns a discount in info ({place}), which its model does not have.")
    return bool(terminated)


def _compare_mask(model: Model, place: str, state: int, info: Any, over: bool = False) -> None:
    """Raise NoModelError if the mask in `info` differs from the model's; an all-zero mask at an episode's end is ignored."""
    given = info.get("action_mask") if isinstance(info, dict) else None
    if given is None and model.mask is None:
        return
    found = np.ones(model.actions, np.bool_) if given is None else np.asarray(given).ravel() != 0
    if given is not None and found.size == model.actions and not found.any() and over:
        found = np.ones(model.actions, np.bool_)
    wanted = np.ones(model.actions, np.bool_) if model.mask is None else model.mask[state]
    if not np.array_equal(found, wanted):
        raise NoModelError(
            f"{model.name} returns action masks ({place}) that differ from its model's, action_mask(state)."
        )


def _compare(base: Any, model: Model, place: str, observation: Any, state: int, twin: np.random.Generator) -> None:
    if int(observation) != state:
        raise NoModelError(
            f"{model.name} does not behave like its P: {place}, the observation is {observation}, not {state}."
        )
    if _state(base) != _state_of(twin):
        raise NoModelError(f"{model.name} does not draw random numbers as P requires ({place}).")


def _state(base: Any) -> Any:
    return _state_of(base.np_random)


def _state_of(rng: np.random.Generator) -> Any:
    return rng.bit_generator.state
