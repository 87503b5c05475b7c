"""CartPole, MountainCar and Acrobot in arrays: Gymnasium's equations, in the same order of operations, in float64.

Each copy has its own PCG64 generator, from which resets draw as in Gymnasium. A copy with a seed therefore follows the
trajectory of `gym.make(...)` with that seed bit for bit, provided numpy's sine and cosine equal those of the scalar code.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.envs.classic_control import AcrobotEnv, CartPoleEnv, MountainCarEnv

from envs.native.arrays import Arrays
from envs.native.draws import Generators
from envs.native.game import State


class Classic:
    """The base class of the three: they share the settings and spaces of Gymnasium's original, and steps are deterministic."""

    original: ClassVar[Any]
    step_draws = 0
    reset_draws: int
    draws = Generators
    limit: int | None = None
    persistent: tuple[str, ...] = ()

    def __init__(self, arrays: Arrays) -> None:
        self.arrays, self.env = arrays, self.original()
        self.observation_space: gym.Space[Any] = self.env.observation_space
        self.action_space: gym.spaces.Discrete = self.env.action_space

    def mask(self, state: State) -> None:
        """Return None: all actions are allowed."""

    def picture(self, state: State) -> np.ndarray:
        """Render by the original environment."""
        drawn = self.original(render_mode="rgb_array")
        drawn.reset()
        drawn.state = self.original_state(state)
        picture: np.ndarray = drawn.render()
        drawn.close()
        return picture

    def original_state(self, state: State) -> Any:
        """Return the original's `state` for one copy, arrays [1, ...]."""
        return np.array([part[0] for part in state.values()])

    def _uniform(self, low: float, high: float, draws: Any) -> Any:
        return low + (high - low) * draws  # as numpy's Generator.uniform


class CartPole(Classic):
    """Barto, Sutton and Anderson (1983), as `CartPole-v1`."""

    original = CartPoleEnv
    reset_draws = 4

    def reset(self, draws: Any) -> State:
        first = self._uniform(-0.05, 0.05, draws)
        return {name: first[:, i] for i, name in enumerate(("x", "x_dot", "theta", "theta_dot"))}

    def transition(self, state: State, action: Any, draws: Any) -> tuple[State, Any, Any]:
        env, xp = self.env, self.arrays.xp
        x, x_dot, theta, theta_dot = state.values()
        force = action * (2 * env.force_mag) - env.force_mag
        cos, sin = xp.cos(theta), xp.sin(theta)
        temp = (force + env.polemass_length * xp.square(theta_dot) * sin) / env.total_mass
        theta_acc = (env.gravity * sin - cos * temp) / (
            env.length * (4.0 / 3.0 - env.masspole * xp.square(cos) / env.total_mass)
        )
        x_acc = temp - env.polemass_length * theta_acc * cos / env.total_mass
        x = x + env.tau * x_dot
        theta = theta + env.tau * theta_dot
        state = {"x": x, "x_dot": x_dot + env.tau * x_acc, "theta": theta, "theta_dot": theta_dot + env.tau * theta_acc}
        terminated = (abs(x) > env.x_threshold) | (abs(theta) > env.theta_threshold_radians)
        return state, xp.ones_like(x, dtype=xp.float32), terminated

    def observe(self, state: State) -> Any:
        return self.arrays.columns(tuple(state.values()), "float32")


class MountainCar(Classic):
    """Moore (1990), as `MountainCar-v0`."""

    original = MountainCarEnv
    reset_draws = 1

    def reset(self, draws: Any) -> State:
        position = self._uniform(-0.6, -0.4, draws[:, 0])
        return {"position": position, "velocity": self.arrays.xp.zeros_like(position)}  # 0 * position would be -0.0

    def transition(self, state: State, action: Any, draws: Any) -> tuple[State, Any, Any]:
        env, xp = self.env, self.arrays.xp
        position, velocity = state.values()
        velocity = velocity + ((action - 1) * env.force + xp.cos(3 * position) * (-env.gravity))
        velocity = xp.clip(velocity, -env.max_speed, env.max_speed)
        position = xp.clip(position + velocity, env.min_position, env.max_position)
        velocity = xp.where((position == env.min_position) & (velocity < 0), xp.zeros_like(velocity), velocity)
        terminated = (position >= env.goal_position) & (velocity >= env.goal_velocity)
        return {"position": position, "velocity": velocity}, -xp.ones_like(position, dtype=xp.float32), terminated

    def observe(self, state: State) -> Any:
        return self.arrays.columns(tuple(state.values()), "float32")


