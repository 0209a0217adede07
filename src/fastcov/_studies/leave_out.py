"""Leave-one-out and leave-two-out linear fits, all from one factorisation.

The columns of G (P, N) are the atoms, as vectors over the P pairs of conditions that count. e is the error,
and M = (GGᵀ + λI)⁻¹. T is the set of pairs that contain a held-out condition. The fit without T is

    δ = Gᵀ u,    u = M e − M[:, T] M[T, T]⁻¹ (M e)[T],

because u is zero on T and solves (GGᵀ + λI) u = e on the other pairs. (With H = G (GᵀG + λI)⁻¹ Gᵀ,
I − H = λ M: the errors of the pairs left out are (I − H_TT)⁻¹ r_T for the residuals r = (I − H) e.) λ may
differ between folds, so M is computed from eigenvectors of GGᵀ. Nuisance terms n have no penalty. They are
treated as further vectors beside e: u = u_e − Σ θ u_n, with the θ that make u orthogonal to all n.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from .._compute import blas
from .._fitting.settings import LINEAR_TOL, Settings
from .._inputs.validation import available_memory
from .._model.packed import pack, unpack
from .._model.problem import n_pairs
from .._model.products import apply_adjoint, apply_atoms
from .._results.score import Split
from .._solvers._pairs import dual_gram
from .held_out import Fold, HeldOut, Order, Prediction

Array = NDArray[np.float64]

# At most this many conditions are held out: with more, most of all pairs would be left out.
MOST = 2
# The smallest relative ridge. With a ridge of 10^-d, M loses d digits, whereas separate fits of each fold are
# refined.
LEAST_RIDGE = 1e-6


def pays(study: HeldOut, splits: Sequence[Split], settings: Settings) -> bool:
    """Whether one eigendecomposition of order P serves all folds, and is less work than one for each."""
    N, D = study.given.shape
    P = n_pairs(D)
    whole = all(len(test) <= MOST and len(train) + len(test) == D for train, test in splits)
    plain = settings.bounds is None and settings.solver == "auto"
    regular = study.relative and min(study.ridges) >= LEAST_RIDGE
    plain = plain and study.groups is None
    if not (whole and plain and regular) or not study.given.rows.in_memory:
        return False
    fits = min(settings.budget or np.inf, available_memory() / 2) >= 32 * P * P
    return fits and len(splits) * min(N, n_pairs(D - MOST)) ** 3 >= P**3


class LeftOut:
    """Predictions of the linear fit for each fold and ridge, with the conditions of the target in any order.

    9P³ flops once for all orders, if pairs count alike; then 4P² for each ridge of a fold. Threads share it:
    the first that needs an eigendecomposition computes it.
    """

    def __init__(self, study: HeldOut, check: Callable[[None], object]) -> None:
        self._study, self._check, self._lock = study, check, threading.Lock()
        self._eigen: dict[bytes, tuple[Array, Array]] = {}
        self._targets: dict[bytes, _Target] = {}

    def fold(self, split: Split, order: Order, keep: bool) -> dict[int, Prediction]:
        """The predictions for one fold, by index of the ridge."""
        with self._lock:
            key = order.tobytes()
            if key not in self._targets:
                weights = self._study.weights[np.ix_(order, order)]
                pairs = b"" if self._study.even else key
                if pairs not in self._eigen:
                    self._eigen.clear()
                    self._eigen[pairs] = _eigenvectors(self._study, weights, self._check)
                self._targets = {key: _Target(self._study, order, weights, *self._eigen[pairs])}
            target = self._targets[key]
        return target.fold(split, keep)


def _packing(weights: Array) -> tuple[Order, Order, Order]:
    """Rows and columns of the pairs that count, and their positions among all pairs."""
    i, j = np.triu_indices(len(weights))
    places = np.flatnonzero(weights[i, j] > 0)
    return i[places], j[places], places


def _eigenvectors(study: HeldOut, weights: Array, check: Callable[[None], object]) -> tuple[Array, Array]:
    """Eigenvalues of GGᵀ over the pairs that count, and its eigenvectors, one in each row."""

    def watch(_: float) -> None:
        check(None)

    i, j, places = _packing(weights)
    K = dual_gram(study.exact, watch)
    np.copyto(K, K.T, where=np.triu(np.ones(K.shape, bool), 1))
    if len(places) < len(K):
        K = np.ascontiguousarray(K[np.ix_(places, places)])
    root = np.sqrt(weights[i, j])
    K *= root[:, np.newaxis] * root
    return np.maximum(blas.eigh(K), 0.0), K


class _Target:
    """The error for one order of conditions, expanded in eigenvectors."""

    def __init__(self, study: HeldOut, order: Order, weights: Array, values: Array, vectors: Array) -> None:
        self.study, self.order, self.problem = study, order, study.exact
        self.weights, self.root = weights, np.sqrt(weights)
        self.values, self.vectors = values, vectors
        self.i, self.j, self.places = _packing(weights)
        D = len(order)
        terms = {"diagonal": np.eye(D), "constant": np.ones((D, D))}
        names = () if study.metric is None else study.metric.nuisance
        unit = float(self.problem.unscaled(1.0, y=-2))
        target = np.nan_to_num(study.target[np.ix_(order, order)])
        self.matrices = [unit * target, unit / study.unit * study.at_one, *(terms[name] for name in names)]
        self.packed = pack(self.root * np.stack(self.matrices))[:, self.places]
        self.inside = blas.product(self.packed, vectors, tb=True)

    def fold(self, split: Split, keep: bool) -> dict[int, Prediction]:
        fold = self.study.fold(split, self.order)
        start = self.study.start(fold)
        grid = self.study.grid(fold, start, range(len(self.study.ridges)))
        ridges = np.array([np.ldexp(float(ridge.value), 4 * self.problem.exponent) for ridge in grid])
        touched = np.flatnonzero(np.isin(self.i, split[1]) | np.isin(self.j, split[1]))
        own = np.ascontiguousarray(self.vectors[:, touched])
        n = len(self.packed)
        shrunk = (self.inside / (self.values + ridges[:, np.newaxis])[:, np.newaxis]).reshape(-1, len(own))
        u = blas.product(shrunk, self.vectors)  # M times each matrix, n rows for each ridge
        back = np.empty_like(u)
        for k, ridge in enumerate(ridges):
            rows = slice(k * n, (k + 1) * n)
            scaled = own / (self.values + ridge)[:, np.newaxis]
            inner = blas.product(scaled, own, ta=True)
            if blas.cholesky(inner):
                raise np.linalg.LinAlgError("The pairs left out are not positive definite.")
            weights = blas.cholesky_solve(inner, np.ascontiguousarray(u[rows, touched]))
            back[rows] = blas.product(weights, scaled, tb=True)
        u -= blas.product(back, self.vectors)
        u[:, touched] = 0.0
        mixed = np.stack([self._mixed(fold, u[k * n : (k + 1) * n]) for k in range(len(ridges))])
        whole = np.zeros((len(ridges), n_pairs(len(self.order))))
        for k, shares in enumerate(mixed):
            whole[k, self.places] = (shares[:, np.newaxis] * u[k * n : (k + 1) * n]).sum(axis=0)
        delta = apply_adjoint(self.problem, self.root * unpack(whole, len(self.order)))
        delta[:, self.problem.sizes == 0] = 0.0
        residuals = self._residuals(fold, mixed, delta, ridges)
        found = {}
        for k, (d, residual) in enumerate(zip(delta, residuals, strict=True)):
            status = "converged" if residual <= LINEAR_TOL else "inaccurate"
            prediction = fold.predicted(1.0 + d, None, keep)
            found[k] = dataclasses.replace(prediction, residual=float(residual), status=status)
        return found

    def _mixed(self, fold: Fold, u: Array) -> Array:
        """Coefficients of the target, of C(1) and of the nuisance terms in the error."""
        shares = np.array([fold.scale, -1.0, *np.zeros(len(u) - 2)])
        if len(u) > 2:
            products = blas.product(np.ascontiguousarray(self.packed[2:]), u, tb=True)
            known = (products[:, :2] * shares[:2]).sum(axis=1)
            shares[2:] = -np.linalg.lstsq(products[:, 2:], known, rcond=None)[0]
        return shares

    def _residuals(self, fold: Fold, mixed: Array, delta: Array, ridges: Array) -> Array:
        """‖Gᵀ (e − G δ − Σ θ n) − λ δ‖ over ‖Gᵀ (e − Σ θ n)‖ on the training pairs (K,), computed from X."""
        train, _ = fold.split
        trained = np.zeros_like(self.weights)
        trained[np.ix_(train, train)] = self.weights[np.ix_(train, train)]
        error = trained * sum(
            share[:, np.newaxis, np.newaxis] * M for share, M in zip(mixed.T, self.matrices, strict=True)
        )
        left = error - trained * apply_atoms(self.problem, delta)
        size = blas.norms(apply_adjoint(self.problem, error))
        rest = blas.norms(apply_adjoint(self.problem, left) - ridges[:, np.newaxis] * delta)
        return np.divide(rest, size, out=np.zeros_like(rest), where=size > 0)
