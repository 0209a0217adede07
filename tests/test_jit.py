"""Threads, compilation and its cache, forks, and installs that cannot be written to."""

import concurrent.futures
import os
import pathlib
import shutil
import subprocess
import sys

import naive
import numba
import numpy as np
import pytest
from cases import (
    absolute_atoms,
    absolute_error,
    data,
    gains_bound,
    needs_jit,
    needs_two_threads,
    random_gains,
    rounding,
    run_python,
    slow_but,
    target,
    within,
)

import fastcov as fc
from fastcov import penalties
from fastcov._activations import kernels as activation_kernels
from fastcov._activations.activations import Activations
from fastcov._activations.products import by_signs
from fastcov._bench._compiled import kernels
from fastcov._compute import jit
from fastcov._compute import kernels as shared_kernels
from fastcov._unit_forms import form_kernels
from fastcov.quadratic_forms import SPDBatch, quadratic_forms, quadratic_forms_and_gradients

LIMIT = numba.config.NUMBA_NUM_THREADS
N, D = 300, 4


def results(dtype=np.float64):
    """What every kernel takes part in: arrays, by name."""
    X, S, z = data(N, D, dtype), target(D, size=N), random_gains(N)
    Z = np.stack([z] * 17)
    losses, gradients = fc.loss_and_gradient(X, S, Z)
    return {
        "covariance": fc.covariance(X, gains=z),
        "covariance-wide": fc.covariance(data(9, 129, dtype)),
        "gram": fc.gram(X),
        "gram-at-gains": fc.gram(X, gains=z),
        "columns": fc.GramOperator(X).columns([0, 5, N - 1]),
        "overlaps": fc.overlaps(X, S, gains=z),
        "atom_norms": fc.atom_norms(X, gains=z),
        "losses": losses,
        "gradients": gradients,
        "delta": fc.fit(X, S, ridge=1e5).delta,
        "delta-nuisance": fc.fit(X, S, ridge=1e5, nuisance="diagonal").delta,
        "delta-dual": fc.fit(X, S, ridge=1e5, solver="dual").delta,
        "delta-pcg": fc.fit(X, S, ridge=1e5, solver="pcg", tol=1e-13).delta,
        "delta-exact": fc.fit(X, S, ridge=1e5, method="exact", tol=1e-12).delta,
        "squares": penalties.mean_squared_covariance(X)[1],
        "smooth": penalties.mean_absolute_covariance(X, epsilon=EPSILON)[1],
        "signs": by_signs(Activations.of(X, samples_axis=1, center=True))[1],
        "signs-near-zero": by_signs(Activations.of(nearly_alike(dtype), samples_axis=1, center=True))[1],
        **of_units(dtype),
    }


def nearly_alike(dtype):
    """Activations of which too many covariances are within the error of float32."""
    return np.where(np.arange(N)[:, np.newaxis] % 2, [1.0, -1.0, 0.0, 0.0], [1.0, 1.0, -2.0, 1e-5]).astype(
        dtype
    )


# Units of a stack of matrices, and the condition of these.
UNITS, CONDITION, EPSILON = 3, 10.0, 0.5


def of_units(dtype):
    """The same of stacks of matrices."""
    x = data(N, D, dtype).reshape(-1, UNITS, D)
    batch = SPDBatch.random(UNITS, D, condition=CONDITION, rng=0, dtype=dtype)
    A = batch.matrices()
    g, gradients = quadratic_forms_and_gradients(x, A, mean=x[0])
    by_factors, slopes = quadratic_forms_and_gradients(x, batch, log_determinant=True)
    L, pivots = batch.ldl()
    values, vectors = np.linalg.eigh(A)
    return {
        "matrices": A,
        "forms": quadratic_forms(x, A),
        "forms-of-factors": quadratic_forms(x, batch),
        "forms-too": g,
        "forms-of-factors-too": by_factors,
        "slopes": gradients.inputs,
        "slopes-by-mean": gradients.mean,
        "slopes-by-matrices": slopes.matrices,
        "slopes-by-factors": batch.factor_gradient(slopes.matrices),
        "factors": SPDBatch.from_matrices(A).cholesky,
        "factors-kept": SPDBatch.from_cholesky(batch.cholesky).cholesky,
        "factors-of-eigen": SPDBatch.from_eigen(vectors, values).cholesky,
        "solutions": batch.solve(x),
        "inverses": batch.inverse(),
        "unit-lower": L,
        "pivots": pivots,
        "traces": batch.trace(),
    }


