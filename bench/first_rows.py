"""The rows of first.py, each with its measurement: what is timed beside what, and where."""

from __future__ import annotations

import numpy as np  # first, as in test_speed.py

# isort: split
import dataclasses
import functools
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from scipy.linalg import blas, eigh

import fastcov as fc
import layers
import study
from fastcov._bench import _naive
from fastcov._bench._after import alone, product, quiet
from fastcov._bench._case import data
from fastcov._bench._cases import case, case_of
from fastcov._bench._children import output
from fastcov._bench._peers._given import blas_threads, within
from fastcov._bench._studies import RIDGES
from fastcov._bench._timing import interleaved
from fastcov._compute.environment import as_given
from fastcov._timings.runs import FLOOR, NAIVE, OURS, ratio

TINY, SMALL, FLY = (148, 48), (871, 52), (1004, 187)
SIMULATED = ", simulated"
# Calls in a block where one is too short for the clock and for what else the machine does.
BLOCK = 20
# Targets of the row of 1000: so many are fitted, in one call and one by one.
TARGETS = 100
# Processes of either order of imports, after one that fills the caches.
PROCESSES = 7

Measured = tuple[float, str]  # the value, and what else is to be said


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of the table; `measure` is given the number of pairs."""

    what: str
    at: str
    aim: str
    measure: Callable[[int], Measured]
    form: str = ".2f"


def paired(
    above: Callable[[], Any],
    below: Callable[[], Any],
    pairs: int,
    before: Mapping[str, Callable[[], Any]] = MappingProxyType({}),
) -> float:
    """Median of time(above) / time(below), interleaved; `before` each, by these names, outside the clock."""
    seconds = interleaved({"above": above, "below": below}, pairs, before=before)
    return ratio(seconds["above"], seconds["below"])


def blocks(run: Callable[[], Any]) -> Callable[[], None]:
    def block() -> None:
        for _ in range(BLOCK):
            run()

    return block


@functools.cache
def recordings() -> tuple[fc.datasets.Simulation, str]:
    """Those of (871, 52), or simulated ones of that size; and where they are from, for the table."""
    real = study.recordings()
    return (data(SMALL), f"{SMALL}{SIMULATED}") if real is None else (real, f"{real.X.shape}")


# ---- NumPy's threads

# As many milliseconds as NumPy's threads ran, by call, in a process that knows which threads these are.
WAKES = """
import glob, json, time
def threads():
    return {path.split("/")[4] for path in glob.glob("/proc/self/task/*")}
before = threads()
import numpy as np
np.ones((300, 300)) @ np.ones((300, 300))
pool = threads() - before
import warnings
import fastcov as fc
warnings.simplefilter("ignore")
def ran():
    return sum(int(open(f"/proc/self/task/{thread}/schedstat").read().split()[0]) for thread in pool)
def milliseconds(call):
    call()
    time.sleep(0.3)
    first = ran()
    call()
    time.sleep(0.3)
    return (ran() - first) / 1e6
