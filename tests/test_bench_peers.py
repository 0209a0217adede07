"""What fastcov is compared with: as accurate as it is, and without a trace in the process."""

import contextlib
import sys

import naive
import numpy as np
import pytest
from cases import (
    absolute_atoms,
    absolute_error,
    data,
    gains_bound,
    gradient_rounding,
    magnitudes,
    minimum,
    random_gains,
    rounding,
    run_python,
    target,
    within,
)
from optional import MODULES, absent, library_of, needing, needs

from fastcov._bench import _cases
from fastcov._bench._peers import PEERS, _given, _lbfgs, _scikit_learn, peers
from fastcov._compute.jit import blas

RIDGE = 200.0
SHAPES = pytest.mark.parametrize("shape", [(15, 8), (40, 6)], ids=["few-channels", "many-channels"])


def each(*operations):
    """A case for each peer of some operations, skipped where its library is missing."""
    return pytest.mark.parametrize(
        ("operation", "name"),
        [
            pytest.param(
                operation,
                name,
                marks=needing(library_of(name)),
            )
            for operation in operations
            for name in PEERS[operation]
        ],
    )


def result(operation, name, X, S, **given):
    """That of a second call, as those that are timed; from arrays that must not be written to."""
    for array in (X, S):
        if array is not None:
            array.flags.writeable = False
    runs, skipped = peers(operation, X, S, **given)
    assert name not in skipped
    runs[name]()
    return runs[name]()


def linear_bound(X, S, ridge):
    """That of a direct solution, and what a relative residual of 1e-12 may leave: ‖r‖ / λ."""
    left = _given.RESIDUAL * np.linalg.norm(naive.overlaps(X, S))
    return gains_bound(X, S, ridge) + left / ridge


# --- as accurate as ours


@SHAPES
@each("fit")
def test_linear_fits_solve_the_system_to_our_accuracy(operation, name, shape, dtype):
    X, S = data(*shape, dtype), target(shape[1])
    gains = result(operation, name, X, S, ridge=RIDGE)
    within(gains, 1 + naive.linear_fit(X, S, RIDGE), linear_bound(X, S, RIDGE))


@SHAPES
def test_the_iterative_solver_of_many_channels_is_as_accurate(monkeypatch, shape):
    needs("sklearn")
    monkeypatch.setattr(_scikit_learn, "MANY", 1)
    X, S = data(*shape), target(shape[1])
    gains = result("fit", "scikit-learn", X, S, ridge=RIDGE)
    within(gains, 1 + naive.linear_fit(X, S, RIDGE), linear_bound(X, S, RIDGE))


@SHAPES
@each("ridge_path")
def test_paths_have_a_row_of_gains_for_each_ridge(operation, name, shape, dtype):
    X, S, ridges = data(*shape, dtype), target(shape[1]), np.array([20.0, 2e3, 200.0])
    path = result(operation, name, X, S, ridges=ridges)
    assert path.shape == (3, len(X))
    for gains, ridge in zip(path, ridges, strict=True):
        within(gains, 1 + naive.linear_fit(X, S, ridge), linear_bound(X, S, ridge))


