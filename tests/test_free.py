"""The free model against its definition: W formed, and minimised over all N² of its entries."""

import dataclasses

import hypothesis
import hypothesis.strategies as st
import naive
import naive_free
import numpy as np
import pytest

import fastcov as fc

METHODS = ("free", "free-linear", "symmetric", "psd")
# Of (N, D): many channels, one more than conditions, as many, and fewer.
SHAPES = ((14, 5), (7, 6), (6, 6), (4, 7))
METRICS = {
    "plain": {},
    "nuisance": {"nuisance": ("diagonal", "constant")},
    "off-diagonal": {"pairs": "off-diagonal"},
    "both": {"pairs": "off-diagonal", "nuisance": ("constant",)},
}


def problem(N, D, seed=0, center=True, mean=1.0):
    """Responses, a target of the same trace, and the square of the largest eigenvalue of Γ."""
    rng = np.random.default_rng([N, D, seed])
    X = rng.standard_normal((N, D)) + mean
    Y = rng.standard_normal((2 * D, D)) @ rng.standard_normal((D, D))
    C, S = naive.covariance(X, center=center), naive.covariance(Y, center=center)
    return X, S * np.trace(C) / np.trace(S), np.linalg.eigvalsh(C)[-1] ** 2


def maps(D, options):
    """R and Rᵀ of the metric as functions, or none."""
    if not options:
        return {}
    R = naive.projection(D, options.get("nuisance", ()), pairs_of(D, options))
    return {
        "image": lambda E: (R @ E.ravel()).reshape(D, D),
        "adjoint": lambda E: (R.T @ E.ravel()).reshape(D, D),
    }


def pairs_of(D, options):
    return 1.0 - np.eye(D) if options.get("pairs") == "off-diagonal" else None


def formed(found):
    """W (N, N)."""
    return found.W.left @ found.W.right.T


def check(found, X, S, center=True, tol=1e-5, **metric):
    """The certificate, the loss and the covariance are those of W by their definitions."""
    W = formed(found)
    value, gradient = naive_free.loss_and_gradient(X, S, W, found.ridge, center, **metric)
    _, at_zero = naive_free.loss_and_gradient(X, S, 0 * W, found.ridge, center, **metric)
    Y = naive_free.changed(X, W, center)
    size = np.linalg.norm(S)
    np.testing.assert_allclose(found.covariance(), Y.T @ Y, atol=1e-9 * size)
    np.testing.assert_allclose(found.loss, value, rtol=1e-9)
    if found.method == "free":
        residual = np.linalg.norm(gradient) / np.linalg.norm(at_zero)
        assert residual < tol
        np.testing.assert_allclose(found.residual, residual, rtol=0.1, atol=1e-10)
    return W


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_no_connectivity_is_lower(shape, center, metric):
    """L-BFGS over N x N ends nowhere below, whether it begins at zero or where it likes."""
    X, S, unit = problem(*shape, center=center)
    options, functions = METRICS[metric], maps(shape[1], METRICS[metric])
    found = fc.fit(X, S, ridge=1e-2 * unit, method="free", center=center, tol=1e-8, **options)
    check(found, X, S, center, **functions)
    assert found.status == "converged"
    assert found.residual <= 1e-7
    W, lowest = naive_free.minimum(X, S, found.ridge, center, **functions)
    alone = shape[0] > shape[1] or not center  # otherwise C cannot have the rank of K: there are other minima
    assert ("several" in found.stats) is not alone
    assert ("There may be other minima" in repr(found)) is not alone
    if alone:
        start = np.random.default_rng(1).standard_normal(W.shape)
        _, other = naive_free.minimum(X, S, found.ridge, center, **functions, start=start)
        assert found.loss <= min(lowest, other) * (1 + 1e-9)
        np.testing.assert_allclose([lowest, other], found.loss, rtol=1e-7)
        np.testing.assert_allclose(formed(found), W, atol=1e-4 * np.abs(W).max())


@pytest.mark.parametrize("kind", ["symmetric", "psd"])
@pytest.mark.parametrize("shape", SHAPES)
def test_constrained_minima(shape, kind):
    X, S, unit = problem(*shape, seed=1)
    found = fc.fit(X, S, ridge=1e-2 * unit, method=kind, tol=1e-8)
    assert found.status == "converged"
    W = check(found, X, S)
    np.testing.assert_allclose(W, W.T, atol=1e-9 * np.abs(W).max())
    if kind == "psd":
        assert np.linalg.eigvalsh(np.eye(len(W)) + W)[0] > -1e-7
    if shape[0] > shape[1]:  # otherwise there are several minima
        _, lowest = naive_free.minimum(X, S, found.ridge, kind=kind)
        assert found.loss <= lowest * (1 + 1e-8)
    free = fc.fit(X, S, ridge=found.ridge, method="free", tol=1e-8)
    assert free.loss <= found.loss * (1 + 1e-12)


