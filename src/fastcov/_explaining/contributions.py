"""One channel's gain, decomposed: what it would be alone, and what each other channel adds."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._inputs.validation import check_whole

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Contributions:
    """One channel's δ as a sum: δ of the diagonal fit, and what each other channel adds.

    The sum is row i of (GᵀG + λI) δ = Gᵀe₀, divided by its diagonal ‖g_i‖² + λ, where g_i is the atom of
    channel i and e₀ the error at gains of one:

        δ_i = g_iᵀe₀ / (‖g_i‖² + λ) + Σ_{j≠i} −(GᵀG)_ij δ_j / (‖g_i‖² + λ)

    A channel with a rising gain and an atom similar to g_i corrects part of the same error, and so reduces
    δ_i. The diagonal fit ignores this.

    Attributes
    ----------
    channel : int or str
        Its name, or its number from 0.
    index : int
        Its number from 0.
    delta : float
        δ_i = z_i − 1.
    diagonal : float
        δ_i of the diagonal fit.
    others : ndarray, shape (N,)
        What each channel adds to δ_i; 0 for the channel itself. ``diagonal + others.sum()`` is `delta`.
    coherence : ndarray, shape (N,)
        Cosine between g_i and each atom; 0 if either is zero.
    names : tuple
        Names of all channels, or numbers from 0.
    """

    channel: Any
    index: int
    delta: float
    diagonal: float
    others: Array
    coherence: Array
    names: tuple[Any, ...]

    def largest(self, n: int = 5) -> tuple[list[tuple[Any, float]], list[tuple[Any, float]]]:
        """The n largest positive contributions and the n largest negative ones, by name, largest first."""
        check_whole("n", n, 1)
        order = np.argsort(self.others, kind="stable")
        down = [(self.names[j], float(self.others[j])) for j in order[:n] if self.others[j] < 0]
        up = [(self.names[j], float(self.others[j])) for j in order[::-1][:n] if self.others[j] > 0]
        return up, down

    def __repr__(self) -> str:
        up, down = self.largest()
        rows = [("alone (diagonal fit)", self.diagonal)]
        rows += [(f"channel {name}", value) for name, value in up + down[::-1]]
        shown = sum(value for _, value in up + down)
        rows += [("all others", float(self.others.sum()) - shown), ("sum: delta", self.delta)]
        width = max(len(name) for name, _ in rows)
        table = "\n".join(f"  {name:<{width}}  {value:>+10.4g}" for name, value in rows)
        return f"Contributions to the gain of channel {self.channel}, less one\n{table}"
