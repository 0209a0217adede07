"""Public calls of every kind, and which of them wake the threads of NumPy's own BLAS: run by test_pools.py.

The first thing it does is to import NumPy, as nearly all processes do. It prints a line of JSON for each call
that gave a core to one of these threads: its name, and how often. At the end, how many calls there were.
"""

import functools
import json
import tempfile
import warnings

from pools import Pool

NUMPY = Pool.of_numpy()

import numpy as np  # noqa: E402

import fastcov as fc  # noqa: E402

SIZES = {"148x48": (148, 48), "871x52": (871, 52), "1004x187": (1004, 187), "30000x60": (30000, 60)}


def controls():
    """Calls that do wake them: a product, and the norm that made fits ten times slower."""
    yield "product", lambda: np.ones((300, 300)) @ np.ones((300, 300))
    yield "norm", lambda: np.linalg.norm(np.ones((512, 52)))


def put_back():
    """A fit of float64 in which one norm is NumPy's again."""
    from fastcov._compute import blas

    ours, blas.norm = blas.norm, np.linalg.norm
    try:
        yield from (call for call in fits("871x52", np.float64) if "fit linear" in call[0])
    finally:
        blas.norm = ours


def penalty_rows(N, rows=3):
    """Γ (rows, N) of which no part is diagonal."""
    return np.sin(np.arange(1.0, rows + 1)[:, np.newaxis] * np.arange(N))


def fits(size, dtype):
    N = SIZES[size][0]
    X, S, Y = (getattr(made, name) for made in [simulated(size, dtype)] for name in ("X", "S", "Y"))
    both, ones = np.stack([S, 1.1 * S]), np.ones((2, N))
    auto = "pcg" if N > 10000 else "auto"  # no matrix over all channels

    def fit(**options):
        return lambda: fc.fit(X, S, **{"relative_ridge": 0.1, "solver": auto, **options})

    yield "simulate", lambda: simulated(size, dtype)
    for atoms in ("product", "squared-euclidean"):
        reweight = functools.partial(fc.reweight, X, S, relative_ridge=0.1, solver=auto, atoms=atoms)
        yield f"reweight {atoms}", functools.partial(reweight, offset=True)
        yield f"reweight {atoms} within bounds", functools.partial(reweight, bounds=(0, None))
    for method in ("linear", "diagonal", "line-search"):
        yield f"fit {method}", fit(method=method)
    for relative in (0.1, 0.001):
        yield f"fit exact {relative}", fit(method="exact", relative_ridge=relative, max_iterations=40)
    for solver in {"30000x60": ("pcg",), "1004x187": ("cholesky", "pcg")}.get(
        size, ("cholesky", "dual", "pcg")
    ):
        yield f"fit {solver}", fit(solver=solver)
    yield "fit stack", lambda: fc.fit(X, both, relative_ridge=0.1)
    yield "fit responses", lambda: fc.fit(X, responses=Y, relative_ridge=0.1)
    yield "fit nuisance", fit(nuisance=("diagonal", "constant"), pairs="off-diagonal")
    ridge = fc.fit(X, S, relative_ridge=0.1).ridge
    each = ridge * np.linspace(0.0, 2.0, N)
    root = np.sqrt(ridge) * np.vstack([penalty_rows(N), np.zeros(N)])
    for name, given in (("vector", each), ("matrix", root)):
        for method in ("linear", "exact") if size == "871x52" or name == "vector" else ("linear",):
            yield (
                f"fit {name} {method}",
                fit(relative_ridge=None, ridge=given, method=method, max_iterations=20),
            )
        yield f"loss {name}", lambda given=given: fc.loss_and_gradient(X, S, ones, ridge=given)
    yield "loss", lambda: fc.loss(X, S, np.ones(N))
    yield "loss and gradient", lambda: fc.loss_and_gradient(X, S, ones)
    yield "overlaps", lambda: fc.overlaps(X, S, gains=2.0 * ones[0])
    yield "norms", lambda: fc.atom_norms(X)
    yield "covariance", lambda: fc.covariance(X, gains=2.0 * ones[0])
    yield "target", lambda: fc.target_covariance(Y, like=X)
    yield "path", lambda: fc.ridge_path(X, S, relative_ridges=[0.5, 0.01])
    yield (
        "operators",
        lambda: (fc.AtomOperator(X).T @ (fc.AtomOperator(X) @ ones[0]), fc.GramOperator(X) @ ones[0]),
    )
    if N <= 2000:
        yield "gram", lambda: fc.gram(X)
    yield "apply", lambda: fc.fit(X, S, relative_ridge=0.1).apply(X)


def studies(size, dtype):
    made = simulated(size, dtype)
    X, S, Y = made.X, made.S, made.Y
    large = size == "30000x60"
    some = {"relative_ridges": [0.1], "folds": 2, "max_iterations": 10}
    yield "explain modes", lambda: explained(fc.explain(X, S, relative_ridge=0.1, modes=4, shuffles=2))
    if size in ("148x48", "871x52"):
        yield "explain", lambda: explained(fc.explain(X, S, relative_ridge=0.1, shuffles=2))
    for method in ("linear",) if large else ("linear", "exact"):
        yield f"cross_validate {method}", lambda m=method: fc.cross_validate(X, Y, method=m, **some).verdict
    yield "permutation_test", lambda: fc.permutation_test(X, Y, shuffles=19, method="linear", **some)
    if not large:
        groups = np.arange(len(X)) % 3
        yield "study", lambda: str(fc.study(X, Y, shuffles=19, method="linear", groups=groups, **some))
    yield (
        "cross_validate nuisance",
        lambda: fc.cross_validate(X, S=S, method="linear", nuisance="diagonal", **some),
    )