def nuisance_bound(X, S, ridge):
    """As `gains_bound`: terms leave no more of any entry, and what they take rounds as much again."""
    delta = naive.Counted(X, S, ridge, True, ("diagonal",)).linear()
    larger = np.linalg.norm(delta) / np.linalg.norm(naive.linear_fit(X, S, ridge))
    return 2 * max(1.0, larger) * gains_bound(X, S, ridge)


def bounds():
    """Twice the rounding of each of `results`."""
    X, S, z = data(N, D), target(D, size=N), random_gains(N)
    at_one, G, E, eps = absolute_atoms(X), absolute_atoms(X, z), absolute_error(X, S, z), 2 * rounding(X)
    gradient = G.T @ E.ravel()
    wide = data(9, 129)
    exact = fc.fit(X, S, ridge=1e5, method="exact", tol=1e-12).gains
    curvature = np.linalg.eigvalsh(naive.hessian(X, S, exact, 1e5))[0]
    size = np.abs(X) + np.abs(X).mean(axis=1, keepdims=True)  # of activations, and of what they are less
    C, total, weight = size @ size.T / (D - 1), size.sum(axis=0), 2 / (N**2 * (D - 1))
    return {
        "covariance": eps * E,
        "covariance-wide": 2 * rounding(wide) * absolute_error(wide, 0.0),
        "gram": eps * (at_one.T @ at_one),
        "gram-at-gains": eps * (G.T @ G),
        "columns": eps * (at_one.T @ at_one)[:, [0, 5, N - 1]],
        "overlaps": eps * gradient,
        "atom_norms": eps * np.linalg.norm(G, axis=0),
        "losses": np.full(17, eps * np.sum(E**2)),
        "gradients": np.tile(eps * gradient, (17, 1)),
        "delta": 2 * gains_bound(X, S, 1e5),
        "delta-nuisance": 2 * nuisance_bound(X, S, 1e5),
        "delta-dual": 2 * gains_bound(X, S, 1e5),
        # the tolerance, relative to Gᵀe₀, over λ
        "delta-pcg": 2 * (gains_bound(X, S, 1e5) + 1e-13 * np.linalg.norm(naive.overlaps(X, S)) / 1e5),
        # two gradients of the tolerance, over the least curvature
        "delta-exact": 2
        * (1e-12 * np.linalg.norm(naive.overlaps(X, S)) + np.linalg.norm(eps * gradient))
        / curvature,
        "squares": eps * 2 * weight * (C @ size),
        "smooth": eps * weight * (C / EPSILON @ size + total),
        "signs": np.tile(eps * total, (N, 1)),
        "signs-near-zero": np.full((N, D), 4 * eps * N),
        # Each is stable: off by what rounding of the matrices would do.
        **{
            name: np.full(value.shape, eps * CONDITION * np.abs(value).max())
            for name, value in of_units(np.float64).items()
        },
    }


# --- interpreted


@pytest.fixture(scope="module")
def compiled():
    return results()


@needs_jit
def test_kernels_give_what_python_makes_of_them(compiled, interpreted):
    bound = bounds()
    for name, value in results().items():
        within(value, compiled[name], bound[name])


# --- threads


@needs_two_threads
@pytest.mark.usefixtures("parallel")
def test_results_agree_across_thread_counts_and_repeat_bit_by_bit():
    by_count = {}
    for n in (1, 2):
        with fc.threads(n):
            by_count[n], again = results(), results()
        for name, value in by_count[n].items():
            np.testing.assert_array_equal(again[name], value, err_msg=name)
    bound = bounds()
    for name, value in by_count[1].items():
        within(by_count[2][name], value, bound[name])


@needs_two_threads
@needs_jit
@pytest.mark.usefixtures("parallel")
def test_parallel_kernels_are_really_used_when_work_is_large():
    results()
    fc.ridge_path(data(N, D), target(D, size=N), ridges=[1e5, 3e5], solver="spectral")
    # Of kernels that others call, and those that call them, too.
    found = kernels().items()
    used = {name for name, kernel in found if any(key[0] for key in (*kernel._twins, *kernel._nested))}
    loops = {
        name for name, kernel in found if kernel._parts or "prange" in kernel._function.__code__.co_names
    }
    # All of a small problem at once is for one core.
    assert used == {name for name in loops if not name.startswith("whole_")}
    assert len(loops) > 10