def test_semidefinite_where_the_symmetric_minimum_is_not():
    """The symmetric minimum has a negative eigenvalue of I + W; the constraint then binds, and holds."""
    X, S, unit = problem(6, 6, seed=8, mean=3.0)
    options = {"ridge": 1e-4 * unit, "tol": 1e-8}
    symmetric = fc.fit(X, S, method="symmetric", **options)
    assert np.linalg.eigvalsh(np.eye(6) + formed(symmetric))[0] < -0.1
    found = fc.fit(X, S, method="psd", **options)
    W = check(found, X, S)
    values, vectors = np.linalg.eigh(np.eye(6) + W)
    assert found.status == "converged"
    assert values[0] > -1e-7
    assert found.loss >= symmetric.loss
    # KKT: the symmetric gradient vanishes but on the null space, where it is positive semi-definite.
    _, gradient = naive_free.loss_and_gradient(X, S, W, found.ridge)
    turned = vectors.T @ (gradient + gradient.T) @ vectors / 2
    null = values < 1e-6
    unit = np.linalg.norm(naive_free.loss_and_gradient(X, S, 0 * W, found.ridge)[1])
    assert null.any()
    assert np.linalg.eigvalsh(turned[np.ix_(null, null)])[0] > -1e-6 * unit
    turned[np.ix_(null, null)] = 0.0
    assert np.linalg.norm(turned) < 1e-5 * unit


@pytest.mark.parametrize("kind", ["symmetric", "psd"])
def test_without_a_mean_the_free_minimum_is_symmetric_and_definite(kind):
    X, S, unit = problem(12, 5, center=False)
    free = fc.fit(X, S, ridge=1e-3 * unit, method="free", center=False)
    W = formed(free)
    np.testing.assert_allclose(W, W.T, atol=1e-10 * np.abs(W).max())
    assert np.linalg.eigvalsh(np.eye(len(W)) + W)[0] > 0.0
    same = fc.fit(X, S, ridge=1e-3 * unit, method=kind, center=False)
    np.testing.assert_array_equal(same.phi, free.phi)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_linearised(shape, center, metric):
    """The closed form is the ridge solution with all N² atoms."""
    X, S, unit = problem(*shape, center=center, seed=2)
    options, functions = METRICS[metric], maps(shape[1], METRICS[metric])
    for share in (1.0, 1e-3):
        found = fc.fit(X, S, ridge=share * unit, method="free-linear", center=center, **options)
        W = naive_free.linearised(X, S, found.ridge, center, functions.get("image"))
        np.testing.assert_allclose(formed(found), W, atol=1e-9 * np.abs(W).max())
        assert found.residual < 1e-11
        check(found, X, S, center, **functions)


@pytest.mark.parametrize("method", METHODS)
def test_path_is_that_of_single_fits(method):
    X, S, _ = problem(14, 5)
    ridges = [1e-2, 1.0, 1e-1]
    path = fc.ridge_path(X, S, relative_ridges=ridges, method=method, tol=1e-9)
    for k, share in enumerate(ridges):
        one = fc.fit(X, S, relative_ridge=share, method=method, tol=1e-9)
        np.testing.assert_allclose(path[k].phi, one.phi, atol=1e-6 * np.abs(one.phi).max())
        np.testing.assert_allclose(path.loss[k], one.loss, rtol=1e-10)
        assert path[k].relative_ridge == share
    assert list(np.argsort(path.loss)) == [0, 2, 1] or method == "free-linear"
    assert len(path.to_frame()) == 3
    assert "norm of W" in repr(path)


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_relative_ridge_and_degrees_of_freedom(shape, center):
    X, S, _ = problem(*shape, center=center)
    values = naive_free.spectrum(X, center)
    found = fc.fit(X, S, relative_ridge=0.05, method="free-linear", center=center)
    np.testing.assert_allclose(found.ridge, 0.05 * values[-1], rtol=1e-9)
    expected = np.sum(values / (values + found.ridge))
    np.testing.assert_allclose(found.degrees_of_freedom, expected, rtol=1e-9)
    none = fc.fit(X, S, ridge=0.0, method="free-linear", center=center)
    assert none.degrees_of_freedom == np.count_nonzero(values > 1e-9 * values[-1])


