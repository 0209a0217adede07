"""The free model beside bare LAPACK, beside L-BFGS, over a path, and in memory: the table of docs/free.md.

    python bench/free.py [--pairs 25] [--only NAME]

Ratios are medians of interleaved calls in one process with NumPy imported first; the machine should do
nothing else. With FASTCOV_REAL_DATA the recordings (871 x 52) take the place of a simulation of that size.
"""

from __future__ import annotations

import numpy as np  # first, as in test_speed.py

# isort: split
import argparse
import contextlib
import functools
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable

import scipy.linalg
import scipy.optimize

import fastcov as fc

SHARES = (1e-1, 1e-2, 1e-3)  # λ over the square of the largest eigenvalue of Γ
TOL = 1e-6  # of the gradient, relative to that at W = 0
MANY = 1_000_000


class Enough(Exception):
    """Raised where the gradient is small enough."""


def data() -> tuple[str, np.ndarray, np.ndarray]:
    """A name, X and S of (871, 52)."""
    if path := os.environ.get("FASTCOV_REAL_DATA"):
        recorded = np.load(path)
        X = np.ascontiguousarray(recorded["glomeruli"], np.float64)
        return "recordings", X, fc.target_covariance(recorded["mitral"], like=X)
    sim = fc.datasets.simulate(871, 52, rng=0, realistic=True)
    return "simulation", sim.X, fc.target_covariance(sim.Y, like=sim.X)


def ratio(ours: Callable[[], object], other: Callable[[], object], pairs: int) -> tuple[float, float, float]:
    """The median of time of `ours` over that of `other`, and the medians of both in milliseconds."""
    ours(), other()
    times: dict[Callable[[], object], list[float]] = {ours: [], other: []}
    for k in range(pairs):
        for call in (ours, other) if k % 2 else (other, ours):
            start = time.perf_counter()
            call()
            times[call].append(time.perf_counter() - start)
    each = [a / b for a, b in zip(times[ours], times[other], strict=True)]
    return statistics.median(each), *(1e3 * statistics.median(t) for t in times.values())


def floor(X: np.ndarray) -> None:
    """One covariance and ten eigendecompositions of its size."""
    C = fc.covariance(X)
    for _ in range(10):
        scipy.linalg.eigh(C, check_finite=False)


def lbfgs(X: np.ndarray, S: np.ndarray, ridge: float) -> int:
    """The same minimum over D x (D + 1) numbers in plain NumPy and SciPy: W = U M Uᵀ with orthonormal U."""
    m = X.mean(axis=0)
    G = (X - m).T @ (X - m)
    values, vectors = np.linalg.eigh(G)
    x = np.vstack([np.sqrt(np.maximum(values, 0.0))[:, np.newaxis] * vectors.T, np.sqrt(len(X)) * m])
    D, calls = len(G), 0
    unit, scale = np.linalg.norm(2 * x[:D] @ (G - S) @ x.T), np.sum((G - S) ** 2) / 2

    def function(v: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal calls
        calls += 1
        M = v.reshape(D, D + 1)
        Y = x[:D] + M @ x
        E = Y.T @ Y - S
        gradient = 2 * Y @ E @ x.T + ridge * M
        if np.linalg.norm(gradient) <= TOL * unit:
            raise Enough
        return (np.sum(E * E) + ridge * np.sum(M * M)) / 2 / scale, gradient.ravel() / scale

    with contextlib.suppress(Enough):
        scipy.optimize.minimize(
            function, np.zeros(D * (D + 1)), jac=True, method="L-BFGS-B",
            options={"maxiter": 10**5, "maxfun": 10**5, "ftol": 0.0, "gtol": 0.0, "maxcor": 20},
        )  # fmt: skip
    return calls


def beside_lapack(pairs: int) -> None:
    name, X, S = data()
    big = fc.datasets.simulate(100_000, 100, rng=0)
    for what, given, target in ((name, X, S), ("simulation", big.X, fc.target_covariance(big.Y, like=big.X))):
        unit = np.linalg.eigvalsh(fc.covariance(given))[-1] ** 2
        for share in SHARES:
            fit = functools.partial(fc.fit, given, target, ridge=share * unit, method="free")
            found = ratio(fit, functools.partial(floor, given), pairs)
            print(f"exact / covariance + 10 eigh, {what} {given.shape}, λ/γ² {share:g}: {line(found)}")


def beside_lbfgs(pairs: int) -> None:
    name, X, S = data()
    unit = np.linalg.eigvalsh(fc.covariance(X))[-1] ** 2
    for share in SHARES:
        fit = functools.partial(fc.fit, X, S, ridge=share * unit, method="free")
        with fc.threads(1):  # both: a pool of BLAS threads only slows L-BFGS down
            found = ratio(functools.partial(lbfgs, X, S, share * unit), fit, pairs)
            calls = lbfgs(X, S, share * unit)
        print(f"L-BFGS ({calls} evaluations) / exact, {name} {X.shape}, λ/γ² {share:g}: {line(found)}")


def over_a_path(pairs: int) -> None:
    sim = fc.datasets.simulate(1004, 187, rng=0)
    S = fc.target_covariance(sim.Y, like=sim.X)
    unit = np.linalg.eigvalsh(fc.covariance(sim.X))[-1] ** 2
    ridges = unit * np.logspace(-4, 0, 100)
    path = functools.partial(fc.ridge_path, sim.X, S, ridges=ridges, method="free-linear")
    for method in ("free-linear", "free"):
        one = functools.partial(fc.fit, sim.X, S, ridge=1e-2 * unit, method=method)
        print(f"path of 100 λ, free-linear / one {method} fit, (1004, 187): {line(ratio(path, one, pairs))}")


CHILD = """
import numpy as np, fastcov as fc
def peak():
    return int(next(line for line in open("/proc/self/status") if "VmHWM" in line).split()[1])
X = np.load({file!r}, mmap_mode={mode})
S = np.cov(np.random.default_rng(1).standard_normal((300, 100)), rowvar=False)
fc.fit(X[:1000], 1000 * S, relative_ridge=0.01, method="free")  # imports, and loads compiled code
before = peak()
fc.fit(X, len(X) * S, relative_ridge=0.01, method="free")
print(peak() - before)
"""


def in_memory(_: int) -> None:
    """What a fit adds to the peak resident size of a child process."""
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "X.npy"
        rng = np.random.default_rng(0)
        X = np.lib.format.open_memmap(file, "w+", np.float32, (MANY, 100))
        for first in range(0, MANY, 10**5):
            X[first : first + 10**5] = rng.standard_normal((10**5, 100), np.float32) + 1
        X.flush()
        for mode, where in (("None", "in memory"), ("'r'", "in a file")):
            code = CHILD.format(file=str(file), mode=mode)
            out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
            print(f"memory beyond X {where}, ({MANY}, 100) float32: {int(out.stdout) / 1e3:.0f} MB")


def line(found: tuple[float, float, float]) -> str:
    return f"{found[0]:.2f} ({found[1]:.2f} / {found[2]:.2f} ms)"


ROWS = {"lapack": beside_lapack, "lbfgs": beside_lbfgs, "path": over_a_path, "memory": in_memory}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=25, help="of interleaved calls")
    parser.add_argument("--only", choices=ROWS, help="one of the rows")
    asked = parser.parse_args()
    warnings.simplefilter("ignore", fc.OvershootWarning)
    for name, row in ROWS.items():
        if asked.only in (None, name):
            row(asked.pairs)


if __name__ == "__main__":
    main()