found = {"a NumPy product": milliseconds(lambda: np.ones((300, 300)) @ np.ones((300, 300)))}
for N, D in ((148, 48), (871, 52), (1004, 187), (30000, 60)):
    sim = fc.datasets.simulate(N, D, rng=0)
    X, S, Y, z = sim.X, sim.S, sim.Y, np.ones(N)
    calls = {
        "fit": lambda: fc.fit(X, S, relative_ridge=0.1),
        "fit, pcg": lambda: fc.fit(X, S, relative_ridge=0.1, solver="pcg"),
        "fit, diagonal": lambda: fc.fit(X, S, relative_ridge=0.1, method="diagonal"),
        "fit, line-search": lambda: fc.fit(X, S, relative_ridge=0.1, method="line-search"),
        "fit, exact": lambda: fc.fit(X, S, relative_ridge=0.1, method="exact"),
        "fit, a ridge for each": lambda: fc.fit(X, S, ridge=1.0 + z),
        "loss": lambda: fc.loss(X, S, z),
        "loss_and_gradient": lambda: fc.loss_and_gradient(X, S, z),
        "overlaps": lambda: fc.overlaps(X, S),
        "explain, modes": lambda: fc.explain(X, S, relative_ridge=0.1, modes=10),
        "mean_squared_covariance": lambda: fc.penalties.mean_squared_covariance(X),
        "simulate": lambda: fc.datasets.simulate(N, D, rng=1),
    }
    if N < 2000:
        calls |= {
            "gram": lambda: fc.gram(X),
            "ridge_path": lambda: fc.ridge_path(X, S, relative_ridges=[0.1, 1.0]),
            "explain": lambda: fc.explain(X, S, relative_ridge=0.1),
            "mean_absolute_covariance": lambda: fc.penalties.mean_absolute_covariance(X),
        }
    if N < 1000:
        calls |= {
            "cross_validate": lambda: fc.cross_validate(X, Y, relative_ridges=[0.1, 1.0], method="exact"),
            "permutation_test": lambda: fc.permutation_test(
                X, Y, shuffles=19, method="linear", relative_ridges=[0.1]
            ),
        }
    for name, call in calls.items():
        found[f"{name} ({N}, {D})"] = milliseconds(call)
print(json.dumps(found))
"""


def wakes(_: int) -> Measured:
    """The most milliseconds of any call; which calls had any, and those of a product, which shows them."""
    if not pathlib.Path("/proc/self/schedstat").exists():
        return float("nan"), "this system does not say what a thread takes"
    found: dict[str, float] = json.loads(output(WAKES, FASTCOV_KEEP_BLAS="1"))
    shown = found.pop("a NumPy product")
    woken = ", ".join(f"{name} {value:.0f}" for name, value in found.items() if value > 0)
    return max(found.values()), f"{shown:.0f} ms in a NumPy product; {woken or 'none'} in {len(found)} calls"


# ---- fits after a product, and in two orders of imports


def after(run: Callable[[], Any], pairs: int) -> Measured:
    """Over the fit alone, when threads sleep; beside it over one that finds its caches as cold."""
    warm = paired(run, run, pairs, {"above": product, "below": quiet})
    cold = paired(run, run, pairs, {"above": product, "below": alone})
    return warm, f"{cold:.2f} times one alone that finds its caches as cold"


def after_linear(pairs: int, shape: tuple[int, int]) -> Measured:
    sim = recordings()[0] if shape == SMALL else data(shape)
    return after(lambda: fc.fit(sim.X, sim.S, relative_ridge=0.1), pairs)


def after_exact(pairs: int, share: float) -> Measured:
    sim = recordings()[0]
    return after(lambda: fc.fit(sim.X, sim.S, relative_ridge=share, method="exact"), pairs)


ORDER = """
import {imports}
import sys, statistics, time, warnings
warnings.simplefilter("ignore")
with np.load(sys.argv[1]) as file:
    X, S = file["X"], file["S"]
def seconds():
    start = time.perf_counter()
    fc.fit(X, S, relative_ridge=float(sys.argv[2]), method="exact")
    return time.perf_counter() - start