def test_relative_ridge_with_nuisance_terms():
    X, S, _ = problem(14, 5)
    options = METRICS["nuisance"]
    values = naive_free.spectrum(X, image=maps(5, options)["image"])
    found = fc.fit(X, S, relative_ridge=0.05, method="free", **options)
    np.testing.assert_allclose(found.ridge, 0.05 * values[-1], rtol=1e-9)


def test_without_a_ridge_a_target_within_reach_is_reached():
    """At λ = 0 C is S, by a W no longer than that of a very small ridge."""
    X, S, unit = problem(14, 5)
    found = fc.fit(X, S, ridge=0.0, method="free", tol=1e-10)
    np.testing.assert_allclose(found.covariance(), S, atol=1e-8 * np.linalg.norm(S))
    assert found.unreachable < 1e-12
    small = fc.fit(X, S, ridge=1e-9 * unit, method="free", tol=1e-10)
    np.testing.assert_allclose(found.norm(), small.norm(), rtol=1e-5)


def test_targets_out_of_reach():
    """The distance that stays is told: of a target that is not semi-definite, and of one of a higher rank."""
    X, S, unit = problem(14, 5)
    values, vectors = np.linalg.eigh(S)
    values[:2] -= 0.3 * values[-1]
    indefinite = (vectors * values) @ vectors.T
    found = fc.fit(X, indefinite, ridge=1e-3 * unit, method="free")
    expected = np.linalg.norm(values[values < 0]) / np.linalg.norm(values)
    np.testing.assert_allclose(found.unreachable, expected, rtol=1e-9)
    assert "No connectivity comes nearer" in repr(found)
    assert found.status == "converged"
    X, S, unit = problem(3, 7)
    found = fc.fit(X, S, ridge=1e-3 * unit, method="free")
    assert 0.0 < found.unreachable <= np.linalg.norm(found.covariance() - S) / np.linalg.norm(S)


def test_a_condition_that_is_in_the_mean_alone():
    """W within the span of X cannot give such a condition a variance of its own, and it is said."""
    X, S, unit = problem(14, 5)
    X[:, 0] = 2.0
    found = fc.fit(X, S, ridge=1e-3 * unit, method="free")
    check(found, X, S)
    assert found.status == "converged"
    assert found.stats["outside"]
    assert "drop conditions to which all channels respond alike" in repr(found)
    start = np.random.default_rng(0).standard_normal((14, 14))
    assert naive_free.minimum(X, S, found.ridge, start=start)[1] < 0.99 * found.loss
    assert "outside" not in fc.fit(X, S, ridge=unit * 1e3, method="free").stats


@pytest.mark.parametrize("shape", [(14, 5), (4, 7)])
def test_dependent_conditions(shape):
    """X of rank below D − 1: a repeated condition, a sum of others, and one without responses."""
    X, S, unit = problem(*shape)
    X[:, 1], X[:, 2], X[:, 3] = X[:, 0], 0.0, X[:, 0] + X[:, 4]
    for method in ("free", "free-linear"):
        found = fc.fit(X, S, ridge=1e-2 * unit, method=method)
        W = check(found, X, S)
        assert found.status == "converged"
        if method == "free":
            assert found.loss <= naive_free.minimum(X, S, found.ridge)[1] * (1 + 1e-8)
        else:
            expected = naive_free.linearised(X, S, found.ridge)
            np.testing.assert_allclose(W, expected, atol=1e-8 * np.abs(expected).max())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("center", [True, False])
