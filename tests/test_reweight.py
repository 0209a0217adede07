"""reweight: weights against the design matrix of pairs x channels, bounds against KKT, and all forms of X."""

import naive
import numpy as np
import pytest
import scipy.optimize
from cases import data
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import fastcov as fc
from fastcov._inputs.labels import Labelled

ATOMS = ("product", "squared-euclidean")
each_atoms = pytest.mark.parametrize("atoms", ATOMS)


def target(D, seed=1, M=30):
    Y = data(M, D, seed=seed)
    return Y.T @ Y


def weights_of_pairs(D, seed=2):
    v = np.random.default_rng(seed).random((D, D))
    v[0, 1] = v[1, 0] = 0.0
    return v + v.T


def scale(A, v):
    """The largest eigenvalue of AᵀA."""
    return np.linalg.eigvalsh(A.T @ (v[:, np.newaxis] * A))[-1]


@pytest.mark.parametrize("offset", [False, True])
@pytest.mark.parametrize("shrink_to", [0.0, 1.0, -0.5])
@pytest.mark.parametrize("pairs", ["off-diagonal", "all", "weighted"])
@pytest.mark.parametrize(("N", "D", "center"), [(9, 7, True), (40, 6, False), (33, 12, True)])
@pytest.mark.covering(2)
@each_atoms
def test_weights_are_those_of_the_design_matrix(atoms, N, D, center, pairs, shrink_to, offset):
    X, S = data(N, D) + 1.0, target(D)
    v = {"off-diagonal": None, "all": np.ones((D, D)), "weighted": weights_of_pairs(D)}[pairs]
    A, _, counted = naive.pair_design(X, atoms, center, v)
    ridge = 0.05 * scale(A, counted)
    found = fc.reweight(
        X, S, ridge, atoms=atoms, center=center, pairs=v if pairs == "weighted" else pairs, offset=offset,
        shrink_to=shrink_to,
    )  # fmt: skip
    w, c = naive.reweighted(X, S, ridge, atoms, center, v, offset, shrink_to)
    # The condition number is 20 (some hundreds with the offset), and both sides round to some 1e-15 of it.
    assert_allclose(found.weights, w, rtol=0, atol=1e-11 * np.abs(w).max())
    assert found.offset == pytest.approx(c, rel=1e-10)
    assert found.status == "converged"
    assert np.max(found.residual) < 1e-12


@each_atoms
def test_the_system_is_that_of_the_formulas_to_rounding(atoms):
    """AᵀA from K = XXᵀ, and Aᵀt from the Laplacian of the target, as the documentation has them."""
    N, D = 12, 9
    X, T = data(N, D), target(D)
    X = X - X.mean(axis=1, keepdims=True)
    np.fill_diagonal(T, 0.0)
    A, (a, b), _ = naive.pair_design(X, atoms, center=False)
    K, squares, s = X @ X.T, X * X, (X * X).sum(axis=1)
    if atoms == "product":
        gram, right = (K * K - squares @ squares.T) / 2, np.einsum("id,de,ie->i", X, T, X) / 2
    else:
        gram = D * squares @ squares.T + np.outer(s, s) + 2 * K * K
        right = np.einsum("id,de,ie->i", X, np.diag(T.sum(axis=1)) - T, X)
    assert_allclose(gram, A.T @ A, rtol=0, atol=8 * D * np.finfo(float).eps * np.abs(gram).max())
    assert_allclose(right, A.T @ T[a, b], rtol=0, atol=8 * D * np.finfo(float).eps * np.abs(right).max())


