"""Public calls of every kind, and which of them wake the threads of NumPy's own BLAS: run by test_pools.py.

The first thing it does is to import NumPy, as nearly all processes do. It prints the names of the calls,
each with how often it gave a core to one of these threads.
"""

import sys
import warnings

from pools import Pool

NUMPY = Pool.of_numpy()

import numpy as np  # noqa: E402

import fastcov as fc  # noqa: E402

warnings.simplefilter("ignore")
SIZES = {"148x48": (148, 48), "871x52": (871, 52), "1004x187": (1004, 187), "30000x60": (30000, 60)}


def simulated(N, D, dtype=np.float64):
    made = fc.datasets.simulate(N, D, rng=0, dtype=dtype)
    return made.X, made.S, made.Y


def smoothing(N, rows):
    """Γ (rows, N) that is not diagonal."""
    root = np.zeros((rows, N))
    root[:, :N] = np.sin(np.arange(1.0, rows + 1)[:, np.newaxis] * np.arange(N) / N)
    return root


def fits(N, D, dtype):
    X, S, Y = simulated(N, D, dtype)
    large = N > 10000
    S2 = np.stack([S, 1.1 * S])
    one = 0.1
    kind = np.dtype(dtype).name
    yield f"simulate {kind}", lambda: fc.datasets.simulate(N, D, rng=0, dtype=dtype)
    for method in ("linear", "diagonal", "line-search", "exact"):
        for ridge in (0.1, 0.001):
            yield (
                f"fit {method} {ridge} {kind}",
                lambda m=method, r=ridge: fc.fit(X, S, relative_ridge=r, method=m),
            )
    for solver in ("pcg", "dual") if large else ("cholesky", "pcg", "dual"):
        if D > 100 and solver == "dual":
            continue
        yield f"fit {solver} {kind}", lambda s=solver: fc.fit(X, S, relative_ridge=one, solver=s)
    yield f"fit stack {kind}", lambda: fc.fit(X, S2, relative_ridge=one)
    yield f"fit stack exact {kind}", lambda: fc.fit(X, S2, relative_ridge=one, method="exact")
    yield f"fit responses {kind}", lambda: fc.fit(X, responses=Y, relative_ridge=one)
    yield f"loss {kind}", lambda: fc.loss(X, S, np.ones(N))
    yield f"loss of many {kind}", lambda: fc.loss(X, S, np.ones((3, N)))
    yield f"loss and gradient {kind}", lambda: fc.loss_and_gradient(X, S, np.ones((2, N)))
    yield f"overlaps {kind}", lambda: fc.overlaps(X, S)
    yield f"covariance {kind}", lambda: fc.covariance(X, gains=np.full(N, 1.5))
    yield f"target {kind}", lambda: fc.target_covariance(Y, like=X)
    yield f"path {kind}", lambda: fc.ridge_path(X, S, relative_ridges=[0.5, 0.01])


CALLS = {"fits": fits}


def report(calls):
    for name, call in calls:
        found = []
        with NUMPY.watched(found):
            call()
        if found[0]:
            print(name, found[0], flush=True)


if __name__ == "__main__":
    for size in sys.argv[1:]:
        for dtype in (np.float64, np.float32):
            report((f"{size} {n}", c) for n, c in fits(*SIZES[size], dtype))
    print("end")
