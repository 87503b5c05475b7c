"""CartPole and MountainCar without velocities in arrays, see `envs.views`."""

from __future__ import annotations

from typing import Any

from envs import views
from envs.native.arrays import Arrays
from envs.native.classic import CartPole, Classic, MountainCar
from envs.native.game import State


class Partial(Classic):
    """A classic-control game in which only some components of the state are observed."""

    def see(self, view: views.Components) -> None:
        """Return the same observations as this wrapper."""
        self.keep, self.scale = view.keep, view.scale
        self.observation_space = view.observation_space

    def observe(self, state: State) -> Any:
        arrays, parts = self.arrays, tuple(state.values())
        rounded = (arrays.cast(arrays.cast(parts[i], "float32"), "float64") for i in self.keep)  # as Gymnasium observes
        scaled = tuple(part / scale for part, scale in zip(rounded, self.scale.tolist(), strict=True))
        return arrays.columns(scaled, "float32")


class CartPoleNoVelocity(Partial, CartPole):
    """`envs/CartPole-NoVelocity-v1`."""

    def __init__(self, arrays: Arrays, **settings: Any) -> None:
        super().__init__(arrays)
        self.see(views.cart_pole(**settings))


class MountainCarNoVelocity(Partial, MountainCar):
    """`envs/MountainCar-NoVelocity-v0`."""

    def __init__(self, arrays: Arrays, **settings: Any) -> None:
        super().__init__(arrays)
        self.see(views.mountain_car(**settings))
