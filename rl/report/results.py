"""The results of a run, as JSON values."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from supervised.session.results import about, number, summary

if TYPE_CHECKING:
    from rl.run.run import Run

NEAR = 0.99  # a seed is near-optimal if it reaches this fraction of the optimum


def result(run: Run, episodes: int = 100) -> dict[str, Any]:
    """Return the results of a run as JSON values: exact if the model is known, else by episodes. Unknown values are None."""
    exact = run.exact
    figures: dict[str, Any] = {"evaluation": "exact" if exact is not None else f"{episodes} episodes a seed"}
    if exact is None:
        evaluation = run.evaluate(episodes)
        figures |= {
            "step_limit": evaluation.step_limit,
            "return": summary(evaluation.per_seed, run.seeds, *evaluation.possible),
        }
        return figures | _about(run)
    policies = exact.policies(run.agent)
    value = exact.value(policies)
    figures |= {
        "step_limit": exact.horizon,
        "return": summary(value, run.seeds, run.rewards.returns(exact.horizon)[0], exact.optimal_return),
        "best_possible": exact.optimal_return,
        "best_stationary": number(exact.optimal_stationary_return),
        "gap_to_best_possible": number(exact.optimal_return - value.mean()),
        "gap_to_best_stationary": number(exact.optimal_stationary_return - value.mean()),
        "seeds_near_best_stationary": near(value, exact.optimal_stationary_return),
    }
    if exact.model.success is not None:
        figures["success"] = summary(exact.success(policies), run.seeds, 0.0, 1.0)
    return figures | _about(run)


def near(value: np.ndarray, optimum: float) -> int | None:
    """Return the number of seeds within 1 % of the optimum (of its absolute value, if it is negative)."""
    return None if math.isnan(optimum) else int((value >= optimum - (1 - NEAR) * abs(optimum) - 1e-12).sum())


def _about(run: Run) -> dict[str, Any]:
    configuration = {**run.to_json(), "horizon_steps": run.horizon_steps, "cadence": run.cadence}
    return {"steps": run.step, "seeds": list(run.seeds), "configuration": configuration, **about()}