def test_everything_of_w(method, center):
    """What a connectivity says of W is true of W as formed."""
    X, S, _ = problem(14, 5, center=center)
    found = fc.fit(X, S, relative_ridge=1e-2, method=method, center=center)
    W, N = formed(found), 14
    close = {"atol": 1e-12 * np.abs(W).max() + 1e-14}
    V = np.random.default_rng(0).standard_normal((N, 3))
    np.testing.assert_allclose(found.W @ V, W @ V, atol=1e-12 * np.linalg.norm(W) * np.linalg.norm(V))
    np.testing.assert_allclose(found.W @ V[:, 0], W @ V[:, 0], atol=1e-12 * np.linalg.norm(V))
    np.testing.assert_allclose(found.W.T @ V, W.T @ V, atol=1e-12 * np.linalg.norm(V))
    np.testing.assert_allclose(found.W.rmatvec(V[:, 0]), W.T @ V[:, 0], atol=1e-12 * np.linalg.norm(V))
    np.testing.assert_allclose(found.diagonal(), np.diag(W), **close)
    np.testing.assert_allclose(found.rows(3), W[3], **close)
    np.testing.assert_allclose(found.rows([0, 13]), W[[0, 13]], **close)
    np.testing.assert_allclose(found.norm(), np.linalg.norm(W), rtol=1e-10)
    share = np.sum(np.diag(W) ** 2) / np.sum(W**2)
    np.testing.assert_allclose(found.diagonal_share(), share, rtol=1e-9)
    values = np.linalg.svd(W, compute_uv=False)
    np.testing.assert_allclose(found.singular_values, values[: len(found.singular_values)], **close)
    assert np.all(values[len(found.singular_values) :] < 1e-12)
    frame = found.to_frame()
    np.testing.assert_allclose(frame["row_norm"], np.linalg.norm(W, axis=1), rtol=1e-9)
    np.testing.assert_allclose(frame["column_norm"], np.linalg.norm(W, axis=0), rtol=1e-9)
    modes = found.modes()
    U, sigma, Vt = np.linalg.svd(W)
    K = len(modes)
    centred = X - X.mean(axis=0) * center
    for k in range(min(K, 3)):
        sign = np.sign(modes.inputs[k] @ (Vt[k] @ X))
        np.testing.assert_allclose(modes.inputs[k], sign * (Vt[k] @ X), atol=1e-8)
        np.testing.assert_allclose(modes.outputs[k], sign * (U[:, k] @ centred), atol=1e-8)
    np.testing.assert_allclose(modes.share, np.cumsum(sigma[:K] ** 2) / np.sum(sigma**2), rtol=1e-9)
    squares = np.cumsum(sigma[:K] ** 4) / np.linalg.norm(W.T @ W) ** 2
    np.testing.assert_allclose(modes.share_of_correlations, squares, rtol=1e-9)
    assert len(found.modes(2)) == 2
    assert len(modes.to_frame()) == K


def test_explain_is_the_closed_form_without_a_mean():
    X, S, _ = problem(14, 5, mean=0.0)
    X -= X.mean(axis=0)
    found = fc.fit(X, S, relative_ridge=0.1, method="free-linear")
    scaling = found.explain()
    E = S - naive.covariance(X)
    values, vectors = np.linalg.eigh(naive.covariance(X))
    left = 1 / (1 + 4 * np.outer(values, values) / found.ridge)
    np.testing.assert_allclose(scaling.left, left[::-1, ::-1], rtol=1e-9)
    np.testing.assert_allclose(np.abs(scaling.error), np.abs(vectors.T @ E @ vectors)[::-1, ::-1], atol=1e-8)
    # To first order in W what is left of the error is that share of it.
    first = 2 * vectors @ ((vectors.T @ E @ vectors) * (1 - left) / 2) @ vectors.T
    X1 = X.T @ (found.W @ X)
    np.testing.assert_allclose(X1 + X1.T, first, atol=1e-9 * np.linalg.norm(E))
    np.testing.assert_allclose(scaling.scaled, scaling.fitted / scaling.variances)
    assert len(scaling.to_frame()) == 5
    assert "modes" in repr(scaling)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("center", [True, False])
def test_apply_to_new_conditions(method, center):
    X, S, _ = problem(14, 5, center=center)
    found = fc.fit(X, S, relative_ridge=1e-2, method=method, center=center)
    new = np.random.default_rng(3).standard_normal((14, 4)) + 1
    Y = naive_free.changed(new, formed(found), center)
    applied = found.apply(new, Y.T @ Y)
    np.testing.assert_allclose(applied.covariance, Y.T @ Y, atol=1e-10 * np.linalg.norm(Y.T @ Y))
    np.testing.assert_allclose(applied.responses, new + formed(found) @ new, atol=1e-11)
    np.testing.assert_allclose(applied.r2, 1.0, atol=1e-12)
    same = found.apply(X, S)
    np.testing.assert_allclose(same.covariance, found.covariance(), atol=1e-9 * np.linalg.norm(S))
    np.testing.assert_allclose(same.r2, found.r2, rtol=1e-9)


