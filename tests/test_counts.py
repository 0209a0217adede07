"""Flops and passes over X of every operation, counted: those of its formula, and no product or pass more.

A second eye on speed, which no noise blurs. Products (of matrices, and factorisations) have to take exactly
the flops that the formulas here say; kernels, exactly so many reads of X. All that is left is of vectors.
"""

import naive
import numpy as np
import pytest
from cases import needs_jit
from counting import work

import fastcov as fc
from fastcov._exact_loss.loss import PAIR_CANDIDATES
from fastcov._model.problem import NARROW
from fastcov._model.products import PANEL
from fastcov._solvers._nystrom import BATCH
from fastcov._studies.ridge_path import GROUP_BYTES

pytestmark = needs_jit  # counts are the same interpreted, but take minutes

# With more channels than pairs of conditions, and fewer; with so many conditions that covariances are SYRK's.
SHAPES = [(300, 20), (150, 48), (160, NARROW + 8)]
RIDGE = 0.02  # of the trace of GᵀG: some tenth of the largest eigenvalue


@pytest.fixture(params=SHAPES, ids=str)
def given(request, dtype):
    """Responses, a target, gains, and a ridge."""
    sim = fc.datasets.simulate(*request.param, rng=0, dtype=dtype)
    gains = np.linspace(0.5, 1.5, len(sim.X))
    return sim.X, sim.S, gains, RIDGE * np.square(fc.atom_norms(sim.X)).sum()


def counted(call):
    """The result, and the work that it took."""
    with work() as found:
        return call(), found


def check(found, X, products, passes):
    assert found.products() == pytest.approx(products, rel=1e-12), found
    assert found.passes(X) == pytest.approx(passes, rel=1e-12), found


def pairs(D):
    return D * (D + 1) // 2


def half(N, D):
    """One half of a product with GᵀG, with G or Gᵀ."""
    return 2 * N * D * D


def covariance(N, D):
    """One triangle by SYRK, or all by a kernel that is faster where D is small."""
    return (2 if D <= NARROW else 1) * N * D * D


# Reads: of sums (mean and range of X), and of the product. Centred rows are made where they are multiplied.
SUMS, COVARIANCE = 1, 1


def moved(center):
    """Reads for the mean at other gains, where there is one."""
    return SUMS if center else 0


# --- pieces


def test_a_covariance_is_one_product(given, center):
    X, _, gains, _ = given
    N, D = X.shape
    for z in (None, gains):
        _, found = counted(lambda z=z: fc.covariance(X, gains=z, center=center))
        check(found, X, covariance(N, D), SUMS + COVARIANCE)


