"""Is it as good where there is no AVX-512? A short set of the gate's rows, once more with AVX2 alone.

Many users have such processors, and developers of one that has AVX-512 see nothing of them. In a child
process BLAS is told to take its kernels for Haswell, and Numba to compile for it. The ratio of a row to what
runs beside it there, over the same ratio as the machine is, must be at most WORSE; a row for which it may be
more says why in MAY. What has no AVX-512 is left out, which is said: all of the gate is of AVX2 there.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import threadpoolctl

from gate_rows import FLOOR, FLY, NAIVE, SIGNS, SMALL, TINY

# As OpenBLAS calls its kernels for AVX-512.
AVX512 = {"SkylakeX", "Cooperlake", "SapphireRapids"}
# Features are given too: without, Numba takes those of the processor that is there.
HASWELL = {
    "OPENBLAS_CORETYPE": "Haswell",
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma,+bmi,+bmi2,+lzcnt,+popcnt,+sse4.2,+movbe,+f16c",
}
WORSE = 1.3
# Processes of a row that was worse in the first.
PROCESSES = 3
# What a user calls most, each with a product, kernels or both in it; with one thread.
ROWS = tuple(
    f"{what} {N}x{D} float64 / {against}, one"
    for what, (N, D), against in (
        ("gram", FLY, FLOOR), ("overlaps", FLY, FLOOR), ("application", FLY, FLOOR), ("loss", FLY, FLOOR),
        ("loss-and-gradient", SMALL, FLOOR), ("losses", TINY, NAIVE), ("fit", TINY, FLOOR),
        ("pcg", SMALL, FLOOR), ("exact", TINY, FLOOR), ("mean-absolute-covariance", SIGNS, FLOOR),
        ("quadratic-forms", SMALL, FLOOR),
    )
)  # fmt: skip
# Why a row may be worse than WORSE there, by its name.
MAY: Mapping[str, str] = {
    # 2.0 against 2.6 ms, where the loop takes 7.6 and 7.5, and the floor 3.2 and 3.4.
    f"losses {TINY[0]}x{TINY[1]} float64 / {NAIVE}, one": "it is all arithmetic, the loop beside it is not",
}


def here() -> bool:
    """Whether BLAS takes its kernels for AVX-512 in this process."""
    return any(pool.get("architecture") in AVX512 for pool in threadpoolctl.threadpool_info())


def compared(names: Sequence[str], in_child: Callable[..., Mapping[str, Any]]) -> dict[str, str]:
    """Verdicts of rows, "ok" or "slower", by names that say AVX2; prints a table. No AVX-512, no verdicts."""
    if not names:
        return {}
    if not here():
        print("\nBLAS has no kernels for AVX-512 here: the rows of AVX2 beside it are left out.")
        return {}
    ratios: dict[str, list[float]] = {name: [] for name in names}
    asked = list(names)
    for _ in range(PROCESSES):
        wide, narrow = in_child(asked), in_child(asked, **HASWELL)
        for name in asked:
            ratios[name].append(narrow[name].value / wide[name].value)
        asked = [name for name in asked if ratios[name][0] > WORSE and name not in MAY]
        if not asked:
            break
    said = {}
    print(f"\n{'with AVX2 / with AVX-512':<48}{'ratio':>9}{'fail':>9}  verdict")
    for name, found in ratios.items():
        middle = statistics.median(found)
        said[f"{name}, AVX2"] = "slower" if middle > WORSE and name not in MAY else "ok"
        why = f", {MAY[name]}" if name in MAY else ""
        print(f"{name:<48}{middle:9.3f}{WORSE:9.3f}  {said[f'{name}, AVX2']}{why}")
    return said
