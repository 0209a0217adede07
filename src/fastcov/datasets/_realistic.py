"""The realistic mode of `simulate`: populations that predict each other about as badly as recordings do."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import scipy.special
from numpy.typing import NDArray

from .._compute import blas
from .._model.target import covariance
from ._responses import BREADTH, PRIVATE, STRENGTH, Array, fill, latent_sizes
from ._simulation import WEIGHTS_SQUARED, Simulation

# The constants of this file were chosen so that scores of held-out conditions are near those of recordings:
# `python examples/realistic.py` prints both.
# Share of the variance of a drive that all channels of an animal have in common in a condition; it is taken
# from the private part.
ANIMALS, ANIMAL = 5, 0.1
# Correlation of log gain with the place of a channel in the order of `_favour`.
COUPLING = 0.9
# Output cells for each channel (642 / 871 in the recordings), and channels that X lacks.
CELLS, HIDDEN = 0.737, 1 / 3
# Share of the variance of a drive that is the strength of a condition, in channels that X lacks: with 0.2, as
# in X, variances of Y differ more over conditions than in the recordings.
HIDDEN_STRENGTH = 0.05


def realistic(
    generator: np.random.Generator, N: int, D: int, K: int, M: int, kind: np.dtype[Any], *,
    spread: float, noise: float, share: float,
) -> Simulation:  # fmt: skip
    """Draw channels, hidden ones, gains, and M cells that mix them."""
    sizes = latent_sizes(K)
    conditions = generator.standard_normal((K, D))
    strength = math.sqrt(STRENGTH) * generator.standard_normal(D)
    loadings = generator.standard_normal((N, K))
    breadth = math.sqrt(BREADTH) * generator.standard_normal(N)
    own = math.sqrt(1 - COUPLING**2) * generator.standard_normal(N)
    animals = np.sort(np.arange(N) % ANIMALS)
    offsets = math.sqrt(ANIMAL) * generator.standard_normal((ANIMALS, D))
    X: NDArray[Any] = np.empty((N, D))
    fill(X, generator, loadings * sizes, conditions, strength, breadth, PRIVATE - ANIMAL, offsets, animals)

    gains = np.exp(spread * (COUPLING * _favour(X, loadings) + own))
    C, at_gains = covariance(X), covariance(X, gains=gains)
    scale = math.sqrt(_ratio(np.trace(C), np.trace(at_gains)))
    gains, at_gains = scale * gains, scale**2 * at_gains

    hidden = np.empty((max(2, round(HIDDEN * N)), D))
    H = len(hidden)
    fill(
        hidden, generator, generator.standard_normal((H, K)) * sizes, generator.standard_normal((K, D)),
        math.sqrt(HIDDEN_STRENGTH) * generator.standard_normal(D),
        math.sqrt(BREADTH) * generator.standard_normal(H),
    )  # fmt: skip
    # Cells of either kind have the same variance.
    seen, unseen = _of_weights(N) * at_gains, _of_weights(H) * covariance(hidden)
    scale = math.sqrt(_ratio(np.trace(seen), np.trace(unseen)))
    hidden, unseen = scale * hidden, scale**2 * unseen

    # Over cells u that respond to everything: mean and covariance. A response is there with probability
    # 1 / (1 + noise²), and is then 1 + noise² times as large.
    means = blas.product(gains[np.newaxis] / N, X)[0], hidden.mean(axis=0)
    mean = (1 - share) * means[0] + share * means[1]
    apart = means[0] - means[1]
    S = (1 - share) * seen + share * unseen + share * (1 - share) * np.outer(apart, apart)
    S[np.diag_indices(D)] += noise**2 * (np.diag(S) + mean**2)
    scale = _ratio(np.trace(C), (M - 1) * np.trace(S))
    law = (noise, share, math.sqrt(scale))
    made = Simulation(
        X.astype(kind, copy=False), X[:0], C, gains, (M - 1) * scale * S, animals + 1, hidden, law
    )
    Y = made.fresh_cells(generator, M)
    return dataclasses.replace(made, Y=Y, S=covariance(Y))


def _favour(X: NDArray[Any], loadings: Array) -> Array:
    """Normal scores of channels: high for those whose gains hold up what few others respond to.

    Low are channels that respond where the population does, and that load on the first half of the modes.
    """
    half = (loadings.shape[1] + 1) // 2
    squares = np.square(loadings)
    modes = squares[:, half:].sum(axis=1) - squares[:, :half].sum(axis=1)
    power = np.square(X, dtype=np.float64)
    drive = power.mean(axis=0)
    drive = np.log(np.maximum(drive / max(drive.max(), np.finfo(float).tiny), 1e-3))
    total = power.sum(axis=1)
    place = blas.product(power, drive[:, np.newaxis])[:, 0] / np.where(total > 0, total, 1.0)
    place[total == 0] = place[total > 0].mean() if total.any() else 0.0
    order = np.argsort(_standard(modes) - _standard(place), kind="stable").argsort(kind="stable")
    return np.asarray(scipy.special.ndtri((order + 0.5) / len(X)))


def _standard(values: Array) -> Array:
    spread = float(values.std())
    return (values - values.mean()) / (spread if spread > 0 else 1.0)


def _of_weights(n: int) -> float:
    """The covariance of a cell's weights over n channels is this times J: its trace is E‖w‖² − ‖E w‖²."""
    return (WEIGHTS_SQUARED - 1 / n) / (n - 1)


def _ratio(a: float, b: float) -> float:
    return float(a / b) if a > 0 and b > 0 else 1.0
