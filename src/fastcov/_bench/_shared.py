"""Gains that several targets share."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastcov as fc

from ..datasets import Simulation
from . import _naive
from ._fits import TARGETS, TRUSTED, absolute, bare_solution
from ._operation import FLY, SMALL, TINY, Task, atom_bytes, operation
from ._reference import LinearSystem, Reference


@operation("shared", ["fit"], (TINY, SMALL, FLY))
def shared(simulation: Simulation, relative_ridge: float = TRUSTED) -> Task:
    """Linear fit of one vector of gains to 8 targets: that of their mean, and R² of each.

    The naive version solves for the gains of each target and takes their mean, which is the same.
    """
    X, S, (N, D) = simulation.X, simulation.S, simulation.X.shape
    ridge = absolute(simulation, relative_ridge)
    stack = np.stack([S * (0.5 + k / TARGETS) for k in range(TARGETS)])
    system = LinearSystem(Reference(X), stack.mean(axis=0), ridge, ridge / relative_ridge)

    def naive() -> Any:
        return np.mean([_naive.linear_fit(X, each, ridge) for each in stack], axis=0)

    return Task(
        ours=lambda: fc.fit(X, stack, ridge=ridge, shared=True), check=system.check, naive=naive,
        flops=N**2 * D + float(N) ** 3 / 3, nbytes=8.0 * N**2, floor=bare_solution(simulation, ridge),
        naive_bytes=atom_bytes((N, D)), naive_flops=2.0 * TARGETS * N**2 * D**2,
    )  # fmt: skip
