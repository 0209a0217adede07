"""Data for the tests, and bounds on the rounding that a result may have.

The bounds are the standard ones (Higham, Accuracy and Stability of Numerical Algorithms, chapter 3): a
sum of n products has an error of at most n ε times the same sum of absolute values. They are
evaluated with the oracle, on magnitudes instead of values.
"""

import contextlib
import importlib.util
import os
import pathlib
import subprocess
import sys
import tracemalloc

import naive
import numba
import numpy as np
import pytest
import scipy.optimize

import fastcov as fc

needs_jit = pytest.mark.skipif(
    bool(numba.config.DISABLE_JIT), reason="is about compiled code, and NUMBA_DISABLE_JIT is set"
)
needs_two_threads = pytest.mark.skipif(
    numba.config.NUMBA_NUM_THREADS < 2, reason="needs two threads, and Numba has one"
)


def slow_but(quick, values):
    """Values of a parameter, of which plain `pytest` takes those that are named `quick`."""
    return [each if each in quick else pytest.param(each, marks=pytest.mark.slow) for each in values]


# The compiler takes up to twenty seconds for a twin with threads, in each precision.
parallel_dtypes = pytest.mark.parametrize(
    "dtype",
    [pytest.param(np.float32, id="float32", marks=pytest.mark.slow), pytest.param(np.float64, id="float64")],
)


BENCH = pathlib.Path(__file__).parent.parent / "bench"


@contextlib.contextmanager
def bench_modules(*names):
    """Modules of bench/ by name, imported by path: it is no package. Those that others import come first."""
    found = {}
    for name in names:
        spec = importlib.util.spec_from_file_location(name, BENCH / f"{name}.py")
        found[name] = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(found[name])
    yield found
    for name in found:
        del sys.modules[name]


def data(N, D, dtype=np.float64, seed=0):
    """Responses with a mean that is not small, exact in float32, as `dtype`."""
    return (np.random.default_rng(seed).standard_normal((N, D)) + 1.0).astype(np.float32).astype(dtype)


def target(D, seed=1, size=None):
    """A symmetric target, positive definite, of the size of the covariance of `size` channels."""
    root = np.random.default_rng(seed).standard_normal((size or 3 * D, D))
    return root.T @ root


def random_gains(N, seed=2):
    """Gains of both signs; some are exactly one, one is zero."""
    z = 1.0 + np.random.default_rng(seed).standard_normal(N)
    z[::3] = 1.0
    z[-1] = 0.0 if N > 1 else 0.5
    return z


def _field(X):
    """A view of packed records: neither aligned nor contiguous."""
    records = np.zeros(X.shape, np.dtype([("flag", "i1"), ("value", X.dtype)]))
    records["value"] = X
    return records["value"]


def _negative_strides(X):
    return X[::-1, ::-1].copy()[::-1, ::-1]


def _strided(X):
    wide = np.full((2 * X.shape[0], 3 * X.shape[1]), np.nan, X.dtype)
    wide[::2, 1::3] = X
    return wide[::2, 1::3]


def _read_only(X):
    X = X.copy()
    X.flags.writeable = False
    return X


def _memory_map(X, mode, folder):
    np.save(folder / "X.npy", X)
    return np.load(folder / "X.npy", mmap_mode=mode)


# Each makes, from an array and an empty folder, an array in another form. All but the broadcast one
# hold the same values.
LAYOUTS = {
    "C": lambda X, _: X.copy(),
    "Fortran": lambda X, _: np.asfortranarray(X),
    "strided": lambda X, _: _strided(X),
    "negative-strides": lambda X, _: _negative_strides(X),
    "read-only": lambda X, _: _read_only(X),
    "big-endian": lambda X, _: X.astype(X.dtype.newbyteorder(">")),
    "unaligned": lambda X, _: _field(X),
    "broadcast": lambda X, _: np.broadcast_to(X[:, :1], X.shape),
    "memory-map": lambda X, folder: _memory_map(X, "r", folder),
    "writeable-memory-map": lambda X, folder: _memory_map(X, "r+", folder),
    "list": lambda X, _: X.tolist(),
}


def magnitudes(X, gains=None, center=True):
    """Magnitudes of what is summed for x_i and for ỹ_i, by whatever order of centring."""
    x = np.abs(np.asarray(X).astype(np.float64))
    z = np.ones(len(x)) if gains is None else np.abs(np.asarray(gains, np.float64))
    y = z[:, np.newaxis] * x
    if not center:
        return x, y
    mean = x.mean(axis=0)
    shift = (z[:, np.newaxis] + z.mean()) * mean
    both = z[:, np.newaxis] * (x + mean)
    return x + 2 * mean, both + shift + both.mean(axis=0)