@each_atoms
def test_prediction_scores_and_loss_are_those_of_the_weights(atoms):
    N, D, ridge = 15, 9, 3.0
    X, S = data(N, D), target(D)
    found = fc.reweight(X, S, ridge, atoms=atoms, offset=True, shrink_to=1.0)
    A, (a, b), _ = naive.pair_design(X, atoms)
    P = A @ found.weights + found.offset
    t = S[a, b]
    assert_allclose(found.prediction[a, b], P, rtol=0, atol=1e-12 * np.abs(P).max())
    assert_array_equal(found.prediction, found.prediction.T)
    wanted = 0.5 * np.sum((P - t) ** 2) + ridge / 2 * np.sum((found.weights - 1) ** 2)
    assert found.loss == pytest.approx(wanted, rel=1e-12)
    assert found.r2 == pytest.approx(1 - np.sum((P - t) ** 2) / np.sum((t - t.mean()) ** 2), rel=1e-11)
    assert found.pearson == pytest.approx(np.corrcoef(P, t)[0, 1], rel=1e-11)
    assert found.spearman == pytest.approx(naive.rank_correlation(P, t), rel=1e-12)
    if atoms == "squared-euclidean":
        assert_array_equal(np.diag(found.prediction), 0.0)


@each_atoms
def test_a_relative_ridge_is_a_share_of_the_largest_eigenvalue(atoms):
    X, S = data(14, 8), target(8)
    A, _, v = naive.pair_design(X, atoms)
    found = fc.reweight(X, S, relative_ridge=0.2, atoms=atoms)
    # Lanczos gives the eigenvalue to some 1e-10.
    assert found.ridge == pytest.approx(0.2 * scale(A, v), rel=1e-8)
    assert found.relative_ridge == 0.2
    assert_allclose(found.weights, fc.reweight(X, S, found.ridge, atoms=atoms).weights, rtol=1e-9)


@each_atoms
def test_a_ridge_by_channel_and_a_matrix_are_penalties_of_weights(atoms):
    N, D = 10, 9
    X, S = data(N, D), target(D)
    each = np.linspace(1.0, 5.0, N) * 100
    w, _ = naive.reweighted(X, S, each, atoms, shrink_to=1.0)
    for ridge in (each, np.diag(np.sqrt(each))):
        found = fc.reweight(X, S, ridge, atoms=atoms, shrink_to=1.0)
        assert_allclose(found.weights, w, rtol=0, atol=1e-10 * np.abs(w).max())
    root = np.eye(N) - np.eye(N, k=1)
    A, (a, b), _ = naive.pair_design(X, atoms)
    wanted = np.linalg.solve(A.T @ A + 900 * root.T @ root, A.T @ S[a, b])
    found = fc.reweight(X, S, 30 * root, atoms=atoms)
    assert_allclose(found.weights, wanted, rtol=0, atol=1e-10 * np.abs(wanted).max())


@pytest.mark.parametrize("solver", ["cholesky", "dual", "spectral", "pcg"])
@pytest.mark.parametrize("offset", [False, True])
@each_atoms
def test_every_solver_finds_the_same_weights(atoms, offset, solver):
    X, S = data(50, 7), target(7)
    options = {"relative_ridge": 0.03, "atoms": atoms, "offset": offset, "tol": 1e-12}
    wanted = fc.reweight(X, S, solver="cholesky", **options)
    found = fc.reweight(X, S, solver=solver, **options)
    assert found.stats["solver"] == solver
    # The relative residual is 1e-12, and the condition number below 100.
    assert_allclose(found.weights, wanted.weights, rtol=0, atol=1e-10 * np.abs(wanted.weights).max())


@each_atoms
def test_without_a_ridge_the_weights_are_the_nearest_among_the_best(atoms):
    N, D = 40, 5
    X, S = data(N, D), target(D)
    A, (a, b), _ = naive.pair_design(X, atoms)
    found = fc.reweight(X, S, 0.0, atoms=atoms, shrink_to=1.0)
    wanted = 1.0 + np.linalg.pinv(A) @ (S[a, b] - A @ np.ones(N))
    assert found.status == "minimum-norm"
    # The condition number of A, some ten, counts twice.
    assert_allclose(found.weights, wanted, rtol=0, atol=1e-9 * np.abs(wanted).max())
    assert found.pearson == pytest.approx(1.0, abs=1e-12)


