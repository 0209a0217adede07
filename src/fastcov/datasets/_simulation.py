"""Simulation: what `simulate` makes, and more cells and trials of the same truth."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._inputs.validation import check_generator, check_nonnegative, check_whole, require_memory
from .._model.target import covariance
from ._responses import blocks

# Standard deviation of w in the weights ½ + w and ½ − w of a cell's two channels, and the mean of the sum of
# their squares. Weights have a sum of one in every cell, so their covariance over cells is a multiple of J.
WEIGHT = 0.35
WEIGHTS_SQUARED = 0.5 + 2 * WEIGHT**2


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Simulation:
    """Responses of two populations, their target covariance, and the gains between them.

    Attributes
    ----------
    X : ndarray, shape (N, D)
        Responses of the input channels, one row per channel, in arbitrary units; the smallest is 0.45.
    Y : ndarray, shape (N, D)
        Responses of the output cells, in the units of X and in an order unrelated to that of the
        channels.
    S : ndarray, shape (D, D)
        Covariance of Y over conditions, in units of X squared: the target of the fit.
    gains : ndarray, shape (N,)
        The gains z that made Y.
    expected : ndarray, shape (D, D), or None
        The mean of S over fresh output cells: the covariance at the gains, C(z), plus what each mode of
        `simulate` adds to it. None for data that `simulate` did not make.
    animals : ndarray of int, shape (N,), or None
        The animal of each channel, 1 to 5, if the simulation is realistic.
    hidden : ndarray, shape (H, D), or None
        Responses of channels that drive some of the output cells and are not in X, if it is realistic.
    """

    X: NDArray[Any]
    Y: NDArray[Any]
    S: NDArray[np.float64]
    gains: NDArray[np.float64]
    expected: NDArray[np.float64] | None = None
    animals: NDArray[np.intp] | None = None
    hidden: NDArray[np.float64] | None = None
    # Standard deviation of noise, share of cells that hidden channels drive, factor of all responses of Y.
    _law: tuple[float, float, float] | None = None

    def fresh_cells(self, rng: Any = 0, n_cells: int | None = None) -> NDArray[Any]:
        """Draw other output cells of the same truth: the same X and gains, and another Y.

        Each cell draws its channels anew, with replacement over cells, and its noise. The mean of
        ``covariance(sim.fresh_cells(rng))`` over draws is ``sim.expected``, so gains that are fitted to many
        draws spread around what one fit estimates: this is how coverage of intervals is measured.

        Parameters
        ----------
        rng : default 0
            As for `simulate`.
        n_cells : int, optional
            Number of cells, at least 2; as many as Y has by default. With other numbers the covariance grows
            in proportion to ``n_cells - 1``.

        Returns
        -------
        ndarray, shape (n_cells, D)
            In the dtype of X.

        Raises
        ------
        TypeError, ValueError
            If `n_cells` or `rng` is not what it must be, or if `simulate` did not make these data.
        MemoryError
            If the cells do not fit the available memory.

        Notes
        -----
        Up to 5MD flops for M cells. In the default mode Y has each channel once, and its covariance spreads
        less than those of fresh cells, which have some channels twice and others not at all.
        """
        if self._law is None:
            raise ValueError(
                "Argument 'self' must be made by fastcov.datasets.simulate, not of other data: how their "
                "cells are drawn is not known."
            )
        M = len(self.Y) if n_cells is None else check_whole("n_cells", n_cells, 2)
        generator = check_generator(rng)
        D = self.X.shape[1]
        require_memory(M * D * self.X.itemsize, f"{M} cells x {D} conditions", "ask for fewer cells")
        Y = np.empty((M, D), self.X.dtype)
        for rows in blocks(M, D):
            n = rows.stop - rows.start
            Y[rows] = self._mixtures(generator, n) if self.hidden is not None else self._copies(generator, n)
        return Y

    def _copies(self, generator: np.random.Generator, n: int) -> NDArray[np.float64]:
        """Cells that follow one channel each, with noise."""
        noise, _, scale = self._law or (0.0, 0.0, 1.0)
        picks = generator.integers(len(self.X), size=n)
        Y = (scale * self.gains[picks])[:, np.newaxis] * self.X[picks]
        return Y + noise * generator.standard_normal(Y.shape)

    def _mixtures(self, generator: np.random.Generator, n: int) -> NDArray[np.float64]:
        """Cells that mix two channels each, of X or hidden ones, in some conditions."""
        noise, share, scale = self._law or (0.0, 0.0, 1.0)
        hidden = np.empty((0, 0)) if self.hidden is None else self.hidden
        unseen = generator.random(n) < share
        weight = WEIGHT * generator.standard_normal(n)
        sizes = np.where(unseen, len(hidden), len(self.X))
        first = generator.integers(sizes)
        second = generator.integers(sizes - 1)
        second += second >= first
        Y = np.empty((n, self.X.shape[1]))
        for cells, X, gains in ((~unseen, self.X, self.gains), (unseen, hidden, np.ones(len(hidden)))):
            Y[cells] = ((0.5 + weight[cells]) * gains[first[cells]])[:, np.newaxis] * X[first[cells]]
            Y[cells] += ((0.5 - weight[cells]) * gains[second[cells]])[:, np.newaxis] * X[second[cells]]
        size = 1.0 + noise**2
        Y *= np.where(generator.random(Y.shape) * size < 1.0, scale * size, 0.0)
        return Y

    def trials(self, n_trials: int, noise: float = 1.0, rng: Any = 0) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return X and Y in repeated trials: each trial has the responses, plus noise of its own.

        Parameters
        ----------
        n_trials : int
            Number of trials, at least 1.
        noise : float, default 1
            Standard deviation of the noise of one trial, as a fraction of the root mean square of X for
            trials of X, and of that of Y for those of Y.
        rng : default 0
            As for `simulate`.

        Returns
        -------
        X : ndarray, shape (n_trials, N, D)
        Y : ndarray, shape (n_trials, M, D)

        Raises
        ------
        TypeError, ValueError
            If an argument is not what it must be.
        MemoryError
            If the trials do not fit the available memory.
        """
        T = check_whole("n_trials", n_trials, 1)
        noise = check_nonnegative("noise", noise)
        generator = check_generator(rng)
        nbytes = 16 * T * max(self.X.size, self.Y.size)
        require_memory(nbytes, f"{T} trials", "ask for fewer trials")
        return _repeated(self.X, T, noise, generator), _repeated(self.Y, T, noise, generator)

    def __repr__(self) -> str:
        N, D = self.X.shape
        at_gains = covariance(self.X, gains=self.gains)
        size = np.square(self.S).sum()
        explained = 1.0 - np.square(at_gains - self.S).sum() / size if size > 0 else np.nan
        low, high = self.gains.min(), self.gains.max()
        rows = [
            ("X", f"{N} channels x {D} conditions, {self.X.dtype}, {np.mean(self.X == 0):.0%} zeros"),
            ("Y", f"{len(self.Y)} output cells x {D} conditions"),
            ("S", f"covariance of Y; the gains below explain R2 = {explained:.4g} of it"),
            ("gains", f"{low:.3g} to {high:.3g}, median {np.median(self.gains):.3g}"),
        ]
        if self.animals is not None and self.hidden is not None and self._law is not None:
            said = f"{len(self.hidden)} channels that X lacks drive {self._law[1]:.0%} of the output cells"
            rows.append(("hidden", f"{said}; X is of {len(np.unique(self.animals))} animals"))
        return "\n".join(["Simulation", *(f"  {name:<9}{value}" for name, value in rows)])


def _repeated(responses: NDArray[Any], T: int, noise: float, generator: np.random.Generator) -> NDArray[Any]:
    """Responses in T trials, with noise."""
    trials = generator.standard_normal((T, *responses.shape))
    trials *= noise * math.sqrt(np.square(responses, dtype=np.float64).mean())
    trials += responses
    return trials.astype(responses.dtype, copy=False)
