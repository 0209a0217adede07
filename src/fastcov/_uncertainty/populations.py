"""The cells behind a target, alone or in groups that are drawn together, such as those of an animal."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class Population:
    """Cells in the order of their groups; a cell that was not put into a group is one by itself."""

    Y: Array  # (M, D), centred over cells and scaled so that YᵀY is the target
    ends: NDArray[np.intp]  # where each of A groups begins, and M (A + 1,)

    @classmethod
    def of(cls, Y: Array, groups: Any) -> Population:
        """Cells Y, with the checked label of the group of each, or None."""
        if groups is None:
            return cls(Y, np.arange(len(Y) + 1))
        _, places = np.unique(groups, return_inverse=True)
        order = np.argsort(places, kind="stable")
        return cls(np.ascontiguousarray(Y[order]), np.append(0, np.cumsum(np.bincount(places))))

    @property
    def n(self) -> int:
        """The number of groups."""
        return len(self.ends) - 1

    @property
    def grouped(self) -> bool:
        """Whether any group has several cells."""
        return self.n < len(self.Y)

    @property
    def least(self) -> int:
        """How many different groups a draw needs: one if each has cells that may differ."""
        return 1 if np.diff(self.ends).min() > 1 else 2

    def often(self, counts: NDArray[Any]) -> Array:
        """How often each cell was drawn (n, M), from how often its group was (n, A)."""
        return np.repeat(counts.astype(np.float64), np.diff(self.ends), axis=1)


def check_groups(name: str, groups: Any, M: int) -> NDArray[Any]:
    """Checked labels of the groups of M cells."""
    labels = np.asarray(groups)
    if labels.shape != (M,):
        raise ValueError(
            f"Argument '{name}' must have a label for each of the {M} cells, not be of shape {labels.shape}: "
            "cells of one animal have the same."
        )
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise ValueError(
            f"Argument '{name}' must name the group of each cell, not be {labels[~np.isfinite(labels)][0]} "
            "for some: drop these cells before the fit."
        )
    if labels.dtype.kind == "O":
        labels = labels.astype(str)
    if len(np.unique(labels)) < 2:
        raise ValueError(
            f"Argument '{name}' must name at least two groups of cells, not one: leave it out, and cells are "
            "drawn one by one."
        )
    return labels