def test_nuisance_terms_are_those_that_fit_best():
    X, S, _ = problem(14, 5)
    found = fc.fit(X, S, relative_ridge=1e-2, method="free", **METRICS["nuisance"])
    terms, _ = naive.nuisance_terms(S - found.covariance(), ("diagonal", "constant"))
    np.testing.assert_allclose(list(found.nuisance.values()), terms, rtol=1e-9)
    assert list(found.nuisance) == ["diagonal", "constant"]
    left = S - found.prediction()
    assert abs(np.trace(left)) + abs(left.sum()) < 1e-9 * np.linalg.norm(S)


@pytest.mark.parametrize("method", METHODS)
def test_units_do_not_matter(method):
    """X → sX, S → s²S, λ → s⁴λ leaves W as it is, bit by bit for powers of two, and near 1e-60."""
    X, S, unit = problem(14, 5)
    plain = fc.fit(X, S, ridge=1e-2 * unit, method=method)
    for s in (2.0**100, 2.0**-100, 1e-60):
        other = fc.fit(s * X, s**2 * S, ridge=1e-2 * unit * s**4, method=method)
        np.testing.assert_allclose(formed(other), formed(plain), rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(other.loss, plain.loss * s**4, rtol=1e-9)
        np.testing.assert_allclose(other.degrees_of_freedom, plain.degrees_of_freedom, rtol=1e-9)
        if s != 1e-60:
            np.testing.assert_array_equal(formed(other), formed(plain))


@pytest.mark.parametrize("method", METHODS)
def test_stacks_are_single_targets(method):
    X, S, _ = problem(14, 5)
    other = problem(14, 5, seed=5)[1]
    both = fc.fit(X, np.stack([S, other]), relative_ridge=0.1, method=method)
    for k, target in enumerate((S, other)):
        one = fc.fit(X, target, relative_ridge=0.1, method=method)
        np.testing.assert_array_equal(both.phi[k], one.phi)
        chosen = both.select(k)
        np.testing.assert_array_equal(chosen.covariance(), one.covariance())
        assert chosen.loss == one.loss
        assert chosen.r2 == one.r2
        assert chosen.norm() == one.norm()
        np.testing.assert_array_equal(chosen.diagonal(), one.diagonal())
    assert both.norm().shape == both.unreachable.shape == (2,)
    assert both.apply(X).covariance.shape == (2, 5, 5)
    assert both.apply(X).responses.shape == (2, 14, 5)
    assert len(both.to_frame()) == 28
    with pytest.raises(ValueError, match=r"Argument 'target' must be chosen for modes, of 2 targets"):
        both.modes()
    with pytest.raises(ValueError, match=r"Argument 'target' must be left out"):
        one.select(0)
    np.testing.assert_array_equal(both.select(-1).phi, both.phi[1])
    with pytest.raises(ValueError, match=r"Argument 'target' must be one of the 2 targets, from 0, not 2"):
        both.select(2)


@pytest.mark.parametrize("method", METHODS)
def test_float32(method):
    X, S, _ = problem(40, 5)
    wide = fc.fit(X.astype(np.float32).astype(float), S, relative_ridge=0.1, method=method)
    narrow = fc.fit(X.astype(np.float32), S, relative_ridge=0.1, method=method)
    assert narrow.stats["dtype"] == "float32"
    np.testing.assert_allclose(formed(narrow), formed(wide), atol=1e-5 * np.abs(formed(wide)).max())


@pytest.mark.parametrize("method", METHODS)
def test_arguments_are_left_alone_and_layout_does_not_matter(method):
    X, S, _ = problem(14, 5)
    plain = fc.fit(X, S, relative_ridge=0.1, method=method)
    before = X.copy(), S.copy()
    wide = np.zeros((28, 10))
    wide[::2, ::2] = X
    read_only = X.copy()
    read_only.flags.writeable = False
    for form in (np.asfortranarray(X), wide[::2, ::2], read_only, X.astype(">f8")):
        other = fc.fit(form, S, relative_ridge=0.1, method=method)
        np.testing.assert_array_equal(other.phi, plain.phi)
        np.testing.assert_array_equal(other.diagonal(), plain.diagonal())
    np.testing.assert_array_equal(X, before[0])
    np.testing.assert_array_equal(S, before[1])


def test_responses_in_a_file(tmp_path):
    X, S, _ = problem(200, 5)
    path = tmp_path / "X.npy"
    np.save(path, X)
    stored = np.load(path, mmap_mode="r")
    plain = fc.fit(X, S, relative_ridge=0.1, method="free")
    found = fc.fit(stored, S, relative_ridge=0.1, method="free")
    np.testing.assert_allclose(found.phi, plain.phi, rtol=1e-9)
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "X.h5", "w") as file:
        file["X"] = X
        inside = fc.fit(file["X"], S, relative_ridge=0.1, method="free")
        np.testing.assert_allclose(inside.phi, plain.phi, rtol=1e-9)
        with pytest.raises(ValueError, match=r"Argument 'X' must be the responses that were fitted"):
            inside.diagonal()
        np.testing.assert_allclose(inside.diagonal(file["X"]), plain.diagonal(), atol=1e-12)
    np.testing.assert_allclose(inside.rows(7, X), plain.rows(7), atol=1e-12)


