"""himalaya as a peer: ridge regression for all λ from one decomposition."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ._atoms import pairs, system
from ._given import Array, PeerInput, blas_threads, library, threaded, within


@contextlib.contextmanager
def _numpy_backend(himalaya: Any) -> Iterator[None]:
    """Set the backend, which is global, for a block. That of PyTorch takes 1.3 times as long at (148, 48)."""
    before = himalaya.backend.get_backend()
    himalaya.backend.set_backend("numpy")
    try:
        yield
    finally:
        himalaya.backend.set_backend(before)


def path(given: PeerInput) -> Callable[[], Array]:
    himalaya = library("himalaya", "backend", "ridge", "kernel_ridge")
    X, S = given.double
    N, P, ridges = len(X), pairs(given, copies=4), np.asarray(given.ridges, np.float64)

    def run() -> Array:
        G, e = system(X, S)
        right = np.repeat(e[:, np.newaxis], len(ridges), axis=1)
        # Take one λ at a time, because a batch holds one copy of G for each λ.
        if P < N:  # otherwise it warns that the singular values of G take longer
            solve = himalaya.kernel_ridge.solve_kernel_ridge_eigenvalues
            return 1.0 + (G.T @ solve(G @ G.T, right, alpha=ridges, n_targets_batch=1)).T
        return 1.0 + himalaya.ridge.solve_ridge_svd(G, right, alpha=ridges, n_targets_batch=1).T

    return threaded(blas_threads, given.work, within(lambda: _numpy_backend(himalaya), run))


def fit(given: PeerInput) -> Callable[[], Array]:
    run = path(dataclasses.replace(given, ridges=[given.ridge]))
    return lambda: run()[0]