@each_atoms
def test_a_stack_shares_one_factorisation_and_gives_each_target_its_own(atoms):
    X = data(12, 8)
    S = np.stack([target(8, seed) for seed in (1, 2, 3)])
    options = {"relative_ridge": 0.1, "atoms": atoms, "offset": True}
    found = fc.reweight(X, S, **options)
    for k in range(3):
        one = fc.reweight(X, S[k], **options)
        assert_allclose(found.weights[k], one.weights, rtol=1e-10, atol=1e-13)
        for name in ("offset", "loss", "r2", "pearson", "spearman"):
            assert getattr(found, name)[k] == pytest.approx(getattr(one, name), rel=1e-10), name
        assert_allclose(found.prediction[k], one.prediction, rtol=1e-9, atol=1e-9)


# ---- bounds


@pytest.mark.parametrize("bounds", [(0, None), (None, 0.5), (-0.1, 0.1), (0.2, 0.2)])
@pytest.mark.parametrize("shrink_to", [0.0, 1.0])
@pytest.mark.parametrize("share", [1e-1, 1e-4])
@each_atoms
def test_bounded_weights_satisfy_kkt(atoms, bounds, shrink_to, share):
    N, D = 60, 10
    X, S = data(N, D), target(D) / 30
    A, (a, b), v = naive.pair_design(X, atoms)
    ridge = share * scale(A, v)
    found = fc.reweight(X, S, ridge, atoms=atoms, bounds=bounds, shrink_to=shrink_to)
    w, t = found.weights, S[a, b]
    lower, upper = (-np.inf if bounds[0] is None else bounds[0], np.inf if bounds[1] is None else bounds[1])
    assert (w >= lower).all()
    assert (w <= upper).all()
    gradient = A.T @ (A @ w - t) + ridge * (w - shrink_to)
    size = np.linalg.norm(A.T @ (A @ np.full(N, shrink_to) - t))
    allowed = 1e-10 * size  # linear solves leave some 1e-14
    assert (np.abs(gradient[(w > lower) & (w < upper)]) <= allowed).all()
    if lower < upper:
        assert (gradient[w <= lower] >= -allowed).all()
        assert (gradient[w >= upper] <= allowed).all()
        assert found.status == "converged"
        assert found.residual < 1e-10
    assert found.stats["at_bounds"] == np.sum((w <= lower) | (w >= upper))


def test_nonnegative_weights_are_those_of_nonnegative_least_squares():
    N, D, ridge = 40, 12, 2.0
    X, S = data(N, D), target(D)
    for atoms in ATOMS:
        A, (a, b), _ = naive.pair_design(X, atoms)
        wanted, _ = scipy.optimize.nnls(
            np.vstack([A, np.sqrt(ridge) * np.eye(N)]), np.append(S[a, b], np.zeros(N)), maxiter=1000
        )
        found = fc.reweight(X, S, ridge, atoms=atoms, bounds=(0, None))
        assert_array_equal(found.weights == 0, wanted == 0)
        assert_allclose(found.weights, wanted, rtol=0, atol=1e-9 * wanted.max())


def test_each_target_of_a_stack_has_its_own_bounded_minimum():
    X, S = data(30, 8), np.stack([target(8, 1), target(8, 2)])
    found = fc.reweight(X, S, relative_ridge=0.01, bounds=(0, None), offset=True)
    for k in range(2):
        one = fc.reweight(X, S[k], relative_ridge=0.01, bounds=(0, None), offset=True)
        assert_allclose(found.weights[k], one.weights, rtol=1e-9, atol=1e-12)


