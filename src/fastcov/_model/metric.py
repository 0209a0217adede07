"""Metric: which pairs of conditions count in the distance of covariance and target, and nuisance terms.

With weights w of pairs, the loss is ½ min over β, γ of Σ_ab w_ab (C + βI + γ11ᵀ − S)²_ab, where β or γ may be
held at zero. The minimum over β and γ is a projection. With A_r an orthonormal basis of √w ∘ {I, 11ᵀ},

    R M  = √w ∘ M − Σ_r A_r ⟨A_r, √w ∘ M⟩,    Rᵀ M = √w ∘ (M − Σ_r A_r ⟨A_r, M⟩).

R M is called the image of M. The problem is then the plain one with R G in place of G and R (S − C) in place
of S − C. I and 11ᵀ − I share no pair. So the two terms together remove the mean of the diagonal and the mean
of the rest, and no linear system has to be solved.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._compute.trust_region_kernels import image
from .._inputs.labels import UNLABELLED, Labels, by_condition
from .._inputs.validation import as_float64, check_array, nonfinite

Array = NDArray[np.float64]

TERMS = ("diagonal", "constant")
ALL, OFF_DIAGONAL = "all", "off-diagonal"


@dataclasses.dataclass(frozen=True, eq=False)
class Metric:
    """Weights of pairs, and the names of the nuisance terms."""

    nuisance: tuple[str, ...]  # some of TERMS, in that order
    weights: Array | None  # (D, D), symmetric, ≥ 0; None: all weights are one
    size: int  # D

    @classmethod
    def of(cls, nuisance: Any, pairs: Any, D: int, labels: Labels = UNLABELLED) -> Metric | None:
        """Check nuisance and pairs, and bring pairs into the order of the conditions.

        None if there are no nuisance terms and all weights are one.
        """
        terms, weights = check_nuisance(nuisance), check_pairs(pairs, D, labels)
        if not terms and weights is None:
            return None
        return cls(terms, weights, D)._checked()

    def _checked(self) -> Metric:
        if not self.n_pairs:
            raise ValueError(
                f"Argument 'pairs' must leave at least one pair of the {self.size} conditions, not none: "
                "give some a weight above zero."
            )
        if len(self.nuisance) and self.rank >= self.n_pairs:
            raise ValueError(
                f"Argument 'nuisance' must leave something of the target to gains, not span all of the "
                f"{self.n_pairs} pairs that count: name fewer terms, or let more pairs count."
            )
        return self

    def take(self, conditions: Any) -> Metric:
        """The metric restricted to some conditions."""
        index = np.arange(self.size)[conditions]
        weights = self.weights
        if weights is not None:
            weights = _unless_ones(np.ascontiguousarray(weights[np.ix_(index, index)]))
        return type(self)(self.nuisance, weights, len(index))._checked()

    # --- its parts

    @functools.cached_property
    def root(self) -> Array | None:
        """√w (D, D)."""
        return None if self.weights is None else np.sqrt(self.weights)

    @functools.cached_property
    def off_diagonal(self) -> bool:
        """Whether all pairs count alike, except those of a condition with itself, which do not count."""
        return self.weights is not None and np.array_equal(self.weights, 1.0 - np.eye(self.size))

    @functools.cached_property
    def n_pairs(self) -> int:
        """The number of pairs a ≤ b that count."""
        if self.weights is None:
            return self.size * (self.size + 1) // 2
        return int(np.count_nonzero(self.weights[np.tril_indices(self.size)]))

    @functools.cached_property
    def _totals(self) -> tuple[float, float]:
        """The total weight on the diagonal, and the total off it."""
        D = self.size
        if self.weights is None:
            return float(D), float(D * (D - 1))
        trace = float(np.trace(self.weights))
        return trace, 2.0 * float(np.tril(self.weights, -1).sum())

    @functools.cached_property
    def basis(self) -> Array:
        """The numbers (p, q) of each A_r = √w ∘ (p I + q (11ᵀ − I)), as rows (r, 2)."""
        on, off = self._totals
        rows = []
        if self.nuisance == ("constant",):
            both = 1.0 / np.sqrt(on + off)
            rows.append((both * (on > 0), both * (off > 0)))
        elif self.nuisance:
            if on > 0:
                rows.append((1.0 / np.sqrt(on), 0.0))
            if off > 0 and "constant" in self.nuisance:
                rows.append((0.0, 1.0 / np.sqrt(off)))
        return np.array(rows, np.float64).reshape(-1, 2)

    @property
    def rank(self) -> int:
        """The number of dimensions that nuisance terms remove."""
        return len(self.basis)

    @functools.cached_property
    def means(self) -> Array:
        """The matrix (2, 2) that maps the sums of w ∘ M, on and off the diagonal, to what is removed from M.

        The result is one value for the entries on the diagonal, and one for those off it.
        """
        return np.ascontiguousarray(self.basis.T @ self.basis)

    @functools.cached_property
    def kernel_form(self) -> tuple[Array, Array]:
        """What compiled code needs: √w, which is empty where all weights are one, and `means`."""
        return np.empty((0, 0)) if self.root is None else self.root, self.means

    @property
    def pairs(self) -> str:
        """Which pairs count, in words."""
        if self.weights is None:
            return ALL
        if self.off_diagonal:
            return OFF_DIAGONAL
        plain = np.isin(self.weights, (0.0, 1.0)).all()
        return f"{self.n_pairs} of {self.size * (self.size + 1) // 2}" + ("" if plain else ", weighted")

    # --- matrices over conditions, in stacks (..., D, D)

    def _sums(self, M: Array) -> Array:
        """The sums of M on the diagonal and off it (..., 2)."""
        on = np.trace(M, axis1=-2, axis2=-1)
        return np.stack([on, M.sum(axis=(-2, -1)) - on], axis=-1)

    def _spread(self, values: Array) -> Array:
        """Matrices that have the first of two values on the diagonal and the second off it."""
        M = np.empty((*values.shape[:-1], self.size, self.size))
        M[...] = values[..., 1, np.newaxis, np.newaxis]
        places = np.arange(self.size)
        M[..., places, places] = values[..., 0, np.newaxis]
        return M

    def image(self, M: Array) -> Array:
        """The image R M."""
        if not self.rank:
            return M if self.root is None else M * self.root
        stack = np.ascontiguousarray(M, np.float64).reshape(-1, self.size, self.size)
        out = np.empty(stack.shape)
        for matrix, left in zip(stack, out, strict=True):
            image(matrix, *self.kernel_form, left)
        return out.reshape(np.shape(M))

    def projected(self, M: Array) -> Array:
        """What the projection in R leaves of M, on the pairs that count: M itself if it is an image."""
        if self.root is None:
            return self.image(M)
        return self.image(np.divide(M, self.root, out=np.zeros(np.shape(M)), where=self.root > 0))

    def adjoint(self, M: Array) -> Array:
        """Rᵀ M."""
        if self.root is None or self.weights is None:
            return self.image(M)
        weighted: Array = M * self.root
        if not self.rank:
            return weighted
        return weighted - self._spread(self._sums(weighted) @ self.means) * self.weights

    def pull(self, M: Array) -> Array:
        """RᵀR M."""
        return self.weighed(self.image(M))

    def weighed(self, image: Array) -> Array:
        """Rᵀ of an image under R, from which the projection removes nothing more."""
        return image if self.root is None else image * self.root

    def squares(self, M: Array) -> Array:
        """Σ_ab w_ab M²_ab of each matrix of a stack (T, D, D)."""
        return np.square(M if self.root is None else M * self.root).sum(axis=(-2, -1))

    def terms(self, error: Array) -> Array:
        """The β and γ that leave the least of S − C = `error` (T, D, D), for the terms of this metric (T, r).

        A term is zero where no pair that counts tells it from the other term.
        """
        on, off = self._totals
        sums = self._sums(error if self.weights is None else error * self.weights)
        taken = sums @ self.means
        found = {"constant": taken[..., 1], "diagonal": taken[..., 0] - taken[..., 1]}
        if self.nuisance == ("diagonal",) or not off:
            zero = np.zeros_like(taken[..., 0])
            found = {name: taken[..., 0] if name == self.nuisance[0] else zero for name in self.nuisance}
        elif not on:
            found["diagonal"] = np.zeros_like(found["diagonal"])
        return np.stack([found[name] for name in self.nuisance], axis=-1) if self.nuisance else sums[..., :0]

    def added(self, coefficients: Array) -> Array:
        """βI + γ11ᵀ for coefficients (T, r), as `terms` gives them."""
        return nuisance_matrix(
            {name: coefficients[..., k] for k, name in enumerate(self.nuisance)}, self.size
        )


def nuisance_matrix(terms: dict[str, Any], D: int) -> Array:
    """βI + γ11ᵀ (D, D), or (T, D, D) for terms (T,)."""
    total = np.zeros((D, D))
    for name, matrix in zip(TERMS, (np.eye(D), np.ones((D, D))), strict=True):
        if name in terms:
            total = total + np.multiply.outer(terms[name], matrix)
    return total


def check_nuisance(nuisance: Any) -> tuple[str, ...]:
    """The checked names of nuisance terms, in the order of TERMS."""
    if nuisance is None:
        return ()
    if not isinstance(nuisance, (str, Sequence)):
        raise TypeError(
            f"Argument 'nuisance' must be a name or a list of names, not {nuisance!r}: name some of "
            f"{', '.join(map(repr, TERMS))}."
        )
    names = [nuisance] if isinstance(nuisance, str) else list(nuisance)
    for name in names:
        if not isinstance(name, str) or name not in TERMS:
            raise ValueError(
                f"Argument 'nuisance' must be of {', '.join(map(repr, TERMS))}, not {name!r}: name one or "
                "both."
            )
    if len(set(names)) < len(names):
        raise ValueError(f"Argument 'nuisance' must name each term once, not {names!r}: drop the repetition.")
    return tuple(name for name in TERMS if name in names)


def check_pairs(pairs: Any, D: int, labels: Labels = UNLABELLED) -> Array | None:
    """The checked weights of pairs (D, D); None where all are one."""
    if pairs is None:
        return None
    if isinstance(pairs, str):
        if pairs not in (ALL, OFF_DIAGONAL):
            raise ValueError(
                f"Argument 'pairs' must be {ALL!r}, {OFF_DIAGONAL!r}, or a matrix, not {pairs!r}: a mask or "
                "weights of pairs, (conditions, conditions)."
            )
        return None if pairs == ALL else 1.0 - np.eye(D)
    form = ("condition", "condition")
    given = check_array("pairs", pairs, form)
    if given.shape[0] == given.shape[1]:
        given = check_array("pairs", by_condition("pairs", pairs, labels), form)
    if given.shape != (D, D):
        raise ValueError(
            f"Argument 'pairs' must be {D} x {D}, one row and column for each condition, not of shape "
            f"{given.shape}: select the conditions of X."
        )
    if error := nonfinite("pairs", given, form, (labels.conditions,) * 2):
        raise error
    weights = as_float64(given)
    if not np.array_equal(weights, weights.T):
        i, j = np.argwhere(weights != weights.T)[0]
        raise ValueError(
            f"Argument 'pairs' must be symmetric, not {weights[i, j]:.3g} and {weights[j, i]:.3g} at "
            f"conditions {i} and {j}: use (pairs + pairs.T) / 2, or of masks pairs & pairs.T."
        )
    if weights.min() < 0:
        i, j = np.unravel_index(weights.argmin(), weights.shape)
        raise ValueError(
            f"Argument 'pairs' must be of weights ≥ 0, not {weights[i, j]:.3g} at conditions {i} and {j}: 0 "
            "leaves a pair out."
        )
    return _unless_ones(weights.copy() if np.may_share_memory(weights, given) else weights)


def _unless_ones(weights: Array) -> Array | None:
    return None if (weights == 1.0).all() else weights
