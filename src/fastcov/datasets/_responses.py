"""Responses of channels: a drive of normal variables, and a threshold."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .._compute import blas
from .._compute.jit import blas_for

Array = NDArray[np.float64]

# Shares of the variance of a channel's drive by a condition: how broadly the channel responds, how strongly
# the condition drives all channels, and a private part of each pair. The latent modes have the rest.
BREADTH, STRENGTH, PRIVATE = 0.2, 0.2, 0.2
# Drive, in standard deviations, above which a channel responds: a normal variable exceeds it in 0.245 of the
# cases.
THRESHOLD = 0.69
# FLOOR is the smallest response; to drive above threshold it is FLOOR (1 + STEEPNESS excess ** 1.5).
FLOOR, STEEPNESS = 0.45, 2.0
# Number of elements in a block of rows. It determines the order in which random numbers are drawn, so
# changing it changes every data set.
BLOCK_SIZE = 1 << 20


def latent_sizes(K: int) -> Array:
    """Standard deviations of what each of K modes adds to a drive."""
    sizes = np.arange(1.0, K + 1) ** -0.5
    return sizes * math.sqrt((1 - BREADTH - STRENGTH - PRIVATE) / np.square(sizes).sum())


def fill(
    X: NDArray[Any], generator: np.random.Generator, loadings: Array, conditions: Array, strength: Array,
    breadth: Array, private: float = PRIVATE, offsets: Array | None = None,
    animals: NDArray[np.intp] | None = None,
) -> None:  # fmt: skip
    """Write to X the responses of channels with these loadings to these conditions.

    `offsets`, one row for each animal, are added to the drive of that animal's channels.
    """
    N, D = X.shape
    for rows in blocks(N, D):
        drive = generator.standard_normal((rows.stop - rows.start, D))
        drive *= math.sqrt(private)
        with blas_for(2.0 * len(conditions) * drive.size):
            drive += blas.product(loadings[rows], conditions)
        drive += strength + breadth[rows, np.newaxis]
        if offsets is not None and animals is not None:
            drive += offsets[animals[rows]]
        X[rows] = respond(drive)


def respond(drive: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute responses from drive, in place."""
    drive -= THRESHOLD
    silent = drive <= 0
    np.maximum(drive, 0.0, out=drive)
    drive *= np.sqrt(drive)
    drive *= FLOOR * STEEPNESS
    drive += FLOOR
    drive[silent] = 0.0
    return drive


def blocks(N: int, D: int) -> Iterator[slice]:
    step = max(1, BLOCK_SIZE // D)
    return (slice(start, min(start + step, N)) for start in range(0, N, step))


def float_type(dtype: DTypeLike) -> np.dtype[Any]:
    try:
        kind = np.dtype(dtype)
    except (TypeError, ValueError):
        kind = None
    if kind not in (np.float32, np.float64):
        raise TypeError(f"Argument 'dtype' must be float32 or float64, not {dtype!r}: convert afterwards.")
    return np.dtype(kind)