@given(st.integers(2, 12), st.integers(3, 7), st.integers(0, 10**6), st.sampled_from(ATOMS), st.booleans())
def test_bounded_weights_are_no_worse_than_any_others_within(N, D, seed, atoms, offset):
    random = np.random.default_rng(seed)
    X, S = random.standard_normal((N, D)), random.standard_normal((D, D))
    S = S + S.T
    found = fc.reweight(X, S, relative_ridge=0.05, atoms=atoms, bounds=(-0.2, 0.3), offset=offset)
    A, (a, b), _ = naive.pair_design(X, atoms)
    t = S[a, b]

    def loss(w):
        left = A @ w - t
        left = left - left.mean() if offset else left
        return 0.5 * left @ left + found.ridge / 2 * w @ w

    # Rounding of the loss, of sums of squares of at most some thousands.
    room = 1e-12 * (loss(np.zeros(N)) + 1e-12)
    for _ in range(20):
        other = np.clip(found.weights + 0.05 * random.standard_normal(N), -0.2, 0.3)
        assert loss(found.weights) <= loss(other) + room
    assert loss(found.weights) == pytest.approx(found.loss, rel=1e-9, abs=1e-12)


def test_many_channels_within_bounds_need_no_gram_matrix_of_all():
    X, S = data(3000, 8), target(8)
    found = fc.reweight(X, S, relative_ridge=0.01, bounds=(0, None), solver="pcg")
    assert found.status == "converged"
    assert found.residual < 1e-7
    assert (found.weights >= 0).all()


# ---- hypothesis: odd cases


@given(
    st.integers(1, 12), st.integers(2, 8), st.integers(0, 10**6), st.sampled_from(ATOMS), st.booleans(),
    st.floats(-60, 60), st.floats(-1e3, 1e3),
)  # fmt: skip
def test_weights_do_not_depend_on_units_nor_distances_on_an_offset_of_channels(
    N, D, seed, atoms, center, exponent, shift
):
    random = np.random.default_rng(seed)
    X, S = random.standard_normal((N, D)), random.standard_normal((D, D))
    S = S + S.T
    one = fc.reweight(X, S, 0.5, atoms=atoms, center=center)
    factor = 2.0 ** int(exponent)
    other = fc.reweight(factor * X, factor**2 * S, factor**4 * 0.5, atoms=atoms, center=center)
    assert_allclose(other.weights, one.weights, rtol=1e-11, atol=1e-13)
    if atoms == "squared-euclidean":
        moved = X + shift * random.standard_normal((N, 1))
        # X rounds to ε|shift|, and the ridge of 0.5 bounds the condition number by some thousands.
        found = fc.reweight(moved, S, 0.5, atoms=atoms, center=False)
        wanted = fc.reweight(X, S, 0.5, atoms=atoms, center=False)
        assert_allclose(found.weights, wanted.weights, rtol=0, atol=1e-8)


@pytest.mark.parametrize("shrink_to", [0.0, 1.0, 0.25])
@pytest.mark.parametrize("bounds", [None, (-2, 2)])
@each_atoms
def test_a_silent_channel_keeps_the_weight_that_all_are_shrunk_to(atoms, bounds, shrink_to):
    X, S = data(9, 7), target(7)
    X[4] = 0.0
    found = fc.reweight(X, S, 1.0, atoms=atoms, center=False, bounds=bounds, shrink_to=shrink_to)
    assert found.weights[4] == shrink_to


def test_a_channel_that_answers_alike_to_all_conditions_has_no_differences():
    X, S = data(9, 7), target(7)
    X[4] = 0.1
    found = fc.reweight(X, S, 1.0, atoms="squared-euclidean", center=False, shrink_to=1.0)
    assert found.weights[4] == pytest.approx(1.0, abs=1e-14)


# ---- forms of X and S


@pytest.mark.parametrize("N", [30, 200])
@pytest.mark.parametrize("center", [True, False])
@each_atoms
def test_float32_has_the_accuracy_of_float64(atoms, center, N):
    X, S = data(N, 10).astype(np.float32) + np.float32(0.5), target(10)
    options = {"relative_ridge": 1e-2, "atoms": atoms, "center": center}
    one, other = fc.reweight(X, S, **options), fc.reweight(X.astype(np.float64), S, **options)
    assert one.stats["dtype"] == "float32"
    assert_allclose(one.weights, other.weights, rtol=0, atol=1e-8 * np.abs(other.weights).max())