seconds()
print(statistics.median(seconds() for _ in range(25)))
"""


def orders(_: int, share: float) -> Measured:
    """Medians of processes that import NumPy first, and fastcov, in turns."""
    sim = recordings()[0]
    codes = [ORDER.format(imports=f"{a}, {b}") for a, b in (NAMES, NAMES[::-1])]
    with tempfile.TemporaryDirectory() as folder:
        path = str(pathlib.Path(folder) / "X.npz")
        np.savez(path, X=sim.X, S=sim.S)
        output(codes[0], path, str(share))
        found = [[float(output(code, path, str(share))) for code in codes] for _ in range(PROCESSES)]
    numpy, ours = (statistics.median(each) for each in zip(*found, strict=True))
    return numpy / ours, f"{1e3 * numpy:.1f} and {1e3 * ours:.1f} ms, each of {PROCESSES} processes"


NAMES = ("numpy as np", "fastcov as fc")


# ---- beside L-BFGS-B, naive versions and bare work


def one_thread(run: Callable[[], Any]) -> Callable[[], Any]:
    """With BLAS held at one thread, where L-BFGS-B over a NumPy loss is fastest."""
    return within(lambda: blas_threads(1), run)


def checked(found: Any, *names: str) -> list[Callable[[], Any]]:
    """Runs of a case, after a look at what they give."""
    for name in names:
        if name != FLOOR:
            found.check(found.runs[name]())
    return [found.runs[name] for name in names]


def lbfgs(pairs: int, share: float) -> Measured:
    ours, theirs = checked(case_of("exact", recordings()[0], relative_ridge=share), OURS, study.PEER)
    return paired(one_thread(theirs), ours, pairs), ""


def cross_validation(pairs: int) -> Measured:
    found = case_of("cross-validate", recordings()[0])
    return paired(one_thread(found.runs[study.PEER]), found.runs[OURS], pairs), ""


def beside(pairs: int, operation: str, shape: tuple[int, int], above: str, below: str) -> Measured:
    found = case(operation, shape, peers=layers.EINSUM in (above, below))
    return paired(*checked(found, above, below), pairs), ""


def stacked(pairs: int) -> Measured:
    """Single calls over one of all targets, whose conditions are permuted."""
    sim, rng = data(TINY), np.random.default_rng(0)
    orders = [rng.permutation(len(sim.S)) for _ in range(TARGETS)]
    targets = np.stack([sim.S[np.ix_(order, order)] for order in orders])
    ridge = fc.fit(sim.X, sim.S, relative_ridge=0.1, method="diagonal").ridge
    value = paired(
        lambda: [fc.fit(sim.X, S, ridge=ridge, method="exact") for S in targets],
        lambda: fc.fit(sim.X, targets, ridge=ridge, method="exact"),
        pairs,
    )
    return value, f"measured with {TARGETS} targets, λ/λ_max 0.1"


def three_lines(pairs: int, ours: Callable[..., Any], theirs: Callable[..., Any]) -> Measured:
    """Blocks of calls in turns: one takes less than the clock and the machine leave to be seen."""
    sim = data(TINY)
    z = np.random.default_rng(0).lognormal(0.0, 0.3, len(sim.X))
    np.testing.assert_allclose(ours(sim.X, sim.S, z)[0], theirs(sim.X, sim.S, z)[0], rtol=1e-10)
    one, other = (blocks(lambda call=call: call(sim.X, sim.S, z)) for call in (theirs, ours))
    return paired(one, other, pairs), ""


def path(pairs: int) -> Measured:
    """Beside eigenvectors of a Gram matrix that is there, and coefficients of all ridges times them."""
    sim = data(TINY)
    A, coefficients = fc.gram(sim.X), np.ones((len(sim.X), len(RIDGES)), order="F")

    def bare() -> Any:
        _, vectors = eigh(A, driver="evd", check_finite=False)
        return blas.dgemm(1.0, vectors, coefficients)

    return paired(lambda: fc.ridge_path(sim.X, sim.S, relative_ridges=RIDGES), bare, pairs), ""


def quick(pairs: int) -> Measured:
    """Rows in which something beside ours took less, the floor not counted, which is no other way."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "quick.json"
        command = [
            sys.executable, "-m", "fastcov", "bench", "--quick", "--rounds", str(pairs), "--json", str(path)
        ]  # fmt: skip
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=as_given())
        cases = json.loads(path.read_text())["cases"]
    faster, rows = [], 0
    for each in cases:
        seconds = each["seconds"]
        ahead = {
            name: value
            for name in seconds
            if name not in (OURS, FLOOR) and (value := ratio(seconds[name], seconds[OURS])) < 1
        }
        rows += bool(ahead)
        at = f"{each['operation']} {each['shape']} {each['dtype']}"
        faster += [f"{at}: {name} {value:.2f}" for name, value in ahead.items()]
    return float(rows), f"of {len(cases)}; {'; '.join(faster) or 'none'}"


