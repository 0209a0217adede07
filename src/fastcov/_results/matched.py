"""What all results of a whole connectivity have: the covariance that they give, and the target."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from .._connectivity.reduced import Reduced
from .._model.metric import nuisance_matrix

Array = NDArray[np.float64]


class Matched:
    """Covariances of a result, in units of X squared; for T targets with a leading axis of length T."""

    loss: Any
    loss_at_one: Any
    nuisance: dict[str, Any]
    stats: dict[str, Any]
    _covariance: Array
    _target: Array
    _covariance_at_one: Array
    _mean: Array

    _OF_TARGETS: ClassVar[tuple[str, ...]]  # further fields with an entry for each of T targets

    def select(self, target: int) -> Self:
        """The result of one of T targets, counted from 0, or from the last with −1."""
        if self._target.ndim == 2:
            raise ValueError("Argument 'target' must be left out: this result is of a single target.")
        T = len(self._target)
        if not isinstance(target, (int, np.integer)) or not -T <= target < T:
            raise ValueError(f"Argument 'target' must be one of the {T} targets, from 0, not {target!r}.")
        names = ("loss", "loss_at_one", "r2", "residual", "_covariance", "_target", *self._OF_TARGETS)
        return dataclasses.replace(  # type: ignore[type-var]  # those that have this are dataclasses
            self, stats=self._stats_of(int(target)),
            nuisance={name: value[target] for name, value in self.nuisance.items()},
            **{name: getattr(self, name)[target] for name in names},
        )  # fmt: skip

    def covariance(self) -> Array:
        """The fitted covariance C, without nuisance terms, (D, D) or (T, D, D), in units of X squared."""
        return self._covariance.copy()

    def prediction(self) -> Array:
        """C + βI + γ11ᵀ, with the nuisance terms of the fit: the fitted S, in units of X squared."""
        if not self.nuisance:
            return self.covariance()
        return self._covariance + nuisance_matrix(self.nuisance, self._covariance.shape[-1])

    def target(self) -> Array:
        """The target S that was fitted, (D, D) or (T, D, D), in units of X squared."""
        return self._target.copy()

    def covariance_at_one(self) -> Array:
        """The covariance Γ = XᵀJX of X as it is, (D, D), in units of X squared."""
        return self._covariance_at_one.copy()

    @property
    def overshoots(self) -> Any:
        """Whether the loss is above that of X as it is, as it may be for "free-linear" at a small ridge."""
        return self.loss > self.loss_at_one

    @property
    def unreachable(self) -> Any:
        """The least ‖C − S‖_F / ‖S‖_F that any connectivity reaches without a ridge, a number or (T,).

        C is positive semi-definite, of at most the rank of X̃, and zero where X is. Pairs count alike here.
        """
        reduced = self._reduced
        found = []
        for S in self._target.reshape(-1, *self._target.shape[-2:]):
            size = float(np.linalg.norm(S))
            left = S - reduced.nearest(S, self.stats["shape"][0])
            found.append(float(np.linalg.norm(left)) / size if size > 0 else 0.0)
        return np.array(found) if self._target.ndim == 3 else found[0]

    def _of_one(self, name: str) -> Self:
        """Itself, if it is of a single target, as what has this name needs."""
        if self._target.ndim == 3:
            raise ValueError(
                f"Argument 'target' must be chosen for {name}, of {len(self._target)} targets: use "
                f"select(0).{name}."
            )
        return self

    def _stats_of(self, k: int) -> dict[str, Any]:
        """The entries of stats of the k-th of T targets."""
        stats = {
            name: value[k] if name in ("r2_at_one", "trace_ratio") else value
            for name, value in self.stats.items()
        }
        if "nuisance_at_one" in stats:
            stats["nuisance_at_one"] = {name: value[k] for name, value in stats["nuisance_at_one"].items()}
        return stats

    @property
    def _reduced(self) -> Reduced:
        return Reduced(self._covariance_at_one, self._mean, bool(self.stats["center"]))