@each_atoms
def test_a_file_is_read_by_rows(tmp_path, atoms):
    X, S = data(300, 9) + 2.0, target(9)
    np.save(tmp_path / "x.npy", X)
    stored = np.load(tmp_path / "x.npy", mmap_mode="r")
    options = {"relative_ridge": 1e-2, "atoms": atoms, "offset": True}
    one, other = fc.reweight(stored, S, **options), fc.reweight(X, S, **options)
    assert_allclose(one.weights, other.weights, rtol=0, atol=1e-8 * np.abs(other.weights).max())
    assert_allclose(one.apply(stored), other.prediction, rtol=0, atol=1e-7 * np.abs(other.prediction).max())


@each_atoms
def test_names_are_kept_and_aligned(atoms):
    pandas = pytest.importorskip("pandas")
    X, S = data(6, 5), target(5)
    channels, odours = list("uvwxyz"), list("abcde")
    frame = pandas.DataFrame(X, channels, odours)
    S_frame = pandas.DataFrame(S, odours, odours)
    order = [3, 1, 4, 0, 2]
    v = weights_of_pairs(5)
    v_frame = pandas.DataFrame(v, odours, odours)
    options = {"relative_ridge": 0.1, "atoms": atoms}
    plain = fc.reweight(X, S, pairs=v, **options)
    with pytest.warns(fc.LabelWarning):
        found = fc.reweight(
            frame, S_frame.iloc[order, order], pairs=v_frame.iloc[order[::-1], order[::-1]], **options
        )
    assert_allclose(found.weights, plain.weights, rtol=1e-12)
    assert (found.channels, found.conditions) == (tuple(channels), tuple(odours))
    table = found.to_frame()
    assert list(table.index) == channels
    assert_array_equal(table["weight"], found.weights)
    with pytest.warns(fc.LabelWarning):
        applied = found.apply(frame.iloc[::-1])
    assert list(applied.index) == odours
    assert_allclose(applied.to_numpy(), found.prediction, rtol=1e-9, atol=1e-12)


def test_conditions_that_only_the_target_names_are_taken_over():
    X, S = data(6, 4), target(4)
    found = fc.reweight(X, Labelled(S, list("abcd"), list("abcd")), 1.0)
    assert found.conditions == tuple("abcd")


@each_atoms
def test_apply_predicts_other_conditions_by_the_definition(atoms):
    X, S, new = data(8, 6), target(6), data(8, 4, seed=5)
    found = fc.reweight(X, S, 1.0, atoms=atoms, offset=True)
    A, (a, b), _ = naive.pair_design(new, atoms)
    predicted = found.apply(new)
    assert_allclose(predicted[a, b], A @ found.weights + found.offset, rtol=1e-11, atol=1e-12)
    with pytest.raises(ValueError, match=r"^Argument 'X_new' must have the 8 channels of the fit"):
        found.apply(new[:5])
    stack = fc.reweight(X, np.stack([S, 2 * S]), 1.0, atoms=atoms)
    assert stack.apply(new).shape == (2, 4, 4)


def test_what_is_unknown_may_be_nan_where_no_pair_counts():
    X, S = data(8, 6), target(6)
    v = np.ones((6, 6))
    v[1, 2] = v[2, 1] = 0.0
    unknown = S.copy()
    unknown[1, 2] = unknown[2, 1] = np.nan
    np.fill_diagonal(unknown, np.nan)
    for atoms in ATOMS:
        pairs = v * (1 - np.eye(6))
        one = fc.reweight(X, unknown, 1.0, atoms=atoms, pairs=pairs)
        assert_allclose(one.weights, fc.reweight(X, S, 1.0, atoms=atoms, pairs=pairs).weights, rtol=1e-12)
    with pytest.raises(ValueError, match="'S' must be finite"):
        fc.reweight(X, unknown, 1.0)


