"""The objective where groups of channels share a gain: all from `GroupForms`, without a pass over X.

With F as there, C(g) = F(g, g), the slope along v is 2 F(g, v), and with W = RᵀR E, where E = C(g) − S,

    ∇L = 2 ⟨F(g, e_a), W⟩ + P δ,    H v = 2 ⟨F(g, e_a), RᵀR 2F(g, v)⟩ + 2 ⟨F(v, e_a), W⟩ + P v
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import blas

from .._compute.trust_region_kernels import EPSILON
from .._model.group_forms import GroupForms
from .._model.packed import pack
from .objective import Objective, Point, norm

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class GroupObjective(Objective):
    """The loss of one target in the gains of groups (A,); its penalty and norms are those of groups, too."""

    forms: GroupForms

    @property
    def by_channel(self) -> bool:
        return False

    @property
    def pass_in_one_call(self) -> bool:
        return False

    @property
    def in_one_call(self) -> bool:
        return False

    def at(self, gains: Array) -> Point:
        """The value, the gradient and what products with the Hessian need. Some 6AD² flops."""
        forms, delta = self.forms, gains - 1.0
        if self.linear:
            error = 2.0 * forms.mixed(np.ones_like(gains), delta) - (self.target - self.at_one)
        else:
            error = forms.mixed(gains, gains) - self.target
        image, weighed = self._counted(error)
        around = self._around(gains)
        sums = forms.with_sums(weighed)
        gradient = 2.0 * forms.inner_known(around, weighed, sums)
        norms, second_diagonal = self.norms, None
        if not self.linear:
            second_diagonal = 2.0 * forms.second(weighed, sums)
            norms = np.empty_like(gains)
            for some in forms.blocks():
                norms[some] = np.square(forms.slopes(gains, some)).sum(axis=1)
        gradient[forms.dead] = 0.0
        pull = self.penalty.products(delta)
        gradient += pull
        value = 0.5 * norm(image) ** 2 + 0.5 * float(blas.ddot(pull, delta))
        size = 2.0 * norm(self.target) + norm(error)
        rounding = EPSILON * (size * math.sqrt(norms.sum()) + self.penalty.largest * norm(gains))
        return Point(
            gains, self.problem, self.problem, error, image, weighed, value, gradient, second_diagonal, norms,
            rounding,
        )  # fmt: skip

    def _around(self, gains: Array) -> Array:
        """The gains that the slopes are taken at."""
        return np.ones_like(gains) if self.linear else gains

    def slope(self, point: Point, v: Array) -> Array:
        return self._counted(2.0 * self.forms.mixed(self._around(point.gains), v))[0]

    def product(self, point: Point, v: Array) -> tuple[Array, Array]:
        """H v (A,), and the image of the slope of the covariance along v. Some 4AD² flops."""
        around = self._around(point.gains)
        slope, weighed = self._counted(2.0 * self.forms.mixed(around, v))
        out = 2.0 * self.forms.inner(around, weighed)
        if point.second_diagonal is not None:
            out += 2.0 * self.forms.inner(v, point.weighed)
        out[self.forms.dead] = 0.0
        out += self.penalty.products(v)
        return out, slope

    def _curve(self, point: Point, v: Array) -> Array:
        return self.forms.mixed(v, v)

    def value(self, gains: Array) -> float:
        """The value of the loss alone. Some AD² flops."""
        if self.linear:
            return self.at(gains).value
        error = self._counted(self.forms.mixed(gains, gains) - self.target)[0]
        return 0.5 * norm(error) ** 2 + 0.5 * float(self.penalty.quadratic(gains - 1.0))

    def quartics(self, point: Point) -> Array:
        """c₁ to c₄ of the loss along the gain of each group (4, A). Some 10AD² flops."""
        out, image = np.empty((4, len(self.forms))), pack(point.image[np.newaxis])
        out[0] = point.gradient
        for some in self.forms.blocks():
            line, curve = self.forms.slopes(point.gains, some), self.forms.curves(some)
            out[1, some] = 0.5 * np.square(line).sum(axis=1) + (curve * image).sum(axis=1)
            out[2, some] = (line * curve).sum(axis=1)
            out[3, some] = 0.5 * np.square(curve).sum(axis=1)
        out[1] += 0.5 * np.asarray(self.penalty.weights)
        return out
