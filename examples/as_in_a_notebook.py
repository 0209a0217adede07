"""What fits take in a program like yours: `FASTCOV_REAL_DATA=data.npz python examples/as_in_a_notebook.py`.

It begins as notebooks do, with NumPy, pandas and matplotlib, and sets nothing. The file holds responses of
the input channels, `glomeruli` (N, D), and of another population, `mitral` (M, D). Without it, responses of
the same size are simulated, which is said. Some ten seconds.
"""

import numpy as np
import pandas as pd  # noqa: F401
from matplotlib import pyplot as plt  # noqa: F401

# isort: split
import os
import statistics
import time
import warnings

import fastcov as fc

if path := os.environ.get("FASTCOV_REAL_DATA"):
    with np.load(path) as data:
        X, Y = data["glomeruli"].astype(np.float64), data["mitral"].astype(np.float64)
    print(f"Recordings of {X.shape[0]} channels and {X.shape[1]} conditions")
else:
    sim = fc.datasets.simulate(871, 52, rng=0)
    X, Y = sim.X, sim.Y
    print(f"Simulated responses of {X.shape[0]} channels and {X.shape[1]} conditions")
S = fc.target_covariance(Y, like=X)
A = np.random.default_rng(0).standard_normal((600, 600))
warnings.simplefilter("ignore", fc.OvershootWarning)  # fits are timed, not used


def milliseconds(method, relative_ridge, before):
    """Median of 25 fits, each after `before`, which is not in the time."""
    fc.fit(X, S, relative_ridge=relative_ridge, method=method)  # loads what is compiled
    taken = []
    for _ in range(25):
        before()
        start = time.perf_counter()
        fc.fit(X, S, relative_ridge=relative_ridge, method=method)
        taken.append(1e3 * (time.perf_counter() - start))
    return statistics.median(taken)


print("| fit | λ / λ_max | ms | ms, right after a NumPy product |")
print("|---|---|---|---|")
for method, ridge in (("linear", 0.1), ("exact", 0.1), ("exact", 0.01), ("exact", 0.001)):
    alone = milliseconds(method, ridge, lambda: time.sleep(0.2))  # threads of whatever came before sleep
    after = milliseconds(method, ridge, lambda: A @ A)
    print(f"| {method} | {ridge:g} | {alone:.1f} | {after:.1f} |")