@pytest.mark.usefixtures("parallel")
def test_one_thread_runs_no_parallel_kernel(monkeypatch):
    def entered():
        raise AssertionError("a parallel kernel was entered")

    monkeypatch.setattr(jit, "_launch", entered)
    with fc.threads(1):
        assert results()["gram"].shape == (N, N)


@needs_jit
def test_no_kernel_is_compiled_twice_under_one_name():
    # Two signatures of one function share an index in the cache that is not locked.
    for dtype in (np.float32, np.float64):
        results(dtype)
        X, S, z = data(9, 3, dtype), target(3), random_gains(9)
        for array in (X, S, z):
            array.flags.writeable = False
        for gains in (z, np.broadcast_to(z, (17, 9)), np.broadcast_to(z, (2, 9))):
            fc.loss_and_gradient(X, S, gains)
            fc.loss_and_gradient(X, np.broadcast_to(S, (len(np.atleast_2d(gains)), 3, 3)), gains)
        fc.loss(X, np.stack([S] * 17), z)
        fc.gram(X, gains=z)
        fc.gram(X[:, :1], gains=z)
        fc.gram(X[:1])
        fc.fit(X, S, ridge=1.0, center=False)
        fc.fit(X, S[np.newaxis], ridge=0)
        fc.fit(X, S, relative_ridge=0.1, method="diagonal")
        for bounds in (None, (0, None)):
            fc.fit(X, S, relative_ridge=0.1, method="exact", bounds=bounds, gains0=np.ones(9))
            fc.fit(X, S, ridge=0, method="exact", bounds=bounds)
            fc.fit(X, S[np.newaxis], ridge=1.0, method="exact", bounds=bounds, center=False)
        fc.AtomOperator(X, gains=z).matvec(z)
        fc.AtomOperator(X).rmatvec(np.broadcast_to(1.0, 9))
        for A in (X, np.asfortranarray(X), X.T, X[::2], 1e-30 * X):
            for axis, centred in ((0, True), (1, False)):
                options = {"samples_axis": axis, "center": centred}
                for epsilon in (0.0, 0.1):
                    penalties.mean_absolute_covariance(A, epsilon=epsilon, **options)
                penalties.decov(A, **options)
                penalties.covariance_distance(A, np.eye(A.shape[1 - axis]), **options)
                for activations in (A, nearly_alike(dtype)):
                    by_signs(Activations.of(activations, **options))
        x, A = X.reshape(3, 3, 3), np.broadcast_to(np.eye(3, dtype=dtype), (3, 3, 3))
        batch = SPDBatch.from_matrices(A)
        for inputs in (x, np.asfortranarray(x), x[::2]):
            for stack in (A, batch, A.astype(np.float64), A.astype(np.float32)):
                quadratic_forms(inputs, stack, mean=x[0])
                quadratic_forms_and_gradients(inputs, stack, weights=np.ones(inputs.shape[:2], dtype))
            batch.solve(inputs)
        batch.factor_gradient(batch.inverse())
        SPDBatch.from_eigen(A, x[0] ** 2 + 1)
        SPDBatch.from_cholesky(batch.cholesky)
    twice = {
        f"{name}{key}": twin.signatures
        for name, kernel in kernels().items()
        for key, twin in kernel._twins.items()
        if len(twin.signatures) != 1
    }
    assert not twice


def test_every_twin_of_a_kernel_has_a_name_of_its_own():
    results(np.float32)
    results(np.float64)
    names = [twin.__name__ for kernel in kernels().values() for twin in kernel._twins.values()]
    assert len(names) == len(set(names)) >= len(kernels())


def test_threads_limits_numba_and_blas_and_restores_both():
    def counts():
        return [numba.get_num_threads(), *(pool["num_threads"] for pool in jit.blas().info())]

    before = counts()
    assert len(before) > 1  # SciPy's BLAS is among them
    with fc.threads(1):
        assert set(counts()) == {1}
        with fc.threads(LIMIT):
            assert numba.get_num_threads() == LIMIT
        assert set(counts()) == {1}
    assert counts() == before


