"""The README's scores of held-out conditions: `FASTCOV_REAL_DATA=data.npz python examples/held_out.py`.

The file is that of when_to_trust.py. Without it, simulated responses are taken. A number after the name of
the script, as 199, tests with so many shuffles whether the scores are more than shuffled conditions give.
"""

import os
import sys
import warnings

import fastcov as fc

RIDGES = (1, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
METHODS = ("exact", "line-search", "linear")
TERMS = ("diagonal", "constant")
SCORES = ("cross-pearson", "r2", "r2-off-diagonal")
BASELINES = {"one": "gains of one", "no-x": "no X", "scaled": "aC + βI + γ11ᵀ"}

if path := os.environ.get("FASTCOV_REAL_DATA"):
    import numpy as np

    with np.load(path) as data:
        X, Y = data["glomeruli"], data["mitral"]
else:
    sim = fc.datasets.simulate(rng=0)
    X, Y = sim.X, sim.Y

warnings.simplefilter("ignore", fc.OvershootWarning)  # the scores say it
options = {"relative_ridges": RIDGES, "folds": 5, "repeats": 6, "refit": None}
plain = fc.cross_validate(X, Y, method=METHODS, **options)
terms = fc.cross_validate(X, Y, method="exact", nuisance=TERMS, **options)


def row(name, values, errors):
    cells = (f"{value:.2f} ± {error:.2f} |" for value, error in zip(values, errors, strict=True))
    print(f"| {name} |", *cells)


for score in SCORES:
    print(f"\n{score}, pooled over folds, ± its standard error\n")
    print("| λ / λ_max |", *(f"{ridge:g} |" for ridge in RIDGES))
    print("|---|" + "---|" * len(RIDGES))
    row("exact, with βI + γ11ᵀ", *terms.summary("exact", score))
    for method in METHODS:
        row(method, *plain.summary(method, score))
    for name, label in BASELINES.items():
        value, error = plain.baseline(name, score)
        print(f"| {label} | {value:.2f} ± {error:.2f} |" + " |" * (len(RIDGES) - 1))

if shuffles := int((sys.argv[1:] or ["0"])[0]):
    for nuisance in ((), TERMS):
        test = fc.permutation_test(X, Y, shuffles=shuffles, nuisance=nuisance)
        print(f"\nnuisance={nuisance!r}\n{test}\n\n| score, the largest over all λ | exact | p | distance |")
        print("|---|---|---|---|")
        scores = test.cv.scores["exact"]
        for score, p in test.p_values.items():
            null, most = scores.shuffled.pooled(score).max(axis=1), scores.pooled(score).max()
            print(f"| `{score}` | {most:.2f} | {p:.3g} | {(most - null.mean()) / null.std(ddof=1):.1f} |")
