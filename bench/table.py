"""The measured tables of the README: `python bench/table.py [--pairs 25]`, some fifteen minutes.

`--large` adds what takes a file of 4 GB and some minutes more. Every ratio is the median over pairs of
runs, interleaved A B B A in one process, so that whatever else the machine does falls on both.
"""

from __future__ import annotations

import numpy as np  # first, as in test_speed.py

# isort: split
import argparse
import itertools
import math
import pathlib
import tempfile

import explain
import fastcov as fc
import layers
import study
from fastcov._bench._case import data
from fastcov._bench._cases import case
from fastcov._bench._children import PEAK, child, output
from fastcov._bench._fits import HARDER, ITERATED
from fastcov._bench._timing import paired
from fastcov._timings.runs import FLOOR, NAIVE, OURS
from solvers import SIZES, disagreement

MEMORY = (
    PEAK
    + """
import numpy as np
import fastcov as fc
X = np.random.default_rng(0).random((4000, 500))
fc.gram(X[:2200])  # large enough for every parallel kernel to be loaded
start_peak()
A = fc.gram(X)
print(peak() / A.nbytes)
"""
)
# All that a fit takes beyond X, in GB.
FIT_MEMORY = (
    PEAK
    + """
import numpy as np
import fastcov as fc
sim = fc.datasets.simulate(1_000_000, 100, dtype=np.float32)
X, S = sim.X, sim.S
del sim
fc.fit(X[:20000], S, relative_ridge=1e-3)
start_peak()
fit = fc.fit(X, S, relative_ridge=1e-3)
assert fit.status == "converged"
print(peak() / 1e9)
"""
)
# Anonymous memory alone: pages of the file that are cached are not the process's.
FROM_FILE = """
import sys, threading, time
import numpy as np
import fastcov as fc
X = np.load(sys.argv[1], mmap_mode="r")
fc.fit(X[:20000], fc.covariance(X[:20000]), relative_ridge=1e-3)
S = fc.target_covariance(X[1::20], like=X)
peak = 0
def watch():
    global peak
    while True:
        anonymous = next(l for l in open("/proc/self/status") if l.startswith("RssAnon"))
        peak = max(peak, 1024 * int(anonymous.split()[1]))
        time.sleep(0.02)
threading.Thread(target=watch, daemon=True).start()
start = time.perf_counter()
fit = fc.fit(X, S, relative_ridge=1e-3, memory_budget=1e9)
seconds = time.perf_counter() - start
assert fit.status == "converged", fit
start = time.perf_counter()
with open(sys.argv[1], "rb", buffering=0) as file:
    buffer = bytearray(1 << 24)
    while file.readinto(buffer):
        pass
reading = time.perf_counter() - start
print(peak / 1e9, seconds, reading)
"""
IMPORT = "import numpy, time; t = time.perf_counter(); import fastcov; print(time.perf_counter() - t)"
FIRST_FIT = """
import time; t = time.perf_counter()
import numpy as np
import fastcov as fc
r = np.random.default_rng(0)
X = r.random((148, 48))
fc.fit(X, fc.covariance(r.random((148, 48))), ridge=1.0)
print(time.perf_counter() - t)
"""


def row(what: str, at: str, bound: str, value: float, form: str = ".2f") -> None:
    print(f"| {what} | {at} | {bound} | {value:{form}} |", flush=True)


