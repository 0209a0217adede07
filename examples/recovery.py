"""How well known gains are found again: the table of docs/identifiability.md.

    FASTCOV_REAL_DATA=data.npz python examples/recovery.py 3

The file holds responses of channels, `glomeruli` (N, D). Without it, X is that of a realistic simulation, and
the output says so. Gains z are drawn, log-normal with a spread of 0.5 and independent of X; the output
population is diag(z) X plus normal noise, whose standard deviation is in units of X. Exact gains are fitted
at the ridge that predicts held-out conditions best, and at the best one of the recordings for their own
target, and compared with z over the channels that respond to anything. The number is that of draws of gains
and noise; the table has means over them.
"""

import os
import sys

import numpy as np

import fastcov as fc

NOISE = (0.0, 0.05, 0.1, 0.25, 0.5, 1.0)
RIDGES = (0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 3e-4, 1e-4)
RECORDED = 3e-3  # the best ridge of the recordings for their own target
SPREAD, RESOLVED = 0.5, 0.8
SEEDS = int((sys.argv[1:] or ["3"])[0])
FEWEST = 10  # channels in which a correlation says something

if path := os.environ.get("FASTCOV_REAL_DATA"):
    with np.load(path) as data:
        X = data["glomeruli"].astype(float)
    print(f"X: the recordings of FASTCOV_REAL_DATA, {X.shape[0]} channels x {X.shape[1]} conditions")
else:
    X = fc.datasets.simulate(871, 52, realistic=True, rng=0).X
    print("X: SIMULATED, for FASTCOV_REAL_DATA is not set: simulate(871, 52, realistic=True)")
live = X.any(axis=1)
print(f"Root mean square of X: {np.sqrt(np.mean(X**2)):.2f}\n")


def correlation(a, b, some=live):
    """Of gains of two fits, over some channels; NaN for too few."""
    return np.corrcoef(a[some], b[some])[0, 1] if some.sum() >= FEWEST else np.nan


def recovered(noise, seed):
    """The figures of one draw of gains and noise."""
    rng = np.random.default_rng([seed])
    gains = np.exp(SPREAD * rng.standard_normal(len(X)))
    first, second = (gains[:, None] * X + noise * rng.standard_normal(X.shape) for _ in range(2))
    cv = fc.cross_validate(X, first, relative_ridges=RIDGES, folds=5, refit=None)
    options = {"method": "exact", "relative_ridge": cv.best_ridge}
    fit = fc.fit(X, responses=first, **options)
    resolution = fit.uncertainty(by="conditions").resolution
    again = fc.fit(X, responses=second, **options)
    options["relative_ridge"] = RECORDED
    other = fc.fit(X, responses=first, **options)
    without_noise = fc.fit(X, responses=first, nuisance="diagonal", **options)
    high = live & (resolution > RESOLVED)
    best = cv.place("exact")
    return {
        "best λ/λ_max": cv.best_ridge,
        "true and fitted gains, correlation": correlation(gains, fit.gains),
        f"the same, resolution > {RESOLVED:g}": correlation(gains, fit.gains, high),
        f"share with resolution > {RESOLVED:g}": high.sum() / live.sum(),
        f"true and fitted gains, λ/λ_max {RECORDED:g}": correlation(gains, other.gains),
        "the same, with the nuisance term βI": correlation(gains, without_noise.gains),
        "R², fitted": fit.r2,
        f"R², fitted, λ/λ_max {RECORDED:g}": other.r2,
        "R², held out": cv.scores["exact"].pooled("r2")[best],
        "cross-pearson, held out": cv.scores["exact"].pooled("cross-pearson")[best],
        "gains of two folds, correlation": cv.agreement("exact")[best],
        "gains of two draws of noise, correlation": correlation(fit.gains, again.gains),
    }


print("| standard deviation of the noise |", *(f"{noise:g} |" for noise in NOISE))
print("|---|" + "---|" * len(NOISE))
rows = [[recovered(noise, seed) for seed in range(SEEDS)] for noise in NOISE]
for name in rows[0][0]:
    ridge = name.startswith("best")
    cells = [np.array([each[name] for each in seeds]) for seeds in rows]
    values = [np.median(cell) if ridge else cell.mean() for cell in cells]
    texts = [f"{v:.1g}" if ridge else "" if np.isnan(v) else f"{v:.2f}" for v in values]
    print(f"| {name} |", *(f"{text} |" for text in texts))
