"""Names of the runs of a case, and how they compare."""

from __future__ import annotations

import statistics

# fastcov; what one writes in NumPy from the formulas; and the bare BLAS or LAPACK work.
OURS, NAIVE, FLOOR = "fastcov", "naive", "floor"
# Units of durations, and their seconds.
UNITS = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6))


def case_name(operation: str, shape: tuple[int, int], dtype: str) -> str:
    return f"{operation} {shape[0]}x{shape[1]} {dtype}"


def ratio(above: list[float], below: list[float]) -> float:
    """Median over rounds of one run's time over another's."""
    return statistics.median(a / b for a, b in zip(above, below, strict=False))