def absolute_atoms(X, gains=None, center=True):
    """G of the magnitudes, which bounds the terms of every product with G."""
    return naive.outer_atoms(*magnitudes(X, gains, center))


def absolute_error(X, S, gains=None, center=True):
    """Magnitude of the terms of C and S, (D, D)."""
    _, y = magnitudes(X, gains, center)
    return y.T @ y + np.abs(S)


def rounding(X, dtype=None):
    """N ε, with the lengths of all sums that stand in a row: over channels, conditions, formulas."""
    N, D = np.shape(X)
    dtype = dtype or (np.float32 if np.asarray(X).dtype.itemsize <= 4 else np.float64)
    return (N + 2 * D + 20) * np.finfo(dtype).eps


def gains_bound(X, S, ridge, center=True):
    """Largest error of a gain of a linear fit in float64: (‖ΔA‖ ‖δ‖ + ‖Δb‖) / λ, λ > 0.

    ΔA and Δb are what rounding may do to GᵀG + λI and to Gᵀe₀; the factorisation adds to ΔA a
    multiple N of the same (Higham, theorem 10.3), already in `rounding`.
    """
    G = absolute_atoms(X, None, center)
    b = G.T @ absolute_error(X, S, None, center).ravel()
    delta = naive.linear_fit(X, S, ridge, center)
    A = np.linalg.norm(G) ** 2 + ridge
    return rounding(X, np.float64) * (A * np.linalg.norm(delta) + np.linalg.norm(b)) / ridge


def gradient_rounding(X, S, z, ridge, center=True, *, linear=False):
    """What rounding may leave of a gradient, in norm: 30 ε (‖G‖ ‖E‖ + λ ‖z‖), as in LAPACK's tests.

    ‖E‖ stands for the norms of the terms that E is the difference of.
    """
    at = None if linear else z
    G, sizes = naive.atoms(X, at, center), [naive.covariance(X, at, center), S]
    if linear:
        sizes.append(G @ (z - 1.0))
    size = np.linalg.norm(G) * sum(map(np.linalg.norm, sizes)) + ridge * np.linalg.norm(np.abs(z) + 1)
    return 30 * np.finfo(np.float64).eps * size


def minimum(X, S, ridge, center=True, *, start=None, bounds=None, linear=False):
    """Gains at a minimum of the exact or the linearised loss, from a start: L-BFGS-B."""
    value, slope = naive.loss, naive.loss_gradient
    if linear:
        value, slope = naive.linear_loss, naive.linear_loss_gradient
    z = np.ones(len(X)) if start is None else np.asarray(start, np.float64)
    if bounds is not None:
        z = np.clip(z, *bounds)
        bounds = scipy.optimize.Bounds(*bounds)
    unit = value(X, S, np.ones(len(X)), ridge, center) or 1.0
    found = scipy.optimize.minimize(
        lambda z: value(X, S, z, ridge, center) / unit,
        z,
        jac=lambda z: slope(X, S, z, ridge, center) / unit,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": 5000, "maxfun": 20000, "ftol": 1e-15, "gtol": 1e-10},
    )
    return found.x


def within(actual, expected, bound):
    """Assert |actual − expected| ≤ bound, entry by entry, and that all of it is finite."""
    actual, bound = np.asarray(actual), np.asarray(bound)
    assert actual.shape == np.shape(expected)
    assert np.isfinite(actual).all()
    excess = np.max(np.abs(actual - expected) - bound, initial=-1.0)
    assert excess <= 0, f"{excess} beyond the bound, largest {np.max(bound)}"


def peak_bytes(call):
    """Bytes at the peak of a call, and what it returns."""
    tracemalloc.start()
    try:
        result = call()
        return tracemalloc.get_traced_memory()[1], result
    finally:
        tracemalloc.stop()


def run_python(script, *, cwd=None, package=None, **environment):
    """Output of a script in a fresh interpreter, which must end well. None unsets a variable."""
    env = {**os.environ, "PYTHONPATH": str(package or pathlib.Path(fc.__file__).parents[1]), **environment}
    env = {name: str(value) for name, value in env.items() if value is not None}
    done = subprocess.run(  # the limit turns a deadlock into a failure
        [sys.executable, "-c", script], env=env, cwd=cwd, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stderr}"
    return done.stdout
