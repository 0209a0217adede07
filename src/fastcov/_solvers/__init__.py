"""Solvers of (GᵀG + λI) δ = b.

Each is a module with ``init(problem, ridge) -> state``, which raises MemoryError before it allocates,
and ``solve(state, rhs) -> Solution``: a state serves any number of right-hand sides.
"""

from . import cholesky
from ._solution import Solution

SOLVERS = {"cholesky": cholesky}

__all__ = ["SOLVERS", "Solution"]
