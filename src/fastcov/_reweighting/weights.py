"""Weights as gains: a linear fit whose atoms are those of single channels, around any weights w₀.

A problem without centring has G with columns 2 x_i x_iᵀ, or their distances, over ordered pairs. With
w = w₀ + 2δ and A the matrix of pairs a < b, ‖A w − t‖² is half of ‖G δ − e₀‖², and ‖w − w₀‖² is 4‖δ‖². So

    ½‖A w − t‖² + (λ/2)‖w − w₀‖² = ½ [½‖G δ − e₀‖² + (8λ/2)‖δ‖²],    e₀ = S − Σ_i w₀ x_i x_iᵀ,

and the solvers of `fit` minimise it with a ridge of 8λ. Bounds of w are bounds of 1 + δ.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._fitting.settings import Outcome, Settings
from .._fitting.start import Ridge, Start
from .._model.bounds import Bounds
from .._model.channel_atoms import SQUARED_EUCLIDEAN
from .._model.problem import Problem
from .._model.products import apply_adjoint
from .._model.ridge_penalty import LARGEST_PENALTY, Penalty

Array = NDArray[np.float64]

# λ of the system of gains over λ of the weights.
RIDGE = 8.0


@dataclasses.dataclass(frozen=True, eq=False)
class WeightsStart:
    """The start of fits of weights: that of a linear fit of gains, at weights w₀."""

    plain: Start  # at weights of one
    start: Start  # at w₀
    target: Array  # S (T, D, D) in scaled units
    shrink_to: float

    @classmethod
    def of(cls, problem: Problem, S: Any, atoms: str, shrink_to: float, budget: float | None) -> WeightsStart:
        """From a problem with its pairs, and a target that is checked here."""
        target = problem.astype(np.float64).target(S)
        products = problem.unscaled(target, y=2)
        if atoms == SQUARED_EUCLIDEAN:
            products = -0.5 * products
            places = np.arange(target.shape[-1])
            products[:, places, places] = 0.0
        plain = Start.of(dataclasses.replace(problem, labels=type(problem.labels)()), products, None, budget)
        if shrink_to == 1.0:
            return cls(plain, plain, target, shrink_to)
        anchored = shrink_to * plain.covariance
        error = plain.target - anchored
        metric = plain.problem.metric
        overlaps = apply_adjoint(plain.problem, error if metric is None else metric.image(error))
        if not plain.norms.any():
            overlaps[:] = 0.0
        start = dataclasses.replace(plain, covariance=anchored, overlaps=overlaps)
        return cls(plain, start, target, shrink_to)

    def ridge(self, ridge: Any, relative: Any) -> tuple[Ridge, Any]:
        """The ridge of the gains, and λ of the weights in the caller's units."""
        found = self.plain.ridge(ridge, relative)
        if relative is not None:
            return found, found.value / RIDGE
        own, root = found.penalty.own, found.penalty.root
        with np.errstate(over="ignore"):
            own = np.minimum(RIDGE * own, LARGEST_PENALTY)
        own = float(own) if np.ndim(own) == 0 else own
        penalty = Penalty(own, None if root is None else np.sqrt(RIDGE) * root)
        return dataclasses.replace(found, penalty=penalty), found.value

    def ridges(self, values: Sequence[float]) -> list[Ridge]:
        """Many relative ridges."""
        return self.plain.ridges(values, relative=True)

    def bounds(self, bounds: Bounds | None) -> Bounds | None:
        """Bounds of weights as bounds of gains."""
        if bounds is None:
            return None
        return Bounds(*(1.0 + 0.5 * (side - self.shrink_to) for side in (bounds.lower, bounds.upper)))

    def settings(self, settings: Settings) -> Settings:
        """Settings of weights as those of gains."""
        return dataclasses.replace(settings, bounds=self.bounds(settings.bounds))

    def weights(self, outcome: Outcome, bounds: Bounds | None) -> Array:
        """w (T, N)."""
        w = self.shrink_to + 2.0 * outcome.delta
        return w if bounds is None else bounds.clip(w)
