"""Iterations and products of the solvers on fixed data, and passes over X where it is read from outside.

Iterations end at a residual that some step crosses. How fast it falls is a matter of the spectrum, not of
rounding. Another BLAS or number of threads moves the residual by roundings, and so the crossing by one
iteration of preconditioned conjugate gradients at most. Where orthogonality is lost on the way, without a
preconditioner, and where the iterations of many steps add up, it may come some per cent later.
"""

import numpy as np
import pytest
from cases import needs_jit
from counting import Rows, work

import fastcov as fc
from fastcov._fitting.start import Start
from fastcov._model import products as model_products
from fastcov._model.problem import Problem

pytestmark = needs_jit  # counts are the same interpreted, but take minutes

SHAPES = {"tall": (300, 20), "wide": (150, 48)}
RIDGES = (0.1, 0.01, 0.001)  # over the largest eigenvalue of GᵀG
DELAY = 0.15


def simulated(shape, dtype=np.float64):
    return fc.datasets.simulate(*SHAPES[shape], rng=0, dtype=dtype)


def later(counts):
    """By one, or some per cent."""
    return [max(n + 1, int(n * (1 + DELAY))) for n in counts]


# Iterations with a preconditioner of a rank that pays, and without; steps of an exact fit, and products.
EXPECTED = {
    "tall": {"kept": (7, 11, 23), "none": (16, 36, 97), "steps": (8, 14, 26), "products": (39, 130, 357)},
    "wide": {"kept": (8, 13, 19), "none": (19, 48, 135), "steps": (7, 9, 12), "products": (26, 55, 98)},
}
RANK = {"tall": 44, "wide": 79}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("preconditioner", ["kept", "none"])
def test_conjugate_gradients_take_no_more_iterations(preconditioner, shape, dtype):
    sim = simulated(shape, dtype)
    rank = {"kept": None, "none": 0}[preconditioner]
    fits = [fc.fit(sim.X, sim.S, relative_ridge=r, solver="pcg", rank=rank) for r in RIDGES]
    assert {fit.status for fit in fits} == {"converged"}
    found = [fit.stats["iterations"] for fit in fits]
    assert np.all(np.array(found) <= later(EXPECTED[shape][preconditioner])), found
    # True residuals, one for every four digits gained of the eight, and one where they are not yet.
    assert max(fit.stats["renewals"] for fit in fits) <= 3
    if rank is None:
        # Pivots are drawn from one generator: another rank by rounding of a share that is at its limit.
        assert max(fit.stats["rank"] for fit in fits) <= RANK[shape] + 1


@pytest.mark.parametrize("shape", SHAPES)
def test_exact_fits_take_no_more_steps_and_products(shape, dtype):
    sim = simulated(shape, dtype)
    fits = [fc.fit(sim.X, sim.S, relative_ridge=r, method="exact") for r in RIDGES]
    assert {fit.status for fit in fits} == {"converged"}
    for name, expected in (("iterations", "steps"), ("products", "products")):
        found = [fit.stats[name] for fit in fits]
        assert np.all(np.array(found) <= later(EXPECTED[shape][expected])), (name, found)


def test_a_warm_start_saves_steps(dtype):
    sim = simulated("wide", dtype)
    path = fc.ridge_path(sim.X, sim.S, relative_ridges=RIDGES, method="exact")
    cold = [fc.fit(sim.X, sim.S, relative_ridge=r, method="exact") for r in RIDGES]
    for name in ("iterations", "products"):
        assert sum(fit.stats[name] for fit in path) < sum(fit.stats[name] for fit in cold)