def test_threads_restores_after_an_exception():
    before = numba.get_num_threads(), [pool["num_threads"] for pool in jit.blas().info()]

    def fail():
        with fc.threads(1):
            raise KeyError("inside")

    with pytest.raises(KeyError, match="inside"):
        fail()
    assert (numba.get_num_threads(), [pool["num_threads"] for pool in jit.blas().info()]) == before


@pytest.mark.parametrize(
    "n", [0, -1, True, False, 1.5, 1.0, "1", None, 10**6, LIMIT + 1, np.float64(1)], ids=repr
)
def test_threads_refuses_what_is_no_number_of_threads(n):
    before = numba.get_num_threads()
    message = rf"^Argument 'n' must be a whole number of threads from 1 to {LIMIT}, not "
    with pytest.raises(ValueError, match=message), fc.threads(n):
        pass
    assert numba.get_num_threads() == before


def test_threads_takes_numpy_integers():
    with fc.threads(np.int32(1)):
        assert numba.get_num_threads() == 1


def blas_counts():
    return [pool["num_threads"] for pool in jit.blas().info()]


def test_small_work_holds_blas_at_one_thread_and_restores_it():
    before = blas_counts()
    with jit.blas_for(1.0), jit.blas_for(1.0):
        assert set(blas_counts()) == {1}
    assert blas_counts() == before
    with jit.blas_for(1e12):
        assert blas_counts() == before

    def fail():
        with jit.blas_for(1.0):
            raise KeyError("inside")

    with pytest.raises(KeyError, match="inside"):
        fail()
    assert blas_counts() == before


@pytest.mark.parametrize("order", ["outer-first", "inner-first"])
@pytest.mark.parametrize("n", sorted({1, LIMIT}))
def test_blas_limits_are_restored_when_python_threads_overlap(order, n):
    # One thread is in a small fit when another enters and leaves threads(n), in any order.
    before = blas_counts()
    small, user = jit.blas_for(1.0), fc.threads(n)
    try:
        small.__enter__()
        user.__enter__()
        for manager in (small, user) if order == "outer-first" else (user, small):
            manager.__exit__(None, None, None)
        assert blas_counts() == before
    finally:
        jit.blas().limit(limits=max(before))  # whatever the outcome, for the tests that follow


def test_a_user_limit_holds_while_small_work_ends_in_another_python_thread():
    small = jit.blas_for(1.0)
    before = blas_counts()
    try:
        small.__enter__()
        with fc.threads(1):
            small.__exit__(None, None, None)
            assert set(blas_counts()) == {1}
    finally:
        jit.blas().limit(limits=max(before))


def test_small_fits_in_many_python_threads_restore_blas():
    X, S = data(20, 3), target(3)
    before = blas_counts()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        deltas = list(pool.map(lambda _: fc.fit(X, S, ridge=1.0).delta, range(40)))
    assert blas_counts() == before
    for delta in deltas:
        np.testing.assert_array_equal(delta, deltas[0])


def test_threads_can_decorate_a_function():
    assert fc.threads(1)(numba.get_num_threads)() == 1