def rows() -> list[Row]:
    """All rows but those of minima, in the order of the table."""
    at = recordings()[1]
    here = functools.partial
    ours_over, under = "fit after a NumPy product / alone", "L-BFGS-B (one BLAS thread) / exact fit"
    found = [
        Row("milliseconds of NumPy's threads in a public call, the most", "many sizes", "≤ 0", wakes, ".0f"),
        Row(f"linear {ours_over}", at, "≤ 1.3", here(after_linear, shape=SMALL)),
        Row(f"linear {ours_over}", f"{FLY}", "≤ 1.3", here(after_linear, shape=FLY)),
    ]
    for share in (0.1, 0.001):
        where = f"{at}, λ/λ_max {share:g}"
        found.append(Row(f"exact {ours_over}", where, "≤ 1.3", here(after_exact, share=share)))
    for share in (0.1, 0.001):
        where = f"{at}, λ/λ_max {share:g}"
        found.append(
            Row("exact fit, NumPy first / fastcov first", where, "≤ 1.15", here(orders, share=share))
        )
    for share, least in ((0.1, 3), (0.01, 4), (0.001, 5)):
        found.append(Row(under, f"{at}, λ/λ_max {share:g}", f"≥ {least}", here(lbfgs, share=share), ".1f"))
    found.append(Row("L-BFGS-B / `cross_validate` exact, 5 folds, 8 λ", at, "≥ 6", cross_validation, ".1f"))
    for shape, least in ((TINY, 5), (FLY, 30), ((1000, 500), 80)):
        measure = here(beside, operation="fit", shape=shape, above=NAIVE, below=OURS)
        found.append(Row("naive / `fit`", f"{shape}", f"≥ {least}", measure, ".1f"))
    stack = "1000 exact fits of permuted targets, one by one / in one call"
    return [
        *found,
        Row(stack, f"{TINY}", "≥ 3", stacked),
        Row("NumPy's three lines / `loss`", f"{TINY}", "≥ 0.8", here(
            three_lines, ours=lambda *a: (fc.loss(*a),), theirs=lambda *a: (_naive.loss(*a),)
        )),
        Row("NumPy / `loss_and_gradient`", f"{TINY}", "≥ 0.8", here(
            three_lines, ours=fc.loss_and_gradient, theirs=_naive.loss_and_gradient
        )),
        Row("`ridge_path` of 100 λ / (`eigh` of the Gram matrix + a product)", f"{TINY}", "≤ 2.5", path),
        Row("`gram` / bare `dsyrk`", "(4000, 500)", "≤ 1.2", here(
            beside, operation="gram", shape=(4000, 500), above=OURS, below=FLOOR
        )),
        Row("one product with GᵀG / two `dgemm`", "(8000, 187)", "≤ 1.25", here(
            beside, operation="application", shape=(8000, 187), above=OURS, below=FLOOR
        )),
        Row("NumPy / `mean_absolute_covariance`", f"{layers.LAYER}", "≥ 1.8", here(
            beside, operation="mean-absolute-covariance", shape=layers.LAYER, above=NAIVE, below=OURS
        )),
        Row("`np.einsum(optimize=True)` / `quadratic_forms`", "L 512, Z 256, I 64", "≥ 4", here(
            beside, operation="quadratic-forms", shape=layers.UNITS, above=layers.EINSUM, below=OURS
        )),
        Row("rows of `fastcov bench --quick` in which a peer or naive is faster", "", "≤ 3", quick, ".0f"),
    ]  # fmt: skip