# ---- errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"atoms": "euclidean"}, r"'atoms' must be one of 'product', 'squared-euclidean', not 'euclidean'"),
        ({"ridge": -1.0}, r"'ridge' must be a finite number >= 0"),
        ({"relative_ridge": 0.1}, r"'ridge' or 'relative_ridge' must be given, one of the two, not both"),
        ({"ridge": None}, r"'ridge' or 'relative_ridge' must be given, one of the two, not neither"),
        ({"ridge": "cv", "relative_ridge": 0.1}, r"'ridge' must be a number, not 'cv', where relative_ridge"),
        ({"shrink_to": np.nan}, r"'shrink_to' must be finite"),
        ({"pairs": "diagonal"}, r"'pairs' must be 'all', 'off-diagonal', or a matrix"),
        ({"pairs": np.zeros((6, 6))}, r"'pairs' must leave at least one pair"),
        ({"bounds": (1, 0)}, r"'bounds' must have lower <= upper"),
        ({"score": "r2"}, r"'score' must be one of 'pearson'"),
        (
            {"ridge": "cv", "folds": 3},
            r"'folds' must hold out enough conditions to correlate 3 pairs in each",
        ),
        ({"ridge": "cv", "folds": 7}, r"'folds' must be at most the 6 conditions"),
    ],
)
@pytest.mark.parametrize("atoms", ATOMS)
def test_what_is_wrong_is_said(options, message, atoms):
    given = {"ridge": 1.0, "atoms": atoms} | options
    with pytest.raises(ValueError, match=f"^Argument {message}"):
        fc.reweight(data(8, 6), target(6), **given)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"offset": 1}, r"'offset' must be True or False, not 1"),
        ({"shrink_to": "one"}, r"'shrink_to' must be a number, not 'one'"),
        ({"center": 1}, r"'center' must be True or False"),
    ],
)
def test_what_is_of_the_wrong_kind_is_said(options, message):
    with pytest.raises(TypeError, match=f"^Argument {message}"):
        fc.reweight(data(8, 6), target(6), 1.0, **options)


def test_targets_must_fit_and_be_symmetric():
    with pytest.raises(ValueError, match="'S' must be 6 x 6"):
        fc.reweight(data(8, 6), target(5), 1.0)
    skew = target(6)
    skew[0, 1] += 1.0
    with pytest.raises(ValueError, match="'S' must be symmetric"):
        fc.reweight(data(8, 6), skew, 1.0)
    with pytest.raises(ValueError, match=r"'S' must be one target for ridge='cv', not a stack of 2"):
        fc.reweight(data(8, 20), np.stack([target(20)] * 2), "cv")


@each_atoms
def test_inputs_are_left_as_they_are(atoms):
    X, S, v = data(8, 6), target(6), weights_of_pairs(6)
    before = [each.copy() for each in (X, S, v)]
    for each in (X, S, v):
        each.flags.writeable = False
    fc.reweight(X, S, 1.0, atoms=atoms, pairs=v, bounds=(0, None))
    for one, other in zip(before, (X, S, v), strict=True):
        assert_array_equal(one, other)


def test_a_reweighting_prints_what_it_is():
    found = fc.reweight(data(8, 6), target(6), 1.0, bounds=(0, None), offset=True)
    text = str(found)
    assert text.startswith("Reweighting: 8 channels x 6 conditions, product\n")
    for word in ("weights", "at a bound", "ridge", "offset", "R2", "pearson", "residual", "ridge='cv'"):
        assert word in text
    assert "<table>" in found._repr_html_()
    stack = fc.reweight(data(8, 6), np.stack([target(6)] * 2), relative_ridge=0.1)
    assert "2 targets" in str(stack)
    assert "(mean)" in str(stack)