@SHAPES
@each("explain")
def test_spectra_are_those_of_the_atoms(operation, name, shape, dtype):
    X, S = data(*shape, dtype), target(shape[1])
    spectrum, gains = result(operation, name, X, S, ridge=RIDGE)
    expected = np.linalg.eigvalsh(naive.gram(X))[::-1][: len(spectrum)]
    assert len(spectrum) == min(len(X), X.shape[1] * (X.shape[1] + 1) // 2)
    within(spectrum, expected, rounding(X, np.float64) * expected[0])
    within(gains, 1 + naive.linear_fit(X, S, RIDGE), gains_bound(X, S, RIDGE))


@SHAPES
@each("exact")
def test_exact_fits_end_at_the_gradient_that_ours_end_at(operation, name, shape, dtype):
    X, S = data(*shape, dtype), target(shape[1])
    ones = np.ones(len(X))
    gains = result(operation, name, X, S, ridge=RIDGE)
    asked = _lbfgs.TOL * np.linalg.norm(naive.loss_gradient(X, S, ones, RIDGE))
    left = np.linalg.norm(naive.loss_gradient(X, S, gains, RIDGE))
    assert left <= asked + gradient_rounding(X, S, gains, RIDGE)
    assert naive.loss(X, S, gains, RIDGE) < naive.loss(X, S, ones, RIDGE)


@each("cross_validate")
def test_studies_predict_what_the_minima_predict(operation, name, dtype):
    X, Y = data(15, 9, dtype), data(20, 9, dtype, seed=3)
    folds = [(np.r_[3:9], np.r_[0:3]), (np.r_[0:6], np.r_[6:9])]
    relative = np.array([0.1, 1.0])
    r2 = result(operation, name, X, None, responses=Y, relative_ridges=relative, folds=folds)
    bounds = np.empty((len(folds), len(relative)))

    def fit(A, S, ridge, center):
        """Gains at the minimum; and how far R² may be from theirs, to first order, and twice that."""
        z = minimum(A, S, ridge)
        slope = np.linalg.norm(naive.loss_gradient(A, S, np.ones(len(A)), ridge))
        apart = _lbfgs.TOL * slope / np.linalg.eigvalsh(naive.hessian(A, S, z, ridge))[0]
        f, k = divmod(fit.calls, len(relative))
        fit.calls += 1
        train, test = folds[f]
        B, held_out = X[:, test], naive.covariance(Y[:, test])
        scale = np.trace(naive.covariance(X[:, train])) / np.trace(naive.covariance(Y[:, train]))
        change = np.linalg.norm(naive.atoms(B, z), 2) * apart
        error = np.linalg.norm(naive.covariance(B, z) - scale * held_out)
        bounds[f, k] = 2 * 2 * error * change / np.linalg.norm(scale * held_out) ** 2
        return z

    fit.calls = 0
    expected = naive.cross_validation(X, Y, relative, folds, fit, relative=True)[0]
    within(r2, expected, bounds)


def loss_bound(X, S, z):
    """What rounding may do to the exact loss: to E, to its squares, and to their sum."""
    r = rounding(X) * np.linalg.norm(absolute_error(X, S, z)) ** 2
    return 2 * r + rounding(X) * RIDGE * np.sum((np.abs(z) + 1) ** 2)


@SHAPES
@each("loss")
def test_losses_are_exact_to_rounding(operation, name, shape, dtype):
    X, S, z = data(*shape, dtype), target(shape[1]), random_gains(shape[0])
    value = result(operation, name, X, S, gains=z, ridge=RIDGE)
    within(value, naive.loss(X, S, z, RIDGE), loss_bound(X, S, z))


@SHAPES
@each("losses")
def test_candidates_have_a_loss_each(monkeypatch, operation, name, shape, dtype):
    X, S = data(*shape, dtype), target(shape[1])
    monkeypatch.setattr("fastcov._bench._peers._torch.CHUNK", 3 * X.nbytes)  # not a divisor of all
    Z = np.array([random_gains(shape[0], seed) for seed in range(7)])
    values = result(operation, name, X, S, candidates=Z, ridge=RIDGE)
    expected = [naive.loss(X, S, z, RIDGE) for z in Z]
    within(values, expected, [loss_bound(X, S, z) for z in Z])


@SHAPES
@each("loss_and_gradient")
def test_gradients_are_exact_to_rounding(operation, name, shape, dtype):
    X, S, z = data(*shape, dtype), target(shape[1]), random_gains(shape[0])
    value, gradient = result(operation, name, X, S, gains=z, ridge=RIDGE)
    within(value, naive.loss(X, S, z, RIDGE), loss_bound(X, S, z))
    x, y = magnitudes(X, z)
    product = y @ absolute_error(X, S, z)  # autograd centres this, in place of ỹ
    terms = 2 * np.sum(x * (product + product.mean(axis=0)), axis=1) + RIDGE * (np.abs(z) + 1)
    within(gradient, naive.loss_gradient(X, S, z, RIDGE), 4 * rounding(X) * terms)


@SHAPES
@each("covariance")
def test_covariances_are_sums_over_channels(operation, name, shape, dtype):
    X = data(*shape, dtype)
    _, y = magnitudes(X)
    C = result(operation, name, X, None)
    within(C, naive.covariance(X), 2 * rounding(X) * (y.T @ y))


@SHAPES
@each("gram")
def test_gram_matrices_are_those_of_the_atoms(operation, name, shape, dtype):
    X = data(*shape, dtype)
    G = absolute_atoms(X)
    within(result(operation, name, X, None), naive.gram(X), 4 * rounding(X) * (G.T @ G))


def test_a_minimiser_that_stops_short_is_not_passed_off_as_a_fit():
    with pytest.raises(RuntimeError, match="stopped at a gradient"):
        _lbfgs.lbfgs(lambda z: (1.0, np.ones_like(z)), np.ones(3), 1e-6)


# --- what is missing or too large


@pytest.mark.parametrize("library", MODULES)
def test_a_missing_library_is_named_with_its_remedy(monkeypatch, library):
    monkeypatch.setitem(sys.modules, MODULES[library], None)
    title, distribution = _given.LIBRARIES[MODULES[library]]
    for operation, makers in PEERS.items():
        if any(library in name for name in makers):
            X, S = data(15, 8), target(8)
            given = {"gains": np.ones(15), "candidates": np.ones((2, 15)), "ridges": [1.0]}
            runs, skipped = peers(operation, X, S, ridge=RIDGE, **given)
            assert {name for name in makers if library in name} <= skipped.keys()
            assert f"{title} is not installed: pip install {distribution}" in skipped.values()
            assert runs.keys() | skipped.keys() == makers.keys()
            assert not runs.keys() & skipped.keys()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError("libgomp.so: cannot open"), "PyTorch cannot be imported (libgomp.so: cannot open): "),
        (RuntimeError("built for\nanother NumPy"), "PyTorch cannot be imported (built for another NumPy): "),
        (ImportError(), "PyTorch cannot be imported (ImportError): "),
        (
            ModuleNotFoundError("No module named 'sympy'", name="sympy"),
            "PyTorch cannot be imported (No module",
        ),
    ],
)
def test_a_library_that_breaks_when_imported_is_left_out_and_the_others_run(monkeypatch, error, said):
    found = _given.importlib.import_module

    def broken(name, *rest):
        if name == "torch":
            raise error
        return found(name, *rest)

    monkeypatch.setattr(_given.importlib, "import_module", broken)
    runs, skipped = peers("fit", data(15, 8), target(8), ridge=RIDGE)
    assert skipped["PyTorch"].startswith(said)
    assert "SciPy lsqr" in runs


