"""The README's losses against the ridge: `FASTCOV_REAL_DATA=data.npz python examples/when_to_trust.py`.

The file holds responses of the input channels, `glomeruli` (N, D), and of another population, `mitral`
(M, D). Without it, simulated responses are taken.
"""

import os
import warnings

import fastcov as fc

RIDGES = (1, 0.3, 0.1, 0.03, 0.01, 0.001)

if path := os.environ.get("FASTCOV_REAL_DATA"):
    import numpy as np

    with np.load(path) as data:
        X, Y = data["glomeruli"], data["mitral"]
else:
    sim = fc.datasets.simulate()
    X, Y = sim.X, sim.Y
S = fc.target_covariance(Y, like=X)

warnings.simplefilter("ignore", fc.OvershootWarning)  # that is what the table is of
print("| λ / λ_max |", *(f"{ridge:g} |" for ridge in RIDGES))
print("|---|" + "---|" * len(RIDGES))
for method in ("linear", "line-search", "exact", "diagonal"):
    fits = [fc.fit(X, S, relative_ridge=ridge, method=method) for ridge in RIDGES]
    print(f"| {method} |", *(f"{fit.loss / fit.loss_at_one:.3g} |" for fit in fits))
    print(f"| R², {method} |", *(f"{fit.r2:.2g} |" for fit in fits))
print(f"R² at gains of one: {fits[0].stats['r2_at_one']:.2g}")
