"""Reweighting: one weight per channel with its certificate, as returned to users."""

from __future__ import annotations

import dataclasses
import os
import textwrap
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._inputs.container import save
from .._inputs.labels import Names, like_matrix, order_of
from .._inputs.optional import optional
from .._model.channel_atoms import SQUARED_EUCLIDEAN, atoms_problem, weighted_similarities
from .frames import named
from .held_out_pairs import HeldOutPairs
from .html import html_table

Array = NDArray[np.float64]

WIDTH = 108


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Reweighting:
    """Fitted weights of channels with their certificate; prints itself as a short table.

    The symbols are those of `reweight`. For a stack of T targets every array has a leading axis of length T,
    and every number but the ridge is an array (T,).

    Attributes
    ----------
    weights : ndarray, shape (N,)
        w. A silent channel's weight is exactly `shrink_to`.
    offset : float
        c, which is added to each pair; 0 without ``offset=True``.
    prediction : ndarray, shape (D, D)
        P = Σ_i w_i x_i x_iᵀ + c, or Σ_i w_i (x_ia − x_ib)² + c with a diagonal of zero.
    target : ndarray, shape (D, D)
        S in the order of the conditions of X. Entries that were NaN, whose pairs do not count, are 0.
    loss : float
        ½ Σ_{a<b} v_ab (P_ab − S_ab)² + ¼ Σ_a v_aa (P_aa − S_aa)² + (λ/2)‖w − w₀‖².
    r2 : float
        1 − Σ v (P − S)² / Σ v (S − S̄)² over the pairs that count, with S̄ the mean of S over them.
    pearson, spearman : float
        Correlations of P and S over the pairs a < b that count, of these same pairs: they say how well P
        fits, not how well it predicts. `scores` has those of held-out conditions.
    ridge, relative_ridge : float, ndarray of shape (N,), matrix, or None
        λ, and λ over the largest eigenvalue of AᵀA if it was given so. A has a row for each pair and a column
        for each channel.
    residual : float
        Certificate, computed from X apart from the solver: ‖Aᵀ(t − A w) − λ(w − w₀)‖ / ‖Aᵀ(t − A w₀)‖, with t
        the target of each pair. With bounds, the norm of the gradient over the weights that no bound holds,
        over the same.
    status : str
        As in `Fit`.
    atoms : {"product", "squared-euclidean"}
    shrink_to : float
        w₀.
    stats : dict
        ``shape``, ``dtype``, ``center``, ``pairs``, ``offset``, ``solver``, ``reason``, ``seconds``, and the
        solver's own counts; ``at_bounds``, how many weights are at a bound.
    channels, conditions : tuple or None
        Names, as in `Fit`.
    scores : HeldOutPairs or None
        How well held-out conditions are predicted, if the ridge was chosen with ``ridge="cv"``.
    """

    weights: Array
    offset: Any
    prediction: Array
    target: Array
    loss: Any
    r2: Any
    pearson: Any
    spearman: Any
    ridge: Any
    relative_ridge: Any
    residual: Any
    status: str
    atoms: str
    shrink_to: float
    stats: dict[str, Any]
    channels: Names | None
    conditions: Names | None
    scores: HeldOutPairs | None = None

    def apply(self, X_new: ArrayLike) -> Any:
        """Predict the similarities of other conditions from responses of the same channels to them.

        Parameters
        ----------
        X_new : array_like, shape (N, D_new)
            Responses of the fitted channels. If X_new and X both name the channels, their order does not
            matter.

        Returns
        -------
        ndarray, shape (D_new, D_new) or (T, D_new, D_new)
            The prediction, offset included. For one target, it is a DataFrame or a DataArray if X_new is.

        Raises
        ------
        TypeError, ValueError
            If X_new is not a real, finite array of the channels that were fitted.

        Warns
        -----
        LabelWarning
            If the channels are in another order. They are then aligned by name.

        Notes
        -----
        2TND² flops, and a centred copy of X_new in float64 where it is in memory.
        """
        problem = atoms_problem(X_new, self.atoms, self.stats["center"], "X_new")
        N = self.stats["shape"][0]
        channels = range(N) if self.channels is None else self.channels
        order = order_of(problem.labels.rows, channels, "channel", "X_new", "the fit")
        if problem.shape[0] != N:
            raise ValueError(
                f"Argument 'X_new' must have the {N} channels of the fit as its rows, not "
                f"{problem.shape[0]}: record the same channels, or transpose it."
            )
        weights = np.atleast_2d(self.weights).copy()
        if order is not None:
            weights[:, order] = np.atleast_2d(self.weights)
        found = problem.unscaled(weighted_similarities(problem, weights, self.atoms), y=2)
        found = with_offset(found, np.atleast_1d(self.offset), self.atoms)
        if self.weights.ndim == 2:
            return found
        return like_matrix(found[0], X_new, problem.labels.columns)

    def to_frame(self) -> Any:
        """A pandas DataFrame with a row for each channel and a column ``weight``.

        For T targets the index is (target, channel). Raises ImportError without pandas.
        """
        pandas = optional("pandas", "to_frame()")
        channels = named(self.channels, self.weights.shape[-1])
        index = pandas.Index(channels, name="channel")
        if self.weights.ndim == 2:
            product = pandas.MultiIndex.from_product
            index = product([range(len(self.weights)), channels], names=["target", "channel"])
        return pandas.DataFrame({"weight": self.weights.ravel()}, index=index)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all of it to a .npz, .h5 or .hdf5 file, which `fastcov.load` reads.

        It works, and raises, as `Fit.save` does.
        """
        readable = {"status": self.status, "atoms": self.atoms, "center": self.stats["center"]}
        for name in ("channels", "conditions"):
            if (names := getattr(self, name)) is not None:
                readable[name] = np.array([str(each) for each in names])
        save(self, path, readable)

    def __repr__(self) -> str:
        lines = [self._title(), *(f"  {name:<10}{value}" for name, value in self._rows())]
        for note in self._notes():
            lines += textwrap.wrap(note, WIDTH, initial_indent="  ", subsequent_indent="  ")
        if self.scores is not None:
            lines.append(str(self.scores))
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        table = html_table(self._title(), self._rows(), notes=self._notes())
        return table if self.scores is None else f"{table}\n{self.scores._repr_html_()}"

    def _title(self) -> str:
        N, D = self.stats["shape"]
        targets = f", {len(self.weights)} targets" if self.weights.ndim == 2 else ""
        return f"Reweighting: {N} channels x {D} conditions{targets}, {self.atoms}"

    def _rows(self) -> list[tuple[str, str]]:
        w, anchor = self.weights, self.shrink_to
        counts = f"{w.min():.4g} to {w.max():.4g}, {int((w < 0).sum())} below 0"
        if (held := self.stats.get("at_bounds")) is not None:
            counts += f", {int(np.sum(held))} at a bound"
        ridge = "one for each channel" if np.ndim(self.ridge) else f"{self.ridge:.4g}"
        if self.relative_ridge is not None and not np.ndim(self.relative_ridge):
            ridge += f" ({self.relative_ridge:.4g} of the largest eigenvalue)"
        solver = self.stats.get("solver") or "minimised"
        rows = [("weights", counts), ("ridge", f"{ridge}, shrinks to {anchor:g}")]
        if self.stats["offset"]:
            rows.append(("offset", _mean(self.offset)))
        rows += [
            ("R2", f"{_mean(self.r2)} of these pairs"),
            ("pearson", f"{_mean(self.pearson)} of these pairs, spearman {_mean(self.spearman)}"),
            ("residual", f"{np.max(self.residual):.1e} ({self.status}, {solver})"),
        ]
        return rows

    def _notes(self) -> list[str]:
        if self.scores is None:
            return ["How well other conditions are predicted, ridge='cv' tells."]
        return []


def _mean(values: Any) -> str:
    return f"{np.mean(values):.4g}" + (" (mean)" if np.ndim(values) else "")


def with_offset(values: Array, offset: Array, atoms: str) -> Array:
    """Similarities (T, D, D) plus an offset (T,) of each; a distance from itself stays zero."""
    out: Array = values + offset[:, np.newaxis, np.newaxis]
    if atoms == SQUARED_EUCLIDEAN:
        places = np.arange(out.shape[-1])
        out[..., places, places] = 0.0
    return out