@pytest.mark.usefixtures("parallel")
def test_kernels_called_from_several_python_threads_give_the_right_answer():
    def job(i):
        X, S = data(200 + i % 3, 3, (np.float32, np.float64)[i % 2], seed=i), target(3, size=200)
        return fc.gram(X), fc.fit(X, S, ridge=1e4).delta

    expected = [job(i) for i in range(12)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = list(pool.map(job, range(12)))
    for i, ((A, delta), (B, gains)) in enumerate(zip(found, expected, strict=True)):
        X = data(200 + i % 3, 3, (np.float32, np.float64)[i % 2], seed=i)
        G = absolute_atoms(X)
        within(A, B, 2 * rounding(X) * (G.T @ G))
        np.testing.assert_allclose(delta, gains, rtol=0, atol=1e-8)


# --- in processes of their own

WORK = """
import numpy as np
import fastcov as fc
import fastcov._compute.jit as jit
jit.PARALLEL_SIZE = 1
X = (np.random.default_rng(0).standard_normal((200, 3)) + 1).astype(np.float32).astype(float)
S = np.eye(3)
def work(dtype=np.float64):
    fit = fc.fit(X.astype(dtype), S, ridge=1e3)
    A = fc.gram(X.astype(dtype))
    y = X.astype(dtype) - X.astype(dtype).mean(axis=0, dtype=float)
    x = X.astype(dtype).astype(float)
    true = 2 * ((x @ x.T) * (y @ y.T) + (x @ y.T) * (y @ x.T))
    # some 1e-13 of rounding for float64 and 1e-5 for float32; swapped code gives errors of 1
    assert np.abs(A - true).max() < 2e-5 * np.abs(true).max(), np.abs(A - true).max()
    b = 2 * ((x @ (S - y.T @ y)) * y).sum(axis=1)
    left = b - true @ fit.delta - 1e3 * fit.delta
    assert np.linalg.norm(left) < 1e-9 * np.linalg.norm(b)
    return fit.delta
"""


SERIAL_WORK = WORK.replace("PARALLEL_SIZE = 1", "PARALLEL_SIZE = 1 << 40")


@pytest.mark.slow
@needs_jit
@pytest.mark.parametrize("layer", slow_but({"default"}, ["workqueue", "default"]))
def test_several_python_threads_do_not_abort_the_process(layer):
    # Numba's workqueue layer ends the process when two threads enter it.
    script = (
        WORK
        + """
import concurrent.futures, numba
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    found = list(pool.map(lambda i: work((np.float32, np.float64)[i % 2]), range(16)))
assert all(np.abs(f - found[0]).max() < 1e-8 for f in found)
print(numba.threading_layer() if numba.config.NUMBA_NUM_THREADS > 1 else "workqueue")
"""
    )
    out = run_python(script, NUMBA_THREADING_LAYER=layer)
    assert layer == "default" or out.split() == ["workqueue"]


@pytest.mark.slow
@needs_jit
@pytest.mark.skipif(sys.platform == "win32", reason="has no fork")
@pytest.mark.parametrize("layer", slow_but({"default"}, ["workqueue", "default"]))
def test_a_forked_child_works_after_a_parallel_kernel(layer):
    script = (
        WORK
        + """
import os, sys
before = work()
child = os.fork()
if child == 0:
    status = 1
    try:
        status = 0 if np.abs(work() - before).max() < 1e-8 else 3
        work(np.float32)
    finally:
        os._exit(status)
_, status = os.waitpid(child, 0)
assert np.abs(work() - before).max() < 1e-8  # and the parent still does
sys.exit(os.waitstatus_to_exitcode(status) & 255)
"""
    )
    assert run_python(script, NUMBA_THREADING_LAYER=layer) == ""


@pytest.mark.slow
@needs_jit
@pytest.mark.skipif(sys.platform == "win32", reason="has no fork")
def test_a_pool_of_forked_processes_works_after_a_parallel_kernel():
    script = (
        WORK
        + """
import multiprocessing
before = work()
with multiprocessing.get_context("fork").Pool(2) as pool:
    found = pool.map(work, [np.float64, np.float32, np.float64])
assert all(np.abs(f - before).max() < 1e-6 for f in found)
"""
    )
    assert run_python(script) == ""


@pytest.mark.slow
@needs_jit
def test_an_install_that_cannot_be_written_to_still_fits(tmp_path):
    # Root may write everywhere: files stand where the cache folders would be made.
    source = pathlib.Path(fc.__file__).parent
    package = tmp_path / "package" / "fastcov"
    shutil.copytree(source, package, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in (package, *(path for path in package.rglob("*") if path.is_dir())):
        (folder / "__pycache__").write_text("")
    home = tmp_path / "home"
    home.write_text("")
    script = WORK + "assert not jit.numba.config.CACHE_DIR; work(); print(fc.__file__)"
    out = run_python(
        script,
        cwd=tmp_path,
        package=package.parent,
        HOME=home,
        XDG_CACHE_HOME=home,
        LOCALAPPDATA=home,
        NUMBA_CACHE_DIR=None,
        PYTHONDONTWRITEBYTECODE="1",
    )
    assert out.strip() == str(package / "__init__.py")
    assert not list(package.rglob("*.nbi"))


@pytest.mark.slow
@needs_jit
def test_processes_that_compile_from_cold_at_the_same_time_give_the_right_numbers(tmp_path):
    package = pathlib.Path(fc.__file__).parents[1]
    # One float type first in each half, so that signatures of one kernel are compiled at the same time.
    orders = ["np.float32, np.float64", "np.float64, np.float32"] * 2
    env = {**os.environ, "PYTHONPATH": str(package), "NUMBA_CACHE_DIR": str(tmp_path)}
    running = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                SERIAL_WORK + f"\nfor t in ({o}): work(t)",
            ],
            env=env,
            stderr=subprocess.PIPE,
            text=True,
        )
        for o in orders
    ]
    ended = [process.communicate(timeout=300)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0, 0], "\n".join(ended)
    assert list(tmp_path.rglob("*.nbi"))
    # What they left in the cache is right, too.
    assert (
        run_python(
            SERIAL_WORK + "\nwork(); work(np.float32)",
            NUMBA_CACHE_DIR=tmp_path,
        )
        == ""
    )


