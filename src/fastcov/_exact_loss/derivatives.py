"""The exact loss for many targets, each at gains of its own: gradients, and quartics of single gains.

It is separate from the minimiser.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from .._compute import blas
from .._compute.jit import ELEMENT_PRODUCTS, blas_for
from .._compute.trust_region_kernels import EPSILON, least_drop
from .._model.problem import Problem
from .._model.ridge_penalty import Penalty
from . import derivative_kernels
from .derivative_kernels import ROWS, SUMS, SX, SY, XWX, XWY, XX, XY, YY
from .objective import COMPILED, Objective, norm
from .single_gains import quartics, share

Array = NDArray[np.float64]

# Targets that are evaluated together, in bytes of their parts of covariances and sums.
TOGETHER_BYTES = 1 << 24


@dataclasses.dataclass(frozen=True, eq=False)
class Derivatives:
    """The loss of T targets at gains (T, N) and its derivatives, in scaled units."""

    covariance: Array  # (T, D, D)
    value: Array  # (T,)
    quartics: Array  # c₁ to c₄ along each gain (T, 4, N); the first is the gradient
    rounding: Array  # the norm of a gradient that rounding explains (T,)
    worth: Array  # by how much another minimum along a single gain must be lower (T,)

    @property
    def gradient(self) -> Array:
        return self.quartics[:, 0]


def derivatives(problem: Problem, target: Array, penalty: Penalty, gains: Array) -> Derivatives:
    """The loss and its derivatives. `problem` is at gains of one, in float64. Some 4ND² flops per target."""
    if _short(problem):
        parts = list(_together(problem, target, penalty, gains))
    else:
        parts = [_alone(problem, S, penalty, z) for S, z in zip(target, gains, strict=True)]
    if len(parts) == 1:
        return parts[0]
    names = [field.name for field in dataclasses.fields(Derivatives)]
    return Derivatives(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def covariances(X: Array, gains: Array, center: bool, *, size: int) -> tuple[Array, Array]:
    """Covariances (T, D, D) of X (N, D) at gains (T, N), and the means of the weighted rows (T, D).

    For X that stays in the caches. The caller holds BLAS at one thread. `size` decides whether threads are
    used. 2TND² flops.
    """
    N, D = X.shape
    means = blas.product(gains, X) / N if center else np.zeros((len(gains), D))
    parts = np.empty((len(gains), max(1, N // ROWS), D, D))
    derivative_kernels.covariance_parts(X, gains, means, parts, size=size)
    return parts[:, 0] if parts.shape[1] == 1 else parts.sum(axis=1), means


def _alone(problem: Problem, S: Array, penalty: Penalty, z: Array) -> Derivatives:
    """The derivatives of one target, from passes over any X."""
    zeros = np.zeros_like(S)  # zeros and z fill fields for gains of one, which are not used here
    point = Objective(problem, S, penalty, zeros, z, None, compiled=False).at(z)
    assert point.second_diagonal is not None
    weights = np.broadcast_to(np.asarray(penalty.weights, np.float64), len(z))
    found = quartics(point.problem, point.gradient, point.norms, point.second_diagonal, weights)
    worth = least_drop(point.value, 2.0 * norm(S) + norm(point.error))
    return Derivatives(
        (point.error + S)[np.newaxis], np.array([point.value]), found[np.newaxis],
        np.array([point.rounding]), np.array([worth]),
    )  # fmt: skip


def values_and_gradients(
    problem: Problem, target: Array, penalty: Penalty, gains: Array
) -> tuple[Array, Array]:
    """The loss (T,) and its gradient (T, N) alone, for minimisers. Some 4ND² flops for each target."""
    if not _short(problem):
        points = [
            Objective(problem, S, penalty, np.zeros_like(S), z, None, compiled=False).at(z)
            for S, z in zip(target, gains, strict=True)
        ]
        return np.array([p.value for p in points]), np.stack([p.gradient for p in points])
    value, gradient = np.empty(len(gains)), np.empty(gains.shape)
    for some, _, _, image, sums in _passes(problem, target, gains):
        delta = gains[some] - 1.0
        pull = penalty.products(delta)
        np.multiply(sums[:, XWY], 2.0, out=gradient[some])
        gradient[some] += pull
        value[some] = 0.5 * (np.square(image).sum(axis=(1, 2)) + (pull * delta).sum(axis=1))
    return value, gradient


def _short(problem: Problem) -> bool:
    """Whether the passes for many targets are made together: then sums over parts of rows are small, too."""
    (N, D), metric = problem.shape, problem.metric
    fine = metric is None or metric.weights is None
    return fine and N * D * D < COMPILED and problem.ready(problem.X)


def _passes(
    problem: Problem, target: Array, gains: Array
) -> Iterator[tuple[slice, Array, Array, Array, Array]]:
    """For groups of targets: which, C and E = C − S (T, D, D), R E, and the sums by row (T, SUMS, N)."""
    (N, D), metric, X = problem.shape, problem.metric, problem.X
    assert isinstance(X, np.ndarray)
    chunks = max(1, N // ROWS)
    group = max(1, TOGETHER_BYTES // (8 * (chunks * D * D + SUMS * N)))
    for first in range(0, len(gains), group):
        some = slice(first, min(first + group, len(gains)))
        Z, S = np.ascontiguousarray(gains[some]), target[some]
        T = len(Z)
        size = T * N * D * D // ELEMENT_PRODUCTS
        with blas_for(0):
            C, means = covariances(X, Z, problem.center, size=size)
            error = C - S
            image = error if metric is None else metric.image(error)
            W = np.ascontiguousarray(image if metric is None else metric.weighed(image))
            sums = np.empty((T, SUMS, N))
            derivative_kernels.sums_by_row(X, Z, means, W, sums, size=size)
        yield some, C, error, image, sums


def _together(problem: Problem, target: Array, penalty: Penalty, gains: Array) -> Iterator[Derivatives]:
    N, metric, s = problem.shape[0], problem.metric, share(problem)
    for some, C, error, image, sums in _passes(problem, target, gains):
        Z, S = gains[some], target[some]
        T = len(Z)
        xx, xy, yy = sums[:, XX], sums[:, XY], sums[:, YY]
        norms, skew, square = xx * yy + xy * xy, xx * xy, xx * xx
        norms *= 2.0
        skew *= 2.0
        if metric is not None:
            off_xx, off_xy = np.square(sums[:, SX]) - xx, sums[:, SX] * sums[:, SY] - xy
            for p, q in metric.basis:
                atom, pair = 2.0 * (p * xy + q * off_xy), p * xx + q * off_xx
                norms -= atom * atom
                skew -= atom * pair
                square -= pair * pair
            np.maximum(square, 0.0, out=square)
        delta = Z - 1.0
        pull = penalty.products(delta)
        coefficients = np.empty((T, 4, N))
        np.multiply(sums[:, XWY], 2.0, out=coefficients[:, 0])
        coefficients[:, 0] += pull
        np.multiply(sums[:, XWX], 2.0 * s, out=coefficients[:, 1])
        coefficients[:, 1] += norms
        coefficients[:, 1] += penalty.weights
        coefficients[:, 1] *= 0.5
        np.multiply(skew, s, out=coefficients[:, 2])
        np.multiply(square, 0.5 * s * s, out=coefficients[:, 3])
        sizes = 2.0 * np.sqrt(blas.squares(S)) + np.sqrt(blas.squares(error))
        rounding = sizes * np.sqrt(np.maximum(norms.sum(axis=1), 0.0)) + penalty.largest * blas.norms(Z)
        value = 0.5 * (blas.squares(image) + blas.dots(pull, delta))
        worth = np.array([least_drop(float(v), float(each)) for v, each in zip(value, sizes, strict=True)])
        yield Derivatives(C, value, coefficients, EPSILON * rounding, worth)