class Acrobot(Classic):
    """Sutton (1996), as `Acrobot-v1`: the book's equations, integrated by one Runge-Kutta step of order 4."""

    original = AcrobotEnv
    reset_draws = 4

    def reset(self, draws: Any) -> State:
        # Gymnasium rounds the first state to float32.
        first = self.arrays.cast(self.arrays.cast(self._uniform(-0.1, 0.1, draws), "float32"), "float64")
        return {name: first[:, i] for i, name in enumerate(("theta1", "theta2", "dtheta1", "dtheta2"))}

    def transition(self, state: State, action: Any, draws: Any) -> tuple[State, Any, Any]:
        env, xp = self.env, self.arrays.xp
        torque = self.arrays.cast(action, "float64") - 1.0
        y = tuple(state.values())
        dt = env.dt
        k1 = self._slope(y, torque)
        k2 = self._slope(tuple(a + dt / 2.0 * b for a, b in zip(y, k1, strict=True)), torque)
        k3 = self._slope(tuple(a + dt / 2.0 * b for a, b in zip(y, k2, strict=True)), torque)
        k4 = self._slope(tuple(a + dt * b for a, b in zip(y, k3, strict=True)), torque)
        theta1, theta2, dtheta1, dtheta2 = (
            a + dt / 6.0 * (p + 2 * q + 2 * r + s) for a, p, q, r, s in zip(y, k1, k2, k3, k4, strict=True)
        )
        theta1, theta2 = self._wrap(theta1), self._wrap(theta2)
        dtheta1 = xp.clip(dtheta1, -env.MAX_VEL_1, env.MAX_VEL_1)
        dtheta2 = xp.clip(dtheta2, -env.MAX_VEL_2, env.MAX_VEL_2)
        terminated = -xp.cos(theta1) - xp.cos(theta2 + theta1) > 1.0
        reward = self.arrays.cast(terminated, "float32") - 1
        return {"theta1": theta1, "theta2": theta2, "dtheta1": dtheta1, "dtheta2": dtheta2}, reward, terminated

    def _wrap(self, angle: Any) -> Any:
        """Bring angles, which move by less than two turns a step, into [-pi, pi]."""
        xp, turn = self.arrays.xp, 2 * math.pi
        for _ in range(2):
            angle = xp.where(angle > math.pi, angle - turn, angle)
            angle = xp.where(angle < -math.pi, angle + turn, angle)
        return angle

    def _slope(self, y: tuple[Any, ...], torque: Any) -> tuple[Any, ...]:
        """Return the time derivatives of the state."""
        xp = self.arrays.xp
        theta1, theta2, dtheta1, dtheta2 = y
        cos2, sin2 = xp.cos(theta2), xp.sin(theta2)
        # Masses and lengths are 1, centers of mass lie at 0.5.
        d1 = 0.25 + (1.0 + 0.25 + 2 * 0.5 * cos2) + 1.0 + 1.0
        d2 = (0.25 + 0.5 * cos2) + 1.0
        phi2 = 0.5 * 9.8 * xp.cos(theta1 + theta2 - math.pi / 2.0)
        phi1 = (
            -0.5 * xp.square(dtheta2) * sin2
            - 2 * 0.5 * dtheta2 * dtheta1 * sin2
            + (0.5 + 1.0) * 9.8 * xp.cos(theta1 - math.pi / 2)
            + phi2
        )
        ddtheta2 = (torque + d2 / d1 * phi1 - 0.5 * xp.square(dtheta1) * sin2 - phi2) / (
            0.25 + 1.0 - xp.square(d2) / d1
        )
        return dtheta1, dtheta2, -(d2 * ddtheta2 + phi1) / d1, ddtheta2

    def observe(self, state: State) -> Any:
        xp = self.arrays.xp
        theta1, theta2, dtheta1, dtheta2 = state.values()
        parts = (xp.cos(theta1), xp.sin(theta1), xp.cos(theta2), xp.sin(theta2), dtheta1, dtheta2)
        return self.arrays.columns(parts, "float32")
