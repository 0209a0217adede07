"""The measured table of the README: `python bench/table.py [--pairs 25]`, some ten minutes.

Every ratio is the median over pairs of runs, interleaved A B B A in one process, so that whatever
else the machine does falls on both.
"""

from __future__ import annotations

import fastcov as fc  # first, as in operations.py

# isort: split
import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from operations import case

MEMORY = """
import resource, sys
import numpy as np
import fastcov as fc
X = np.random.default_rng(0).random((4000, 500))
fc.gram(X[:2200])  # large enough for every parallel kernel to be loaded
open("/proc/self/clear_refs", "w").write("5")  # the peak starts from here
status = lambda key: int(next(l for l in open("/proc/self/status") if l.startswith(key)).split()[1])
before = status("VmRSS")
A = fc.gram(X)
print((status("VmHWM") - before) * 1024 / A.nbytes)
"""
IMPORT = "import time; t = time.perf_counter(); import fastcov; print(time.perf_counter() - t)"
FIRST_FIT = """
import time; t = time.perf_counter()
import numpy as np
import fastcov as fc
r = np.random.default_rng(0)
X = r.random((148, 48))
fc.fit(X, fc.covariance(r.random((148, 48))), ridge=1.0)
print(time.perf_counter() - t)
"""


def paired(a: Callable[[], Any], b: Callable[[], Any], pairs: int) -> float:
    """Median of time(a) / time(b) over interleaved pairs."""
    clock = time.perf_counter
    a(), b()
    ratios = []
    for i in range(pairs):
        took = {}
        for name, run in ([("a", a), ("b", b)], [("b", b), ("a", a)])[i % 2]:
            start = clock()
            result = run()
            took[name] = clock() - start
            del result  # freed outside the clock
        ratios.append(took["a"] / took["b"])
    return statistics.median(ratios)


def child(code: str, runs: int) -> float:
    """Median of the number that a fresh process prints; the first run warms the caches."""
    values = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(runs + 1)
    ]
    return statistics.median(values[1:])


def row(what: str, at: str, bound: str, value: float, form: str = ".2f") -> None:
    print(f"| {what} | {at} | {bound} | {value:{form}} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=25)
    pairs = parser.parse_args().pairs

    def at(shape: tuple[int, int]) -> str:
        return f"({shape[0]}, {shape[1]})"

    def to_floor(group: str, shape: tuple[int, int]) -> float:
        found = case(group, shape)
        found.check(found.ours())
        return paired(found.ours, found.floor, pairs)

    def to_naive(group: str, shape: tuple[int, int]) -> float:
        found = case(group, shape)
        assert found.naive is not None
        return paired(found.naive, found.ours, pairs)

    print("| what | at | aim | measured |\n|---|---|---|---|")
    row("`fc.gram` / bare `dsyrk` of the centred X", at((4000, 500)), "≤ 1.4", to_floor("gram", (4000, 500)))
    row("peak memory of `fc.gram` beyond X / 8N²", at((4000, 500)), "≤ 1.2", child(MEMORY, 3))
    row(
        "`fc.fit` / bare (`dsyrk` + `dpotrf` + `dpotrs`)", at((2000, 187)), "≤ 1.3",
        to_floor("fit", (2000, 187)),
    )  # fmt: skip
    for shape, bound in [((148, 48), "≥ 6"), ((1004, 187), "≥ 35"), ((1000, 500), "≥ 60")]:
        row("naive vectorised / `fc.fit`", at(shape), bound, to_naive("fit", shape), ".1f")
    row("`fc.loss`, one z / bare `dsyrk` (D x D)", at((8000, 187)), "≤ 1.8", to_floor("loss", (8000, 187)))
    row("NumPy loop / `fc.loss` on 256 candidates", at((148, 48)), "≥ 4", to_naive("losses", (148, 48)))
    row("`import fastcov`, seconds", "", "≤ 0.1", child(IMPORT, 9), ".4f")
    row("first fit in a new process, warm cache, seconds", at((148, 48)), "≤ 1.2", child(FIRST_FIT, 9))
    if path := os.environ.get("FASTCOV_REAL_DATA"):
        with np.load(path) as real:
            X, Y = real["glomeruli"], real["mitral"]
        S = fc.target_covariance(Y, like=X)
        for method, bound in [("linear", "0.6633"), ("diagonal", "6.508")]:
            fit = fc.fit(X, S, relative_ridge=0.1, method=method)
            name = f"real data, relative ridge 0.1: {method}, loss / loss at gains of one"
            row(name, at(X.shape), bound, fit.loss / fit.loss_at_one, ".4f")


if __name__ == "__main__":
    main()