@pytest.mark.parametrize("shape", SHAPES)
def test_refinement_takes_no_more_steps(shape, dtype):
    # A float32 factor gains log10(λ/λ_max) - log10(ε) digits a step, some 6, 5 and 4, of 13; one of float64
    # needs none, and no more than one of GGᵀ, from which the difference of two sums is taken.
    sim = simulated(shape, dtype)
    for relative, most in zip(RIDGES, (2, 3, 3), strict=True):
        fit = fc.fit(sim.X, sim.S, relative_ridge=relative, solver="cholesky")
        assert fit.stats.get("refinements", 0) <= (most if dtype == np.float32 else 0)
        fit = fc.fit(sim.X, sim.S, relative_ridge=relative, solver="dual")
        assert fit.stats["refinements"] <= (most + 1 if dtype == np.float32 else 1)
        fit = fc.fit(sim.X, sim.S, relative_ridge=relative, solver="spectral")
        assert fit.stats.get("refinements", 0) <= (2 if shape == "tall" else 0)


@pytest.fixture
def applications(monkeypatch):
    """Vectors that GᵀG is applied to for the largest eigenvalue."""
    widths, apply_gram = [], model_products.apply_gram

    def counted(problem, V):
        widths.append(len(V))
        return apply_gram(problem, V)

    monkeypatch.setattr(model_products, "apply_gram", counted)
    monkeypatch.setattr(Start, "gram", None)  # where there is GᵀG, products are with that
    monkeypatch.setattr(model_products, "lanczos_with_gram", lambda problem, room: False)
    return widths


@pytest.mark.parametrize("shape", SHAPES)
def test_the_largest_eigenvalue_takes_seven_products_or_one_restart(shape, dtype, center, applications):
    # A basis of six and one product more; a restart keeps three vectors, and makes the other three anew.
    sim = simulated(shape, dtype)
    fc.fit(sim.X, sim.S, relative_ridge=0.1, method="diagonal", center=center)
    assert applications == [1] * (10 if shape == "wide" and center else 7)


@pytest.mark.parametrize("shape", SHAPES)
def test_an_explanation_by_modes_takes_no_more_applications(shape, dtype):
    sim = simulated(shape, dtype)
    for modes, most in ((5, 62), (10, 63)):
        why = fc.explain(sim.X, sim.S, relative_ridge=0.1, modes=modes)
        found = why.fit.stats["iterations"]
        assert found <= later([most])[0], found


# --- passes over X, read from outside memory


def read(call, X):
    """The result of a call for an array outside memory, and how often all of it is read."""
    rows = Rows(X)
    return call(rows), rows.passes


# Checks, mean and range come first; then one pass for each product that needs what the one before found.
PIECES = {
    "covariance": (lambda X, sim: fc.covariance(X), 1),
    "covariance at gains": (lambda X, sim: fc.covariance(X, gains=sim.gains), 1),
    "overlaps": (lambda X, sim: fc.overlaps(X, sim.S), 2),
    "overlaps of targets": (lambda X, sim: fc.overlaps(X, np.stack([sim.S] * 3)), 2),
    "atom_norms": (lambda X, sim: fc.atom_norms(X), 1),
    "gram": (lambda X, sim: fc.gram(X), 1),
    "loss": (lambda X, sim: fc.loss(X, sim.S, sim.gains), 1),
    "loss_and_gradient": (lambda X, sim: fc.loss_and_gradient(X, sim.S, sim.gains), 2),
    "losses of many": (lambda X, sim: fc.loss(X, sim.S, np.stack([sim.gains] * 20)), 1),
    "losses and gradients of many": (
        lambda X, sim: fc.loss_and_gradient(X, sim.S, np.stack([sim.gains] * 20)), 2,
    ),
    "matvec": (lambda X, sim: fc.AtomOperator(X) @ sim.gains, 1),
    "product": (lambda X, sim: fc.GramOperator(X) @ sim.gains, 2),
    "products": (lambda X, sim: fc.GramOperator(X) @ np.stack([sim.gains] * 2, axis=1), 4),
}  # fmt: skip