def large_file(folder: pathlib.Path) -> str:
    """Ten million channels in float32: those of a simulation, over and over, at other levels."""
    path = str(folder / "X.npy")
    base, random = data((200_000, 100)).X, np.random.default_rng(0)
    X = np.lib.format.open_memmap(path, "w+", np.float32, (10_000_000, 100))
    for start in range(0, len(X), len(base)):
        X[start : start + len(base)] = random.permutation(base) * random.lognormal(0, 0.3, (len(base), 1))
    X.flush()
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=25)
    parser.add_argument("--large", action="store_true")
    asked = parser.parse_args()
    pairs = asked.pairs

    def at(shape: tuple[int, int]) -> str:
        return f"({shape[0]}, {shape[1]})"

    def over(operation: str, shape: tuple[int, int], above: str, below: str) -> float:
        """Time of one run over that of another, after a look at the result."""
        found = case(operation, shape, peers=False)
        found.check(found.runs[OURS]())
        return paired(found.runs[above], found.runs[below], pairs)

    print("| what | at | aim | measured |\n|---|---|---|---|")
    row("`fc.gram` / bare `dsyrk` of the centred X", at((4000, 500)), "≤ 1.4",
        over("gram", (4000, 500), OURS, FLOOR))  # fmt: skip
    row("peak memory of `fc.gram` beyond X / 8N²", at((4000, 500)), "≤ 1.2", child(MEMORY, 3))
    row(
        "`fc.fit` / bare (`dsyrk` + `dpotrf` + `dpotrs`)", at((2000, 187)), "≤ 1.3",
        over("fit", (2000, 187), OURS, FLOOR),
    )  # fmt: skip
    for shape, bound in [((148, 48), "≥ 6"), ((1004, 187), "≥ 35"), ((1000, 500), "≥ 60")]:
        row("naive vectorised / `fc.fit`", at(shape), bound, over("fit", shape, NAIVE, OURS), ".1f")
    row("`fc.loss`, one z / bare `dsyrk` (D x D)", at((8000, 187)), "≤ 1.8",
        over("loss", (8000, 187), OURS, FLOOR))  # fmt: skip
    row("NumPy loop / `fc.loss` on 256 candidates", at((148, 48)), "≥ 4",
        over("losses", (148, 48), NAIVE, OURS))  # fmt: skip
    row("`import fastcov`, seconds", "", "≤ 0.1", child(IMPORT, 9), ".4f")
    row("first fit in a new process, warm cache, seconds", at((148, 48)), "≤ 1.2", child(FIRST_FIT, 9))
    for shape, bound in [((8000, 187), "≥ 5"), ((4000, 100), "≥ 3")]:
        ridge = HARDER.get(shape, ITERATED)
        row(f'bare (`dsyrk` + `dpotrf`) / `fc.fit(solver="pcg")`, λ/λ_max {ridge:g}', at(shape), bound,
            over("pcg", shape, FLOOR, OURS), ".1f")  # fmt: skip
    shape = (8000, 187)
    row("one product with GᵀG / two bare `dgemm`", at(shape), "≤ 1.4",
        over("application", shape, OURS, FLOOR))  # fmt: skip
    shape = (200_000, 100)
    fitted, product = (case(name, shape, peers=False).runs[OURS] for name in ("pcg", "application"))
    row("`fc.fit` / one product with GᵀG, λ/λ_max 1e-3", at(shape), "≤ 30",
        paired(fitted, product, 5), ".1f")  # fmt: skip
    small, large = (case("pcg", (N, 100), peers=False).runs[OURS] for N in (50_000, 400_000))
    row("growth of `fc.fit` from N = 50000 to 400000, as a power of N", "(…, 100)", "≤ 1.1",
        math.log(paired(large, small, 5), 8))  # fmt: skip
    data.cache_clear()
    row("peak memory of `fc.fit` beyond X, GB, float32", "(1000000, 100)", "≤ 2", child(FIT_MEMORY))
    row("gains of `cholesky`, `dual`, `pcg(tol=1e-12)` apart, λ/λ_max 1e-6 to 0.1", "all sizes", "≤ 1e-6",
        max(disagreement(shape) for shape in SIZES), ".1e")  # fmt: skip
    if asked.large:
        with tempfile.TemporaryDirectory() as folder:
            path = large_file(pathlib.Path(folder))
            values = map(float, output(FROM_FILE, path).split())
        for what, bound in [("peak memory, GB", "≤ 1.5"), ("seconds", ""), ("seconds to read it once", "")]:
            name = f"`fc.fit(memory_budget=1e9)` from a file of 4 GB: {what}"
            row(name, "(10000000, 100)", bound, next(values))
    shape = (2000, 200)
    for operation, what in [("reweight", "products"), ("reweight-distances", "squared differences")]:
        row(f"frrsa's core (design matrix and ridge) / `fc.reweight` of {what}", at(shape), "≥ 15",
            over(operation, shape, NAIVE, OURS), ".1f")  # fmt: skip
    if (real := study.recordings()) is not None:
        for method, bound in [("linear", "0.6633"), ("diagonal", "6.508")]:
            fit = fc.fit(real.X, real.S, relative_ridge=0.1, method=method)
            name = f"real data, relative ridge 0.1: {method}, loss / loss at gains of one"
            row(name, at(real.X.shape), bound, fit.loss / fit.loss_at_one, ".4f")
    for what, where, bound, value, form in itertools.chain(
        study.rows(pairs), explain.rows(pairs), layers.rows(pairs)
    ):
        row(what, where, bound, value, form)


if __name__ == "__main__":
    main()
