"""The README's R² of held-out conditions: `FASTCOV_REAL_DATA=data.npz python examples/held_out.py`.

The file is that of when_to_trust.py. Without it, simulated responses are taken.
"""

import os
import statistics

import fastcov as fc

RIDGES = (1, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
METHODS = ("exact", "line-search", "linear")

if path := os.environ.get("FASTCOV_REAL_DATA"):
    import numpy as np

    with np.load(path) as data:
        X, Y = data["glomeruli"], data["mitral"]
else:
    sim = fc.datasets.simulate(rng=0)
    X, Y = sim.X, sim.Y

cv = fc.cross_validate(X, Y, relative_ridges=RIDGES, folds=5, repeats=6, method=METHODS, refit=None)
print("| λ / λ_max |", *(f"{ridge:g} |" for ridge in RIDGES))
print("|---|" + "---|" * len(RIDGES))
for method in METHODS:
    cells = (f"{mean:.2f} ± {error:.2f} |" for mean, error in zip(*cv.summary(method), strict=True))
    print(f"| {method} |", *cells)
mean, median = cv.r2_at_one.mean(), statistics.median(cv.r2_at_one)
print(f"R² at gains of one: mean {mean:.2f}, median {median:.2f}")