def explained(why):
    """All that is computed when it is asked for."""
    why.delta_correlations, why.remainder, why.delta_shares, why.loss_shares, why.linearisation_error  # noqa: B018
    why.gain_modes(), why.covariance_modes(2), why.filter(1), why.overlap_pairs(1), why.contributions(1)
    return why


def functions(dtype):
    """What takes no responses of channels: penalties of more than 10,000 samples, and quadratic forms."""
    from fastcov import penalties
    from fastcov.quadratic_forms import SPDBatch, quadratic_forms_and_gradients

    random = np.random.default_rng(0)
    for n, m in ((20, 20000), (300, 12000), (12000, 30), (300, 200)):
        A = random.standard_normal((n, m)).astype(dtype)
        for name in ("decov", "mean_absolute_covariance", "mean_covariance", "mean_squared_covariance",
                     "vicreg_covariance"):  # fmt: skip
            if name == "mean_absolute_covariance" and n * n * m > 2e9:
                continue
            yield f"{name} {n}x{m}", lambda A=A, name=name: getattr(penalties, name)(A)
        if n <= 300:
            yield (
                f"distance {n}x{m}",
                lambda A=A, n=n: penalties.covariance_distance(A, np.eye(n), coral=True),
            )
            yield f"smooth {n}x{m}", lambda A=A: penalties.mean_absolute_covariance(A, epsilon=0.1)
    for Z, d in ((4, 256), (64, 64)):
        yield f"random {d}", lambda Z=Z, d=d: SPDBatch.random(Z, d, rng=0, dtype=dtype)
        batch = SPDBatch.random(Z, d, rng=0, dtype=dtype)
        rhs = random.standard_normal((100, Z, d)).astype(dtype)
        for name in ("inverse", "logdet", "ldl", "matrices"):
            yield f"{name} {d}", lambda batch=batch, name=name: getattr(batch, name)()
        yield f"solve {d}", lambda batch=batch, rhs=rhs: batch.solve(rhs)
        yield f"forms {d}", lambda x=rhs, batch=batch: quadratic_forms_and_gradients(x, batch)
        bad = batch.matrices()
        bad[0] -= 2.0 * bad[0].max() * np.eye(d)
        yield f"refused {d}", lambda bad=bad: refused(SPDBatch.from_matrices, bad)


def refused(call, *arguments):
    try:
        call(*arguments)
    except ValueError:
        return
    raise AssertionError("was to be refused")


def figures():
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    for size in ("871x52", "30000x60"):
        made = simulated(size, np.float64)
        fit = fc.fit(made.X, made.S, relative_ridge=0.1)
        why = fc.explain(made.X, made.S, relative_ridge=0.1, modes=3, shuffles=2)
        for name in ("overlaps", "spectrum", "reachable"):
            yield f"plot {name} {size}", lambda name=name, why=why: getattr(fc.plot, name)(why)
        yield f"plot gains {size}", lambda fit=fit: fc.plot.gains(fit)
        yield f"plot summary {size}", lambda made=made, fit=fit: fc.plot.summary(made.X, made.S, fit)
        plt.close("all")


def workers():
    """Calls in a worker of Dask that is a thread of this process, and on its chunks."""
    import dask
    import dask.array as da
    import distributed

    dask.config.set({"distributed.worker.daemon": False})
    made = simulated("871x52", np.float64)
    X, S = made.X, made.S
    with (
        tempfile.TemporaryDirectory() as folder,
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None, local_directory=folder
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        for method in ("linear", "exact"):
            yield (
                f"in a worker, {method}",
                lambda m=method: client.submit(
                    fc.fit, X, S, relative_ridge=0.1, method=m, pure=False
                ).result(),
            )
            chunks = da.from_array(X, chunks=(300, 52))
            yield f"chunks, {method}", lambda m=method, X=chunks: fc.fit(X, S, relative_ridge=0.1, method=m)


def more():
    from fastcov.cli import _doctor

    yield "doctor", _doctor.examine
    yield "threads", lambda: [fc.threads(1).__enter__()]
    yield "plan", lambda: fc.plan(30000, 60)


def simulated(size, dtype):
    return fc.datasets.simulate(*SIZES[size], rng=0, dtype=dtype)


GROUPS = {
    "controls": controls,
    "put-back": put_back,
    "figures": figures,
    "workers": workers,
    "more": more,
    **{f"functions {kind}": lambda k=kind: functions(k) for kind in ("float64", "float32")},
    **{
        f"{name} {size} {kind}": lambda calls=calls, size=size, kind=kind: calls(size, kind)
        for name, calls in (("fits", fits), ("studies", studies))
        for size in SIZES
        for kind in ("float64", "float32")
    },
}


def main(groups):
    if not NUMPY.ids:
        print("no pool")
        return
    warnings.simplefilter("ignore")
    count = 0
    for group in groups:
        for name, call in GROUPS[group]():
            turns, count = [], count + 1
            with NUMPY.watched(turns):
                call()
            if turns[0]:
                print(json.dumps([group, name, turns[0]]))
    print(json.dumps(count))