def test_a_peer_that_cannot_be_made_is_left_out_with_its_reason(monkeypatch):
    def broken(_):
        raise TypeError("an argument of another release")

    monkeypatch.setitem(PEERS["fit"], "SciPy lsqr", broken)
    runs, skipped = peers("fit", data(15, 8), target(8), ridge=RIDGE)
    assert skipped["SciPy lsqr"] == "it failed (an argument of another release)"
    assert runs.keys() | skipped.keys() == PEERS["fit"].keys()


def test_an_operation_whose_library_does_not_import_is_not_there(monkeypatch):
    def broken(_):
        raise OSError("a missing part")

    assert _cases.installed("gram")
    monkeypatch.setattr(_cases.importlib, "import_module", broken)
    assert _cases.installed("gram")
    assert not _cases.installed("estimator")


def test_peers_that_form_g_are_left_out_where_it_is_too_large(monkeypatch):
    monkeypatch.setattr(_given, "LARGEST", 1e3)
    for operation, name in [("fit", "scikit-learn"), ("explain", "SciPy svd"), ("ridge_path", "SciPy eigh")]:
        if not library_of(name) or not absent(library_of(name)):
            runs, skipped = peers(operation, data(15, 8), target(8), ridge=RIDGE, ridges=[1.0])
            assert name not in runs
            assert skipped[name] == "G and its copies would take 8.6e-06 GB"
    assert "SciPy lsqr" in peers("fit", data(15, 8), target(8), ridge=RIDGE)[0]