def test_a_target_covariance_is_one_covariance_and_a_trace(given, center):
    X, _, _, _ = given
    N, D = X.shape
    _, found = counted(lambda: fc.target_covariance(X, center=center))
    check(found, X, covariance(N, D), SUMS + COVARIANCE)
    Y = X[: N // 2].copy()
    _, found = counted(lambda: fc.target_covariance(Y, like=X, center=center))
    check(found, X, covariance(N // 2, D), 0.5 * (SUMS + COVARIANCE) + SUMS + 1)


def test_a_gram_matrix_is_one_symmetric_product(given, center):
    X, _, _, _ = given
    N, D = X.shape
    _, found = counted(lambda: fc.gram(X, center=center))
    # The product of centred responses with their mean is 2ND. In float32 norms are looked at for their range.
    check(found, X, N * N * D + 2 * N * D, SUMS + 1 + (X.dtype == np.float32))
    assert found.calls["gram_from_product"] == 1
    assert found.flops["gram_from_product"] == 4.5 * N * N


def test_a_gram_matrix_around_gains_is_four_products_of_a_triangle_by_panels(given, center):
    X, _, gains, _ = given
    N, D = X.shape
    _, found = counted(lambda: fc.gram(X, gains=gains, center=center))
    # Blocks on the diagonal are made whole: 4N²D + 4·PANEL·ND at most.
    starts = np.arange(0, N, PANEL)
    rows, columns = N - starts, np.minimum(PANEL, N - starts)
    blocks = (rows + columns).sum() / N
    check(found, X, 8 * D * (rows * columns).sum(), SUMS + blocks + (X.dtype == np.float32))
    assert found.flops["block_from_products"] == 4 * (rows * columns).sum()


def test_overlaps_are_a_covariance_and_half_a_product(given, center):
    X, S, gains, _ = given
    N, D = X.shape
    for z in (None, gains):
        for T in (1, 3):
            _, found = counted(lambda z=z, T=T: fc.overlaps(X, np.stack([S] * T), gains=z, center=center))
            check(found, X, covariance(N, D) + T * half(N, D), SUMS + COVARIANCE + 1)


def test_norms_are_no_product(given, center):
    X, _, gains, _ = given
    for z in (None, gains):
        _, found = counted(lambda z=z: fc.atom_norms(X, gains=z, center=center))
        check(found, X, 0, SUMS + 1)


def test_a_loss_is_a_covariance_and_its_gradient_half_a_product_more(given, center):
    X, S, gains, ridge = given
    N, D = X.shape
    _, found = counted(lambda: fc.loss(X, S, gains, ridge=ridge, center=center))
    check(found, X, covariance(N, D), SUMS + COVARIANCE)
    _, found = counted(lambda: fc.loss_and_gradient(X, S, gains, ridge=ridge, center=center))
    check(found, X, covariance(N, D) + half(N, D), SUMS + COVARIANCE + 1)


def test_losses_of_few_candidates_are_so_many_covariances(given, center):
    X, S, gains, _ = given
    (N, D), K = X.shape, 3
    Z = gains * np.linspace(0.9, 1.1, K)[:, np.newaxis]
    sums = SUMS + (K - 1) * moved(center)
    _, found = counted(lambda: fc.loss(X, S, Z, center=center))
    check(found, X, K * covariance(N, D), sums + K * COVARIANCE)
    _, found = counted(lambda: fc.loss_and_gradient(X, S, Z, center=center))
    check(found, X, K * (covariance(N, D) + half(N, D)), sums + 2 * K * COVARIANCE)


@pytest.mark.parametrize("shape", SHAPES[:2], ids=str)
def test_losses_of_many_candidates_are_products_over_pairs_from_one_pass(shape, dtype, center):
    (N, D), K = shape, PAIR_CANDIDATES
    sim = fc.datasets.simulate(N, D, rng=0, dtype=dtype)
    X, Z = sim.X, np.linspace(0.9, 1.1, K)[:, np.newaxis] * np.linspace(0.5, 1.5, N)
    once = 2 * K * N * (pairs(D) + D)  # with the products of pairs, and with X for the mean or its part
    _, found = counted(lambda: fc.loss(X, sim.S, Z, center=center))
    check(found, X, once if center else 2 * K * N * pairs(D), SUMS + 1)
    _, found = counted(lambda: fc.loss_and_gradient(X, sim.S, Z, center=center))
    check(found, X, once + (once if center else 2 * K * N * pairs(D)), SUMS + 2)


def test_operators_take_half_a_product_each_way(given, center):
    X, S, gains, _ = given
    N, D = X.shape
    G = fc.AtomOperator(X, gains=gains, center=center)
    K = fc.GramOperator(X, gains=gains, center=center)
    calls = {lambda: G.matvec(gains): 1, lambda: G.rmatvec(S.ravel()): 1, lambda: K @ gains: 2}
    for call, halves in calls.items():
        _, found = counted(call)
        check(found, X, halves * half(N, D), halves)
    _, found = counted(lambda: K.matmat(np.stack([gains, gains], axis=1)))
    check(found, X, 4 * half(N, D), 4)


def test_columns_of_the_gram_matrix_are_one_product_by_panels(given, center):
    X, _, _, _ = given
    (N, D), index = X.shape, np.arange(0, len(X), 10)
    _, found = counted(lambda: fc.GramOperator(X, center=center).columns(index))
    # The channels of the columns are centred, and multiplied with the mean, once for each panel of rows.
    columns = -(-N // PANEL) * len(index)
    products = 2 * N * D * len(index) + 2 * D * (N + columns)
    check(found, X, products, SUMS + 1 + columns / N + (X.dtype == np.float32))


# --- fits


def start(N, D):
    """What all fits begin with: covariance, norms and overlaps at gains of one."""
    return covariance(N, D) + half(N, D), SUMS + COVARIANCE + 2


def end(N, D, center):
    """What all fits end with: the residual of the linear system, and the covariance at the gains found."""
    return 2 * half(N, D) + covariance(N, D), 2 + moved(center) + COVARIANCE


def short(X):
    """Whether a direct fit is of a few calls, of which the last finds the mean at the gains on its way."""
    return X.dtype == np.float64 and X.shape == (150, 48)


def decomposition(N, D, *, spectral):
    """The smaller or the asked for of GᵀG and GGᵀ, factored or decomposed; its order, and reads of X."""
    if spectral is None or (spectral and pairs(D) < N):
        n, gram, passes = pairs(D), N * pairs(D) ** 2, 2  # rows, and the same centred, make atoms
    else:
        n, gram, passes = N, N * N * D + 2 * N * D, 1
    return gram + (9 * n**3 if spectral else n**3 / 3), passes, n


def solution(solver, N, D, stats):
    """One solution with it, and residuals from X where it is refined."""
    times = stats.get("refinements", 0) + 1
    if solver == "cholesky":
        refined = "refinements" in stats
        return times * (2 * N * N + refined * 2 * half(N, D)), 2 * times * refined
    if solver == "dual":
        return times * (2 * pairs(D) ** 2 + 4 * half(N, D)), 4 * times
    if pairs(D) < N:
        return times * (2 * combined(pairs(D), stats) + 4 * half(N, D)), 4 * times
    return combined(N, stats) + shared(N, stats), 0


def combined(n, stats):
    """A sum of eigenvectors."""
    return 2 * n * stats["rank"]


def shared(n, stats):
    """Coefficients of right-hand sides in eigenvectors; and what is outside: twice these, and their sum."""
    return 5 * combined(n, stats)


def sums(*terms):
    return tuple(map(sum, zip(*terms, strict=True)))


SPECTRAL = {"cholesky": False, "dual": None, "spectral": True}


@pytest.mark.covering(2)
@pytest.mark.parametrize("solver", SPECTRAL)
def test_a_fit_is_one_factorisation(solver, given, center):
    X, S, _, ridge = given
    N, D = X.shape
    if solver == "dual" and pairs(D) > 2 * N:
        pytest.skip("GGᵀ is larger than GᵀG by far")
    fit, found = counted(lambda: fc.fit(X, S, ridge=ridge, solver=solver, center=center))
    assert fit.status == "converged"
    assert fit.stats.get("refinements", 0) <= 3
    *work_of, _ = decomposition(N, D, spectral=SPECTRAL[solver])
    products, passes = sums(start(N, D), work_of, solution(solver, N, D, fit.stats), end(N, D, center))
    check(found, X, products, passes - (solver == "cholesky" and short(X)) * moved(center))


def test_a_diagonal_fit_factors_nothing(given, center):
    X, S, _, ridge = given
    _, found = counted(lambda: fc.fit(X, S, ridge=ridge, method="diagonal", center=center))
    check(found, X, *sums(start(*X.shape), end(*X.shape, center)))


def test_targets_share_the_factorisation_and_passes(given):
    X, S, _, ridge = given
    (N, D), T = X.shape, 3
    stack = np.stack([S, 2 * S, 3 * S])
    fit, found = counted(lambda: fc.fit(X, stack, ridge=ridge, solver="cholesky"))
    flops, passes, _ = decomposition(N, D, spectral=False)
    solved, reads = solution("cholesky", N, D, fit.stats)
    products = covariance(N, D) + T * (half(N, D) + solved + 2 * half(N, D) + covariance(N, D))
    ends = 2 + T * (moved(True) + COVARIANCE - short(X))
    check(found, X, flops + products, passes + reads + start(N, D)[1] + ends)


@pytest.mark.covering(2)
@pytest.mark.parametrize("K", [2, 30])
@pytest.mark.parametrize("method", ["linear", "line-search"])
def test_a_path_by_eigenvectors_decomposes_once_and_reads_once_for_many_ridges(method, K, given, center):
    X, S, _, ridge = given
    N, D = X.shape
    ridges = ridge * np.logspace(0, -1, K)
    path, found = counted(
        lambda: fc.ridge_path(X, S, ridges=ridges, solver="spectral", method=method, center=center)
    )
    assert found.calls["syevd"] == 1
    *work_of, _ = decomposition(N, D, spectral=True)
    each = [solution("spectral", N, D, fit.stats) for fit in path]
    ends = [end(N, D, center)] * K
    if method == "line-search":
        ends += [length(N, D, center)] * K
    products, passes = sums(start(N, D), work_of, *each, *ends)
    together = max(1, GROUP_BYTES // (8 * max(N, D * (D + 1))))
    assert (together < K) == (K == 30 and D >= 48) or together == 1  # one group is tried, and several
    if pairs(D) >= N:
        products -= (K - 1) * shared(N, path[0].stats)
    for first in range(0, K, together):  # from the largest on, as they are here
        for _, reads in each[first + 1 : first + together]:
            passes -= reads + 2  # and those of the certificate
    if method == "linear" and X.dtype == np.float64 and D <= NARROW:
        # All certificates are of GᵀG, made once more.
        products -= K * (2 * half(N, D) - 2 * N * N) - (N * N * D + 2 * N * D)
        passes += 1 - 2 * len(range(0, K, together))
    if D <= NARROW:  # covariances of a group come from one call, and so do their means
        products += K * center * 2 * N * D
        passes -= K * center
    check(found, X, products, passes)


def length(N, D, center):
    """The length of a step: the bend of the covariance. Its slope and the loss at gains of one are known."""
    return covariance(N, D), moved(center) + COVARIANCE


def test_conjugate_gradients_take_one_product_an_iteration(given, center):
    X, S, _, ridge = given
    N, D = X.shape
    fit, found = counted(lambda: fc.fit(X, S, ridge=ridge, solver="pcg", rank=0, center=center))
    assert (fit.status, fit.stats["rank"]) == ("converged", 0)
    times = fit.stats["iterations"] + fit.stats["renewals"]
    sample = 0, float(X.dtype == np.float64)  # of channels, for what an offset costs in float32
    check(found, X, *sums(start(N, D), (times * 2 * half(N, D), 2 * times), end(N, D, center), sample))


def test_a_preconditioner_is_made_in_one_pass(dtype, center):
    N, D, k = 2000, 20, 30
    sim = fc.datasets.simulate(N, D, rng=0, dtype=dtype)
    fit, found = counted(
        lambda: fc.fit(sim.X, sim.S, relative_ridge=0.1, solver="pcg", rank=k, center=center)
    )
    assert (fit.stats["rank"], fit.stats["preconditioner"]) == (k, "kept")
    assert found.flops["syrk"] == N * k * k
    factor = N * (2 * D * k + 2 * k * k)  # columns of GᵀG, times the inverse of their own factor
    # Proposals: among themselves, with the pivots, and less what these explain; products with the mean.
    proposals = found.calls["pivoted_rows"] * 2 * BATCH * (D * (BATCH + k) + BATCH * k)
    means = 2 * D * (N + found.calls["block_from_product"] * (BATCH + k))
    assert proposals + means < factor
    assert factor <= found.flops["gemm"] <= factor + proposals + means
    iterations = fit.stats["iterations"]
    assert found.flops["gemv"] == iterations * (4 * N * k + 2 * k * k)


@pytest.mark.parametrize("ridges", [3, 30])
@pytest.mark.parametrize("method", ["linear", "exact"])
def test_a_fold_is_one_decomposition_or_chain_of_fits_whatever_the_ridges(method, ridges, dtype):
    N, D, folds = 60, 48, 4
    sim = fc.datasets.simulate(N, D, rng=0, dtype=dtype)
    options = {"relative_ridges": np.logspace(-1, 0, ridges), "folds": folds, "refit": None}
    with fc.threads(1):  # all in this thread
        _, found = counted(
            lambda: fc.cross_validate(sim.X, sim.Y, method=method, solver="spectral", **options)
        )
    # Of each ridge and of three baselines, what was held out alone is predicted and scored.
    assert found.calls["score_sums"] == folds * (ridges + 3)
    # Covariances of X and Y; of each fold that at gains of one, though it is a part of that of X.
    if method == "linear":
        assert found.calls["syevd"] == folds
        assert found.calls["squared_norms"] + found.calls["whole_start"] == folds
        assert found.calls["centred_products"] + found.calls["whole_start"] == 2 + folds
    else:  # every chain has what is the same for all of a fold from the first
        assert found.calls["syevd"] == 0
        assert found.calls["squared_norms"] + found.calls["whole_start"] == folds
        assert found.calls["sums_by_row"] == found.calls["descend"] == folds * ridges


def test_a_line_search_is_a_bend_more(given, center):
    X, S, _, ridge = given
    options = {"ridge": ridge, "solver": "cholesky", "center": center}
    _, linear = counted(lambda: fc.fit(X, S, **options))
    _, found = counted(lambda: fc.fit(X, S, **options, method="line-search"))
    mean = 0, short(X) * moved(center)
    check(found, X, *sums((linear.products(), linear.passes(X)), length(*X.shape, center), mean))


def test_an_exact_fit_is_an_evaluation_and_a_bend_a_step_and_products(given, center):
    X, S, _, ridge = given
    N, D = X.shape
    fit, found = counted(lambda: fc.fit(X, S, ridge=ridge, method="exact", center=center))
    steps, products = fit.stats["iterations"], fit.stats["products"]
    assert fit.status == "converged"
    reads = 3 if center else 2
    assert fit.stats["escapes"] == 0
    # The certificate is computed apart: mean, covariance, and a product with the error.
    evaluations = (steps + 1) * 2 * half(N, D), (steps + 1) * reads
    second_diagonal = steps * half(N, D), steps * (reads - 1)
    curvature = products * 2 * half(N, D), 2 * products
    certificate = 2 * half(N, D) + center * 2 * N * D, 2
    sample = 0, float(X.dtype == np.float64)  # of channels, for what an offset costs in float32
    check(found, X, *sums(start(N, D), evaluations, second_diagonal, curvature, certificate, sample))


@pytest.mark.covering(2)
@pytest.mark.parametrize("shuffles", [0, 1, 19])
def test_an_explanation_decomposes_once(shuffles, given, center):
    X, S, _, ridge = given
    N, D = X.shape
    if pairs(D) < N:
        pytest.skip("counted where GᵀG is the smaller")
    why, found = counted(lambda: fc.explain(X, S, ridge=ridge, center=center, shuffles=shuffles))
    assert found.calls["syevd"] == found.calls["pstrf"] == 1
    *work_of, _ = decomposition(N, D, spectral=True)
    solved = solution("spectral", N, D, why.fit.stats)
    # In modes: overlaps, and what is outside. And the fitted error.
    K, live = len(why.spectrum), np.flatnonzero(why.squared_norms)
    parts = 2 * 2 * N * K + half(N, D), 1
    # Some channels are others at another scale: without a mean these have the same atom.
    G = naive.atoms(X, None, center)[:, live]
    rank = np.linalg.matrix_rank(G / np.linalg.norm(G, axis=0), tol=1e-6)
    others = permuted(shuffles, N, D, K, rank, len(live))
    steps = found.calls["potrs"] - (shuffles > 0)
    span = reachable(N, D, rank, steps)
    check(found, X, *sums(start(N, D), work_of, solved, end(N, D, center), parts, span, others))
    assert 1 <= steps <= 3


def reachable(N, D, rank, steps):
    """GᵀG again, of atoms of norm one; its factor; and conjugate gradients, each step G, Gᵀ and a solution.

    No channel is weak beside the mean here: rows of none are made anew.
    """
    gram, factor = N * N * D + 2 * N * D, N**3 / 3
    return gram + factor + steps * (2 * half(N, D) + 2 * rank**2), 1 + 2 * steps


def permuted(shuffles, N, D, K, rank, live):
    """Overlaps of all from one pass; from these modes and δ, what is reachable, and a correlation."""
    each = half(N, D) + 2 * 2 * N * K + 2 * rank**2 + 2 * live
    return shuffles * each, int(shuffles > 0)


@pytest.mark.parametrize("given", SHAPES[1:2], indirect=True, ids=str)
def test_a_linear_bootstrap_takes_one_product_more_for_each_draw(given):
    X, _, _, ridge = given
    N, D = X.shape
    Y = np.random.default_rng(0).random((70, D))
    fit = fc.fit(X, responses=Y, ridge=ridge)
    some, many = (counted(lambda n=n: fit.uncertainty(Y, n_boot=n))[1] for n in (10, 30))
    M = len(Y)
    # Counts times the right-hand sides of cells, with the inverse, and times cells and their squares; and the
    # right-hand side of the mean.
    each = 2 * N * M + 2 * N * N + 2 * M * (D + 1) + 4 * N * D
    assert many.products() - some.products() == pytest.approx(20 * each, rel=1e-12)
    assert many.passes(X) == some.passes(X)


@pytest.mark.parametrize("shape", [(300, 20), (150, 48)], ids=str)
def test_importances_take_one_inverse_of_the_smaller_matrix(shape):
    sim = fc.datasets.simulate(*shape, rng=0)
    (N, D), P = shape, pairs(shape[1])
    for modes in (None, 3):
        why = fc.explain(sim.X, sim.S, relative_ridge=0.1, modes=modes)
        found = counted(lambda why=why: why.importance)[1]
        K = len(why.spectrum)
        wanted = 2 * N * P * K if P < N else 4 * N * K
        if modes:
            inverse = 2 * min(N, P) ** 3 / 3  # factor and its inverse
            wanted = inverse + (N * P**2 + 2 * N * P**2 if P < N else N * N * D)
        assert found.products() == pytest.approx(wanted, rel=2e-2)
        assert counted(lambda why=why: why.importance_silenced)[1].products() == 0
