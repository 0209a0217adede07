"""What an explanation says of single channels: their importance, and a table of all."""

from __future__ import annotations

import functools
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._compute import blas
from .._inputs.validation import as_float64, check_array
from .._model.problem import n_pairs
from .._results.channel_table import write_table
from .._results.frames import explanation_columns, explanation_frame
from .importance import Diagonal
from .modes import Complete

Array = NDArray[np.float64]

# Importances that take fewer flops are printed.
QUICK = 1e9


class Importances:
    """How much the linear loss rises if one gain is held, and all others are fitted again.

    With A = GᵀG + λI, it rises by ½ (v − z_i)² / (A⁻¹)_ii if gain z_i = 1 + δ_i is held at v. With all modes,
    the diagonal of A⁻¹ takes N times their number of multiplications (2NP² if N > P = D(D+1)/2). Otherwise
    the smaller of N × N and P × P matrices is inverted, in N²D + N³ or 3NP² + 2P³/3 flops, with a MemoryError
    if it does not fit.
    """

    fit: Any
    spectrum: Array
    overlaps: Array
    _start: Any
    _system: Any
    _modes: Any

    @property
    def channels(self) -> tuple[Any, ...]:
        """Names of the channels, or their numbers from 0."""
        return self.fit.channels or tuple(range(len(self.overlaps)))

    @property
    def importance(self) -> Array:
        """½ δ_i² / (A⁻¹)_ii, shape (N,): by how much the linear loss rises if the gain stays at one.

        All others are fitted again, so this is the importance of the *change* of a gain, in units of X to the
        fourth. It is small where δ_i is, and where other channels can do the same: of two equal channels,
        neither is important, however large their gains. Importances need not add up to `loss_removed`.
        """
        return self.loss_rise(1.0)

    @property
    def importance_silenced(self) -> Array:
        """½ z_i² / (A⁻¹)_ii, shape (N,): by how much the linear loss rises if the channel is silenced.

        Its gain z_i is then 0, and all others are fitted again, so this is the importance of the *channel* to
        the fit, in units of X to the fourth. Silence is a change of gain by one, which is further than the
        linear loss holds: compare channels, not numbers. Some λ/2 of it is the channel's own ridge term,
        which ``loss_rise(0.0, own_ridge=False)`` leaves out.
        """
        return self.loss_rise(0.0)

    def loss_rise(self, gain: Any, *, own_ridge: bool = True) -> Array:
        """How much the linear loss rises if a gain is held at `gain`, and all others are refitted.

        Parameters
        ----------
        gain : float, or array_like of shape (N,)
            v, where gains are held.
        own_ridge : bool, default True
            Whether the loss has the ridge term of the gain that is held, (λ/2)(v − 1)². Without it, the rise
            is of the error and of the ridge terms of the others. It is then negative for a gain that the data
            pull towards v, and the ridge keeps back.

        Returns
        -------
        ndarray, shape (N,)
            ½ (v − z_i)² / (A⁻¹)_ii, less (λ/2) ((v − 1)² − δ_i²) without `own_ridge`, each for one gain that
            is held by itself; in units of X to the fourth.

        Raises
        ------
        TypeError, ValueError
            If `gain` is not one real, finite number, or one for each channel.
        MemoryError
            If not all modes are known, and no inverse fits the memory.
        """
        N, delta = len(self.overlaps), self.fit.delta
        held = as_float64(check_array("gain", np.atleast_1d(gain), ("channel",)))
        if held.shape not in ((1,), (N,)) or not np.isfinite(held).all():
            raise ValueError(
                f"Argument 'gain' must be a finite number, or one for each of the {N} channels, not of shape "
                f"{np.shape(gain)}."
            )
        change = held - 1.0
        apart = change - delta
        rise = 0.5 * np.square(apart) / self._diagonal.inverse
        if not own_ridge:
            rise -= 0.5 * self._system.ridge * (change + delta) * apart
        found: Array = self._start.problem.unscaled(rise, y=4)
        return found

    @property
    def resolution(self) -> Array:
        """1 − λ (A⁻¹)_ii, shape (N,): near 1 the data determine the gain, near 0 the ridge does.

        This is the resolution of `Uncertainty`, and the leverage g_iᵀ (GGᵀ + λI)⁻¹ g_i of the channel's atom.
        All together they are the effective degrees of freedom.
        """
        return self._diagonal.leverage.copy()

    @property
    def loss_removed(self) -> float:
        """½ δᵀGᵀe₀: by how much the fit reduces the linear loss, ridge term included."""
        return 0.5 * float(blas.dot(self.fit.delta.copy(), self.overlaps.copy()))

    def to_frame(self) -> Any:
        """A pandas DataFrame with a row for each channel.

        The columns are delta, diagonal_delta, overlap, whitened_overlap and squared_norm, ‖g_i‖²; and, if
        `complete`, importance, importance_silenced and resolution. Raises ImportError without pandas.
        """
        return explanation_frame(self)

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the columns of `to_frame` to a .csv or .tsv file, with a header and all digits.

        The file appears at `path` when it is complete. Raises ValueError or OSError if no such file can be
        written there.
        """
        columns = explanation_columns(self)
        rows = zip(self.channels, *(values.tolist() for values in columns.values()), strict=True)
        texts = ((str(name), *map(repr, values)) for name, *values in rows)
        write_table(path, ("channel", *columns), texts)

    @functools.cached_property
    def _diagonal(self) -> Diagonal:
        return Diagonal.of(self._system, self._modes)

    @property
    def _quick(self) -> bool:
        """Whether importances take no longer than a moment."""
        N, K = len(self.overlaps), len(self.spectrum)
        if not isinstance(self._modes, Complete):
            return False
        return not self._modes.state.dual or 2.0 * N * K * n_pairs(self.fit.stats["shape"][1]) <= QUICK