def test_an_operation_without_peers_has_none():
    assert peers("overlaps", data(15, 8), target(8)) == ({}, {})


@pytest.mark.slow
def test_nothing_optional_is_imported_before_it_is_asked_for():
    run_python(
        "import sys; import fastcov._bench._peers\n"
        f"assert not {set(MODULES.values())} & set(sys.modules), 'imported'"
    )


# --- nothing is left behind


def test_jax_keeps_its_precision():
    jax = needs("jax")
    before = jax.config.jax_enable_x64
    X, S = data(15, 8), target(8)
    for operation in ("fit", "exact", "loss", "loss_and_gradient", "gram"):
        runs, _ = peers(operation, X, S, ridge=RIDGE, gains=np.ones(15))
        for name in runs:
            if "JAX" in name:
                runs[name]()
                assert jax.config.jax_enable_x64 == before
    assert jax.numpy.ones(1).dtype == (np.float64 if before else np.float32)


@pytest.mark.parametrize("work", [0.0, np.inf], ids=["threads-pay", "threads-do-not-pay"])
def test_pytorch_keeps_its_threads(monkeypatch, work):
    torch = needs("torch")
    monkeypatch.setattr(_given, "THREADS_PAY", work)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for operation in ("fit", "exact", "loss"):
            runs, _ = peers(operation, data(15, 8), target(8), ridge=RIDGE, gains=np.ones(15))
            for name in runs:
                if "PyTorch" in name:
                    runs[name]()
                    assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_himalaya_keeps_its_backend():
    himalaya = needs("himalaya").backend
    needs("torch")  # a backend that is not the default
    himalaya.set_backend("torch")
    try:
        result("fit", "himalaya", data(15, 8), target(8), ridge=RIDGE)
        assert himalaya.get_backend().name == "torch"
    finally:
        himalaya.set_backend("numpy")


def test_blas_keeps_its_threads():
    with blas().limit(limits=2):
        for operation in ("fit", "exact"):
            for run in peers(operation, data(15, 8), target(8), ridge=RIDGE)[0].values():
                run()
                assert {library["num_threads"] for library in blas().info()} == {2}


@pytest.mark.parametrize("fast", [None, 1], ids=["all-threads", "one-thread"])
def test_the_faster_number_of_threads_is_kept(monkeypatch, fast):
    clock, held, calls = [0.0], [], []
    monkeypatch.setattr(_given.time, "perf_counter", lambda: clock[0])

    @contextlib.contextmanager
    def hold(n):
        held.append(n)
        yield
        held.pop()

    def call():
        clock[0] += 0.1 if held[-1] == fast else 0.2
        calls.append(held[-1])
        return len(calls)

    run = _given.threaded(hold, np.inf, call)
    assert not calls  # nothing runs before it is asked for
    run()
    assert calls == [None, None, 1, 1, fast]
    assert run() == 6
    assert calls[-1] == fast
    little = _given.threaded(hold, 0.0, call)
    little()
    assert calls[-1] == 1


def test_what_takes_long_is_not_run_again_for_a_setting(monkeypatch):
    clock, calls = [0.0], []
    monkeypatch.setattr(_given.time, "perf_counter", lambda: clock[0])

    def slow():
        clock[0] += 2 * _given.LONG
        calls.append(0)

    run = _given.fastest(slow, slow)
    run()
    assert len(calls) == 2  # one to find out, one asked for