def test_dask_array_without_a_cluster():
    da = pytest.importorskip("dask.array")
    X, S, _ = problem(200, 5)
    plain = fc.fit(X, S, relative_ridge=0.1, method="free")
    found = fc.fit(da.from_array(X, chunks=(64, 5)), S, relative_ridge=0.1, method="free")
    np.testing.assert_allclose(found.phi, plain.phi, rtol=1e-9)


def test_names():
    pd = pytest.importorskip("pandas")
    X, S, _ = problem(6, 4)
    channels, conditions = list("abcdef"), ["w", "x", "y", "z"]
    frame = pd.DataFrame(X, index=channels, columns=conditions)
    target = pd.DataFrame(S, index=conditions, columns=conditions)
    found = fc.fit(frame, target, relative_ridge=0.1, method="free")
    assert found.channels == tuple(channels)
    assert found.conditions == tuple(conditions)
    with pytest.warns(fc.LabelWarning):
        turned = fc.fit(frame, target.iloc[::-1, ::-1], relative_ridge=0.1, method="free")
    np.testing.assert_array_equal(turned.phi, found.phi)
    np.testing.assert_array_equal(found.rows("c"), found.rows(["c"])[0])
    assert list(found.to_frame().index) == channels
    with pytest.raises(ValueError, match=r"Argument 'channels' must be among the names of the 6 channels"):
        found.rows("q")
    with pytest.warns(fc.LabelWarning):
        other = found.apply(frame.iloc[::-1], target)
    np.testing.assert_allclose(other.covariance, found.covariance(), atol=1e-9 * np.linalg.norm(S))
    plain = found.apply(frame, target)
    np.testing.assert_allclose(other.responses.loc[channels], plain.responses, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_save_and_load(method, tmp_path):
    X, S, _ = problem(14, 5)
    found = fc.fit(X, S, relative_ridge=0.1, method=method, nuisance="constant")
    for suffix in ("npz", "h5"):
        path = tmp_path / f"found.{suffix}"
        if suffix == "h5":
            pytest.importorskip("h5py")
        found.save(path)
        loaded = fc.load(path)
        assert repr(loaded) == repr(found)
        assert type(loaded) is fc.Connectivity
        for field in dataclasses.fields(found):
            if field.name not in ("_kept", "stats", "nuisance"):
                np.testing.assert_array_equal(getattr(loaded, field.name), getattr(found, field.name))
        with pytest.raises(ValueError, match=r"Argument 'X' must be the responses that were fitted"):
            loaded.diagonal()
        np.testing.assert_array_equal(loaded.diagonal(X), found.diagonal())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("metric", ["plain", "nuisance"])
def test_cross_validation_is_a_fit_and_its_application(method, metric):
    """Each fold: W fitted to the training conditions, applied to all, scored on pairs that it did not see."""
    X, _, _ = problem(30, 9)
    Y = np.random.default_rng(8).standard_normal((20, 9)) @ np.diag(np.linspace(0.5, 2, 9))
    options = METRICS[metric]
    ridges = [1e-2, 1.0]
    cv = fc.cross_validate(X, Y, relative_ridges=ridges, folds=3, method=method, tol=1e-10, **options)
    C, T = naive.covariance(X), naive.covariance(Y)
    for f, (train, test) in enumerate(cv.folds):
        block = np.ix_(train, train)
        scale = np.trace(C[block]) / np.trace(T[block])
        for k, share in enumerate(ridges):
            found = fc.fit(
                X[:, train], scale * T[block], relative_ridge=share, method=method, tol=1e-10, **options
            )
            P = found.apply(X).covariance
            for (i, j), pair in {(a, b): (a, b) for a in test for b in test}.items():
                assert pair == (i, j)
            held = np.ix_(test, test)
            r2 = 1 - np.sum((P - scale * T)[held] ** 2) / np.sum((scale * T)[held] ** 2)
            np.testing.assert_allclose(cv.scores[method].moments.by_fold("r2")[k, f], r2, atol=1e-6)
    assert isinstance(cv.fits[method], fc.Connectivity)


def test_permutation_test_finds_what_is_there_and_nothing_in_noise():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 16)) @ np.diag(np.linspace(0.5, 2, 16)) + 1
    W = 0.3 * rng.standard_normal((60, 60)) / np.sqrt(60)
    there = fc.permutation_test(X, X + W @ X, shuffles=19, method="free", folds=4)
    noise = fc.permutation_test(X, rng.standard_normal((60, 16)), shuffles=19, method="free", folds=4)
    assert there.p == 0.05
    assert there.channels is None
    assert noise.p > 0.05


