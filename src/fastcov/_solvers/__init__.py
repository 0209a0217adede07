"""Solvers of (GᵀG + λI) δ = b.

Each is a module with ``init(system, options) -> state``, which raises MemoryError before it allocates,
and ``solve(state, rhs) -> Solution``: a state serves any number of right-hand sides. `plan` chooses.
"""

from . import cholesky, conditions, dual, pcg, spectral
from ._plan import FOR_ANY_PENALTY, NAMES, Plan, base_bytes, choose, plan, solver_budget
from ._solution import Options, Solution, System

SOLVERS = dict(zip(NAMES, (cholesky, dual, spectral, pcg), strict=True))

__all__ = [
    "FOR_ANY_PENALTY", "SOLVERS", "Options", "Plan", "Solution", "System", "base_bytes", "choose",
    "conditions", "plan", "solver_budget",
]  # fmt: skip