@pytest.mark.parametrize("name", PIECES)
def test_pieces_read_responses_once_for_each_product_after_another(name, dtype):
    call, passes = PIECES[name]
    sim = simulated("tall", dtype)
    if name == "gram" and dtype == np.float32:
        passes += 1  # norms, for their range
    _, found = read(lambda X: call(X, sim), sim.X)
    assert found == 1 + passes


# Checks; covariance, norms, overlaps. And the certificate; mean and covariance at the gains found.
BEGIN, END = 1 + 3, 2 + 2


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("solver", ["cholesky", "dual", "spectral"])
def test_a_fit_reads_responses_once_for_the_matrix(solver, shape, dtype):
    sim = simulated(shape, dtype)
    ridge = 0.02 * np.square(fc.atom_norms(sim.X)).sum()
    fit, found = read(lambda X: fc.fit(X, sim.S, ridge=ridge, solver=solver), sim.X)
    # For each solution its residual, and over pairs a product with GᵀG before.
    N, D = SHAPES[shape]
    pairs = solver == "dual" or (solver == "spectral" and D * (D + 1) // 2 < N)
    refined = fit.stats["refinements"] + 1 if "refinements" in fit.stats else 0
    assert found == BEGIN + 1 + (4 if pairs else 2) * refined + END


def test_an_approximation_reads_responses_for_no_matrix(dtype):
    sim = simulated("tall", dtype)
    _, found = read(lambda X: fc.fit(X, sim.S, ridge=1.0, method="diagonal"), sim.X)
    assert found == BEGIN + END
    # Seven products with GᵀG, two passes each, from the overlaps of the covariance itself.
    _, found = read(lambda X: fc.fit(X, sim.S, relative_ridge=0.1, method="diagonal"), sim.X)
    assert found == BEGIN + 1 + 2 * 7 + END


def test_conjugate_gradients_read_responses_twice_an_iteration(dtype):
    sim = simulated("tall", dtype)
    fit, found = read(lambda X: fc.fit(X, sim.S, ridge=1e4, solver="pcg", rank=0), sim.X)
    times = fit.stats["iterations"] + fit.stats["renewals"]
    # What an offset costs in float32 is looked at in a sample, here of all channels.
    sample = 1 if dtype == np.float64 else 0
    assert found == BEGIN + 2 * times + END + sample


def test_targets_are_fitted_in_the_passes_of_one(dtype):
    sim = simulated("tall", dtype)
    stack = np.stack([sim.S, 2 * sim.S, 3 * sim.S])
    options = {"ridge": 1e4, "method": "diagonal"}
    _, found = read(lambda X: fc.fit(X, stack, **options), sim.X)
    assert found == BEGIN + 2 + 2 * len(
        stack
    )  # means and covariances are made one by one: one pass each would do


def test_a_minimiser_reads_responses_so_often_a_step(dtype):
    sim = simulated("tall", dtype)
    fit, found = read(lambda X: fc.fit(X, sim.S, ridge=1e4, method="exact"), sim.X)
    evaluations, steps, products = fit.stats["iterations"] + 1, fit.stats["iterations"], fit.stats["products"]
    # An evaluation: mean, covariance, norms, gradient. A step: mean and covariance along it.
    sample = 1 if dtype == np.float64 else 0
    # Single gains are looked at near the minimum, at it, and for the certificate: a pass each.
    certificate, looks = 4, 3
    assert found == BEGIN + 4 * evaluations + 2 * steps + 2 * products + certificate + looks + sample


def test_what_is_read_from_outside_takes_the_work_of_what_is_in_memory(monkeypatch):
    monkeypatch.setattr(
        Problem, "fits_caches", lambda *_: False
    )  # what is in memory may be done in a few calls
    sim = simulated("tall")
    counts = []
    for X in (sim.X, Rows(sim.X)):
        with work() as found:
            fc.fit(X, sim.S, relative_ridge=0.1, solver="cholesky")
        counts.append((dict(found.flops), dict(found.calls)))
    assert counts[0] == counts[1]