def test_refuses_what_gains_have():
    X, S, _ = problem(14, 5)
    for option in ({"bounds": (0, 1)}, {"gains0": np.ones(14)}, {"n_starts": 2}, {"rank": 3},
                   {"solver": "dual"}):  # fmt: skip
        (name,) = option
        with pytest.raises(ValueError, match=rf"Argument '{name}' must be left out for method='free'"):
            fc.fit(X, S, ridge=1.0, method="free", **option)
    with pytest.raises(ValueError, match=r"Argument 'ridge' must be one number for a connectivity"):
        fc.fit(X, S, ridge=np.ones(14), method="free")
    with pytest.raises(ValueError, match=r"Argument 'ridge' or 'relative_ridge' must be given"):
        fc.fit(X, S, method="free")
    with pytest.raises(ValueError, match=r"Argument 'ridge' must be"):
        fc.fit(X, S, ridge=-1.0, method="psd")
    with pytest.raises(ValueError, match=r"Argument 'method' must be"):
        fc.fit(X, S, ridge=1.0, method="freely")
    found = fc.fit(X, S, relative_ridge=0.1, method="symmetric")
    with pytest.raises(ValueError, match=r"for omega, not 'symmetric'"):
        _ = found.omega
    with pytest.raises(ValueError, match=r"Argument 'n_modes' must be from 1 to 6"):
        found.modes(0)
    with pytest.raises(TypeError, match=r"must be real, not complex"):
        found.W @ (1j * np.ones(14))


def test_stops_short_with_a_warning():
    X, S, _ = problem(14, 5)
    with pytest.warns(fc.ConvergenceWarning, match=r"more than the 1e-06 asked for \(max-iterations\)"):
        found = fc.fit(X, S, relative_ridge=1e-3, method="free", max_iterations=1)
    assert found.status == "max-iterations"
    assert found.residual > 1e-6


def test_nothing_to_correct():
    """Responses that are all alike, or are zero, and a target that is met already: W is zero."""
    X, S, _ = problem(14, 5)
    for given, target in ((0 * X, S), (X, naive.covariance(X))):
        for method in METHODS:
            found = fc.fit(given, target, ridge=1.0, method=method)
            assert found.status == "converged"
            assert found.norm() < 1e-12