@needs_jit
@pytest.mark.parametrize("error", [OSError, RuntimeError])
def test_a_cache_that_fails_is_done_without(error, monkeypatch):
    njit, tried = numba.njit, []

    def failing(**flags):
        tried.append(flags.get("cache", False))
        if flags.pop("cache", False):
            raise error("no place for a cache")
        return njit(**flags)

    monkeypatch.setattr(jit.numba, "njit", failing)

    @jit.Kernel
    def doubled(x):
        for i in range(len(x)):
            x[i] *= 2.0

    x = np.arange(3.0)
    doubled(x, size=3)
    np.testing.assert_array_equal(x, [0.0, 2.0, 4.0])
    assert tried == [True, False]


@needs_jit
def test_an_error_in_a_kernel_is_not_taken_for_one_of_the_cache():
    @jit.Kernel
    def wrong(x):
        x.no_such_thing()

    with pytest.raises(numba.TypingError, match="no_such_thing"):
        wrong(np.arange(3.0), size=3)


def test_a_kernel_keeps_its_documentation():
    for name, kernel in kernels().items():
        assert kernel.__name__ == name
        assert kernel.__doc__


def test_openmp_waits_without_spinning():
    assert os.environ["OMP_WAIT_POLICY"].lower() == "passive"


@needs_jit
def test_kernels_let_nan_through():
    # fastmath with "nnan" would say that there is none.
    X = np.ones((3, 2))
    X[1, 1] = np.nan
    sums, sizes, mask = np.empty((1, 2)), np.empty(3), np.iinfo(np.int64).max
    shared_kernels.weighted_sums(X, X.view(int), mask, np.ones(3), sums, sizes.view(int), size=6)
    assert np.isnan(sums[0, 1])
    assert sums[0, 0] == 3.0
    assert sizes[0] == 1.0
    means, least, most = np.empty((3, 3))
    activation_kernels.row_ranges(X, means, least, most, size=6)
    np.testing.assert_array_equal(means, [1.0, np.nan, 1.0])
    forms = np.empty((3, 1))
    arrays = X[:, np.newaxis], np.zeros((1, 2)), np.eye(2)[np.newaxis]
    form_kernels.forms(*arrays, 0, forms, size=6)
    np.testing.assert_array_equal(forms[:, 0], [2.0, np.inf, 2.0])


@pytest.mark.slow
@needs_jit
@pytest.mark.skipif(sys.platform == "win32", reason="has no fork")
def test_children_forked_beside_busy_threads_are_not_left_with_their_locks():
    script = """
import os, signal, threading, warnings
warnings.simplefilter("ignore")  # Python warns of forks beside threads, which is what is tried here
import fastcov as fc
from fastcov._compute import jit
sim = fc.datasets.simulate(40, 6)
large = fc.datasets.simulate(1200, 20).X
fit = lambda: fc.fit(sim.X, sim.S, ridge=1.0)
fit(), fc.gram(large)
busy = True
def work():
    while busy:
        fit()
for _ in range(2):
    threading.Thread(target=work, daemon=True).start()
ends = []
for _ in range(10):
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # a deadlock ends the child
        with fc.threads(1):
            fit()
        fc.gram(large)
        os._exit(1 if jit._blas_threads._held else 0)
    ends.append(os.waitpid(child, 0)[1])
busy = False
print(ends)
"""
    assert run_python(script) == f"{[0] * 10}\n"