@hypothesis.given(
    seed=st.integers(0, 10**6),
    shape=st.tuples(st.integers(2, 12), st.integers(2, 8)),
    center=st.booleans(),
    share=st.floats(-6, 1),
    rank=st.integers(1, 10),
    mean=st.sampled_from([0.0, 1.0, 30.0]),
)
def test_any_problem(seed, shape, center, share, rank, mean):
    """Whatever the shape, rank and ridge, the certificate is true and the loss is below that at W = 0."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal(shape) * np.exp(rng.standard_normal(shape[1])) + mean
    Y = rng.standard_normal((rank, shape[1]))
    C = naive.covariance(X, center=center)
    S = Y.T @ Y
    S *= np.trace(C) / np.trace(S)
    ridge = 10.0**share * np.linalg.eigvalsh(C)[-1] ** 2
    found = fc.fit(X, S, ridge=ridge, method="free", center=center, tol=1e-5)
    check(found, X, S, center, tol=1e-3)
    assert found.status == "converged"
    assert found.loss <= found.loss_at_one * (1 + 1e-12)


@pytest.mark.parametrize("method", [*METHODS, "mixed"])
def test_apply_scores_with_nuisance_terms(method):
    """The baseline has nuisance terms of its own, of each target."""
    X, S, _ = problem(14, 5)
    stack = np.stack([S, 2 * S + np.eye(5)])
    found = fc.fit(X, stack, relative_ridge=1e-2, method=method, **METRICS["nuisance"])
    plain = found.covariance_at_one()
    applied = found.apply(X, stack)
    for k, target in enumerate(stack):
        (beta, gamma), _ = naive.nuisance_terms(target - plain, ("diagonal", "constant"))
        left = target - plain - beta * np.eye(5) - gamma
        expected = 1 - np.sum(left**2) / np.sum(target**2)
        alone = found.select(k).apply(X, target)
        np.testing.assert_allclose([applied.r2_at_one[k], alone.r2_at_one], expected, rtol=1e-9)
        np.testing.assert_allclose([applied.r2[k], alone.r2], found.r2[k], rtol=1e-9)


@pytest.mark.parametrize("method", [*METHODS, "mixed"])
def test_silent_responses_leave_w_at_zero_and_print(method):
    _, S, _ = problem(14, 5)
    found = fc.fit(np.zeros((14, 5)), S, ridge=1.0, method=method)
    assert found.norm() == 0.0
    assert found.unreachable == 1.0
    assert "100 % of its norm" in " ".join(repr(found).split())


@pytest.mark.parametrize("kind", ["fewer", "as many", "alike", "twice"])
@pytest.mark.parametrize("share", [0.0, 1e-20, 1e-12, 1e-8, 1e-4])
def test_linearised_at_small_ridges_where_conditions_lie_in_the_mean(kind, share):
    """What stays at a ridge of zero is the least norm of all W that come closest."""
    N, D = {"fewer": (3, 5), "as many": (5, 5), "alike": (9, 4), "twice": (9, 4)}[kind]
    X, S, unit = problem(N, D)
    if kind == "alike":
        X[:, 0] = 1.3
    if kind == "twice":
        X[:, 1] = X[:, 0]
    ridge = share * unit
    found = fc.fit(X, S, ridge=ridge, method="free-linear")
    columns = []
    for W in np.eye(N * N).reshape(-1, N, N):
        change = (X - X.mean(axis=0)).T @ W @ X
        columns.append((change + change.T).ravel())
    G, e0 = np.array(columns).T, (S - naive.covariance(X)).ravel()
    U, s, V = np.linalg.svd(G, full_matrices=False)
    live = s > 1e-10 * s[0]
    w = V[live].T @ (s[live] / (s[live] ** 2 + ridge) * (U[:, live].T @ e0))
    np.testing.assert_allclose(formed(found).ravel(), w, atol=1e-6 * np.linalg.norm(w))
    assert found.residual < 1e-12
    assert found.status == "converged"


def test_a_linearised_fit_that_lost_its_accuracy_says_so():
    """With weights of pairs and no ridge the equation is singular, and S is out of reach."""
    X, S, _ = problem(4, 7)
    weights = np.ones((7, 7)) - 0.5 * np.eye(7)
    with pytest.warns(fc.ConvergenceWarning, match="inaccurate"):
        found = fc.fit(X, S, ridge=0.0, method="free-linear", pairs=weights)
    assert found.status == "inaccurate"
    assert found.residual > 1e-6


@pytest.mark.parametrize("method", ["free", "mixed"])
def test_other_responses_than_those_fitted_are_refused(method):
    pandas = pytest.importorskip("pandas")
    X, S, _ = problem(14, 5)
    found = fc.fit(X, S, relative_ridge=1e-2, method=method)
    for wrong in (2 * X, X[:, ::-1], X + 1):
        with pytest.raises(ValueError, match="not others: means over channels differ"):
            found.apply(X, X=wrong)
    for same in (X.astype(np.float32), np.asfortranarray(X)):
        np.testing.assert_allclose(found.apply(X, X=same).covariance, found.covariance(), rtol=1e-4)
    named = pandas.DataFrame(X, columns=list("abcde"))
    found = fc.fit(named, S, relative_ridge=1e-2, method=method)
    with pytest.raises(ValueError, match="must have the conditions that were fitted"):
        found.apply(named, X=named[list("bacde")])


@pytest.mark.parametrize("method", ["free", "mixed"])
def test_options_of_gains_are_refused_in_one_line(method):
    X, S, _ = problem(14, 5)
    with pytest.raises(ValueError, match="'gains0' must be left out") as told:
        fc.fit(X, S, relative_ridge=0.1, method=method, gains0=np.ones(14))
    assert "\n" not in str(told.value)
