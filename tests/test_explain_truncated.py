"""explain() of some of the modes: the same numbers or bounds of them, without N x N matrices; and errors."""

import dataclasses
import itertools

import hypothesis
import hypothesis.strategies as st
import naive
import numpy as np
import pytest
from cases import LAYOUTS, data, needs_jit, peak_bytes, random_gains, target
from test_explain import CLOSE, EPS, a_ridge, close, problem
from test_input import refused

import fastcov as fc
from fastcov import _solvers as solvers
from fastcov._explaining import explain
from fastcov._explaining import modes as modes_module

# n = min(N, P) = 9, 10, 10 and 30 modes; P = 45 pairs of conditions for the last.
CASES = [((9, 4), 1), ((9, 4), 3), ((9, 4), 8), ((10, 4), 9), ((40, 4), 1), ((40, 4), 5), ((40, 4), 9),
         ((30, 9), 4), ((30, 9), 29)]  # fmt: skip
# Lanczos' vectors are good to the rounding of GᵀG over the gap of eigenvalues, and the rest of the
# inverse to KRYLOV_TOL of the whole: with λ at a thousandth of the largest eigenvalue, a thousand times that.
TRUNCATED = 1e-9


@pytest.mark.covering(2)
@pytest.mark.parametrize("relative", [1.0, 1e-3])
@pytest.mark.parametrize(("shape", "k"), CASES, ids=str)
def test_some_modes_give_the_same_gains_and_bounds_of_what_takes_all(shape, k, relative, dtype, center):
    X, S = problem(shape, dtype)
    ridge = a_ridge(X, relative, center)
    why, oracle = fc.explain(X, S, ridge, center=center, modes=k), naive.Explained(X, S, ridge, center)
    N, n = shape[0], len(oracle.s)
    assert not why.complete
    assert why.fit.status == "converged"
    close(why.spectrum, oracle.spectrum[:k])
    V, U = why.gain_modes(), why.covariance_modes()
    assert (V.shape, U.shape) == ((k, N), (k, shape[1], shape[1]))
    gaps = np.abs(np.diff(oracle.spectrum))[:k].min(initial=oracle.spectrum[0])
    sign = np.sign(np.sum(V * oracle.V[:k], axis=1))[:, np.newaxis]
    close(V, sign * oracle.V[:k], 30 * N * EPS * oracle.spectrum[0] / gaps)
    assert np.all(why.coefficients >= 0)
    close(V @ oracle.G.T, np.sqrt(why.spectrum)[:, np.newaxis] * U.reshape(k, -1), TRUNCATED)
    close(why.coefficients, np.ravel(sign) * oracle.coefficients[:k], TRUNCATED)
    close(why.shrinkage, oracle.shrinkage[:k])
    close(why.delta_shares, oracle.delta_shares[:k], TRUNCATED)
    close(why.loss_shares, oracle.loss_shares[:k], TRUNCATED)
    # the rest comes from Krylov spaces
    close(why.delta, oracle.delta, TRUNCATED)
    close(why.whitened_overlaps, oracle.whitened_overlaps, TRUNCATED)
    for i in (0, N - 1):
        close(why.filter(i), oracle.filters[i], TRUNCATED)
        close(why.whitened_filter(i), oracle.whitened_filters[i], TRUNCATED)
        close(why.filter(i) @ why.overlaps, why.delta[i], TRUNCATED, beside=np.linalg.norm(why.delta))
        close(
            why.whitened_filter(i) @ why.whitened_overlaps,
            why.delta[i],
            TRUNCATED,
            beside=np.linalg.norm(why.delta),
        )
        close(why.contributions(i).others, oracle.others(i), TRUNCATED, beside=np.linalg.norm(why.delta))
    close(why.filters(), oracle.filters, TRUNCATED)
    close(why.whitened_filters(), oracle.whitened_filters, TRUNCATED)
    # bounds
    noise = TRUNCATED * oracle.total
    assert why.reachable <= oracle.reachable + noise
    close(why.reachable + why.unreachable, oracle.total, TRUNCATED)
    close(
        why.unreachable + why.left_by_ridge,
        np.sum((oracle.e - oracle.G @ oracle.delta) ** 2),
        TRUNCATED,
        beside=oracle.total,
    )
    close(why.linear_loss, oracle.linear_loss, TRUNCATED)
    assert oracle.shrinkage[:k].sum() * (1 - CLOSE) <= why.dof <= oracle.dof * (1 + CLOSE)
    assert oracle.dof * (1 - CLOSE) <= why.dof_upper <= n
    if k == n - 1:  # one value is left, which the trace tells
        close(why.dof_upper, oracle.dof, 1e-8)


def test_a_krylov_space_that_is_large_enough_reaches_all_that_can_be_reached():
    X, S = problem((40, 4))
    ridge = a_ridge(X, 1e-3)
    oracle = naive.Explained(X, S, ridge)
    why = fc.explain(X, S, ridge, modes=2)
    close(why.reachable, oracle.reachable, 1e-8)
    close(why.left_by_ridge, oracle.left_by_ridge, 1e-8, beside=oracle.total)


@pytest.mark.parametrize("make", ["rank", "duplicates", "dead"])
@pytest.mark.parametrize("k", [3, 9, 14])
def test_modes_beyond_the_rank_are_left_out(make, k, center):
    X, S = problem((30, 5))
    if make == "rank":
        X[:, 2:] = X[:, :2] @ [[1.0, 2.0, -1.0], [0.5, 1.0, 1.0]]  # pairs of two conditions: rank 3
    elif make == "duplicates":
        X[6:] = X[np.arange(24) % 6]
    else:
        X[6:] = 0.0
    ridge = a_ridge(X, 1e-2, center)
    oracle = naive.Explained(X, S, ridge, center)
    if make == "dead" and center:  # the oracle has rounding for atoms of dead channels
        oracle.delta[6:] = 0.0
    first, again = (fc.explain(X, S, ridge, center=center, modes=k) for _ in range(2))
    rank = len(oracle.s)
    assert rank <= 7
    assert len(first.spectrum) == min(k, rank)
    close(first.spectrum, oracle.spectrum[:k])
    U = first.covariance_modes().reshape(-1, 25)
    close(U @ U.T, np.eye(min(k, rank)), TRUNCATED)
    close(first.delta, oracle.delta, TRUNCATED)
    close(first.whitened_overlaps, oracle.whitened_overlaps, TRUNCATED)
    assert first.dof <= oracle.dof * (1 + CLOSE)
    assert first.dof_upper >= oracle.dof * (1 - CLOSE)
    close(first.reachable, oracle.reachable, 1e-8)  # Krylov spaces have values of rounding beyond the rank
    close(first.reachable + first.unreachable, oracle.total)
    for name in ("delta", "spectrum", "whitened_overlaps") if modes_module.SEEDED else ():
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))


def test_a_dead_channel_is_in_no_mode(dtype):
    X, S = problem((40, 4), dtype)
    X[[3, 39]] = 0.0
    why = fc.explain(X, S, a_ridge(X, 1e-2), modes=2)
    for exact in (why.gain_modes()[:, [3, 39]], why.delta[[3, 39]], why.whitened_overlaps[[3, 39]]):
        np.testing.assert_array_equal(exact, 0.0)
    ridge = why.ridge
    close(why.filter(3), np.eye(40)[3] / ridge)
    close(why.whitened_filter(3), np.eye(40)[3] / np.sqrt(ridge))


@pytest.mark.parametrize("k", [10, 11, 1000])
def test_as_many_modes_as_there_are_is_all_of_them(k):
    X, S = problem((40, 4))
    why, whole = fc.explain(X, S, 30.0, modes=k), fc.explain(X, S, 30.0)
    assert why.complete
    np.testing.assert_array_equal(why.delta, whole.delta)


def test_many_modes_are_not_all_computed_unless_asked_for(monkeypatch):
    X, S = problem((40, 4))
    monkeypatch.setattr(explain, "ALL_MODES", 9)
    monkeypatch.setattr(explain, "FIRST_MODES", 5)
    why = fc.explain(X, S, 30.0)
    assert (why.complete, len(why.spectrum)) == (False, 5)
    assert "the first 5 of 10" in repr(why)
    assert fc.explain(X, S, 30.0, modes=10).complete


def test_a_krylov_space_that_is_too_small_is_said_to_be(monkeypatch):
    X, S = problem((40, 8))
    monkeypatch.setattr(modes_module, "KRYLOV_LEAST", 5)
    with pytest.warns(
        fc.ConvergenceWarning, match="Krylov space of the overlaps leaves a relative residual of"
    ):
        why = fc.explain(X, S, a_ridge(X, 1e-4), modes=1)
    assert why.fit.status == "max-iterations"
    ridge = a_ridge(X, 1e-4)
    left = naive.overlaps(X, S) - naive.gram(X) @ why.delta - ridge * why.delta
    close(why.fit.residual, np.linalg.norm(left) / np.linalg.norm(why.overlaps), 1e-6)
    assert why.fit.residual > 1e-10
    oracle = naive.Explained(X, S, ridge)
    assert why.reachable < oracle.reachable * (1 - 1e-3)  # a bound that is not reached
    assert why.total - why.unreachable == pytest.approx(why.reachable)


@pytest.mark.parametrize("rng", [1, 2, np.random.default_rng(5)], ids=str)
def test_where_lanczos_begins_changes_no_more_than_rounding(rng):
    X, S = problem((30, 9))
    why, other = fc.explain(X, S, 300.0, modes=4), fc.explain(X, S, 300.0, modes=4, rng=rng)
    close(other.delta, why.delta, TRUNCATED)
    close(other.gain_modes(), why.gain_modes(), 1e-8)


@pytest.fixture
def applications(monkeypatch):
    """Counts of products with GᵀG, vector by vector."""
    counts, apply_gram = [], modes_module.apply_gram

    def counted(problem, V):
        counts.append(len(V))
        return apply_gram(problem, V)

    monkeypatch.setattr(modes_module, "apply_gram", counted)
    return counts


LARGE = (3000, 60)


@pytest.fixture(scope="module")
def large():
    return fc.datasets.simulate(*LARGE, rng=0)


@pytest.mark.slow
@needs_jit
def test_fifty_modes_take_few_products(applications, large):
    why = fc.explain(large.X, large.S, relative_ridge=0.01, modes=50)
    assert len(why.spectrum) == 50
    # At least two for each mode, or Lanczos would have too few vectors to choose among.
    assert 100 <= sum(applications) <= 300
    assert why.fit.stats["iterations"] == sum(applications)
    residual = (
        naive.overlaps_of(large.X, large.S) - naive.gram_products(large.X, why.delta) - why.ridge * why.delta
    )
    close(residual, 0 * residual, 1e-10, beside=np.linalg.norm(why.overlaps))
    V = why.gain_modes()
    close(V @ V.T, np.eye(50))
    images = np.stack([naive.gram_products(large.X, v) for v in V[::10]])
    close(images, why.spectrum[::10, np.newaxis] * V[::10], 1e-9)


@pytest.mark.slow
@needs_jit
def test_some_modes_take_no_matrix_of_all_channels(large):
    k, N = 10, LARGE[0]

    def explained():
        why = fc.explain(large.X, large.S, relative_ridge=0.01, modes=k, memory_budget=2e7)
        why.filter(3), why.whitened_filter(3), why.whitened_overlaps, why.contributions(3), why.coherence(2)
        why.covariance_modes(2), repr(why)

    explained()  # compiles
    peak, _ = peak_bytes(explained)
    # What it says it takes, and the memory budget of one filter.
    limit = 8 * N * (6 * k + 200) + 8 * N * (4 * k + 2) + 2e7
    assert limit < 0.5 * 8 * N * N
    assert peak < limit


# --- errors


X, S = problem((9, 4))


@pytest.mark.parametrize(
    ("arguments", "kind", "name", "message"),
    [
        ({"ridge": np.arange(9.0)}, ValueError, "ridge", "be one number for all channels"),
        ({"ridge": np.eye(9)[:4] + np.eye(9)[1:5]}, ValueError, "ridge", "be one number for all channels"),
        ({"relative_ridge": np.arange(9.0)}, ValueError, "ridge", "be one number for all channels"),
        ({"ridge": -1.0}, ValueError, "ridge", "be a finite number >= 0"),
        ({"ridge": "cv"}, TypeError, "ridge", "be a finite number >= 0"),
        ({}, ValueError, "ridge", "be given, one of the two"),
        ({"ridge": 1.0, "relative_ridge": 1.0}, ValueError, "ridge", "be given, one of the two"),
        ({"ridge": 1.0, "modes": 0}, ValueError, "modes", "be at least 1"),
        ({"ridge": 1.0, "modes": 2.0}, TypeError, "modes", "be a whole number"),
        ({"ridge": 0.0, "modes": 2}, ValueError, "ridge", "be larger for 2 modes of 9"),
        ({"ridge": 1e-12, "modes": 2}, ValueError, "ridge", "be larger for 2 modes of 9"),
        ({"ridge": 1.0, "center": "yes"}, TypeError, "center", "be True or False"),
        ({"ridge": 1.0, "rng": "seed"}, TypeError, "rng", ""),
        ({"ridge": 1.0, "memory_budget": -5}, ValueError, "memory_budget", ""),
        ({"ridge": 1.0, "callback": 5}, TypeError, "callback", ""),
    ],
    ids=str,
)
def test_what_cannot_be_explained_is_refused_in_one_sentence(arguments, kind, name, message):
    with pytest.raises(kind, match=rf"^Argument '{name}'( or '.*')? must .*{message}.*not "):
        fc.explain(X, S, **arguments)


def test_a_stack_of_targets_is_refused():
    with refused(ValueError, "S", r"be one target, not of shape \(2, 4, 4\): explain them one by one"):
        fc.explain(X, np.stack([S, S]), 1.0)
    with refused(ValueError, "S", "be 4 x 4"):
        fc.explain(X, np.eye(3), 1.0)
    with refused(ValueError, "X", "be finite"):
        fc.explain(np.where(X.max() == X, np.nan, X), S, 1.0)


METHODS = ["filter", "whitened_filter", "coherence", "contributions"]


@pytest.mark.covering(1)
@pytest.mark.parametrize("channel", [-1, 9, 1.0, "a", None, (1, 2), np.arange(3)], ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_a_channel_that_there_is_not_is_refused(method, channel):
    why = fc.explain(X, S, 30.0)
    with pytest.raises(ValueError, match=r"^Argument 'channel' must be a number from 0 to 8, not "):
        getattr(why, method)(channel)


@pytest.mark.parametrize("method", METHODS)
def test_channels_are_asked_for_by_name(method):
    names = [f"DM{i}" for i in range(9)]
    plain = fc.explain(X, S, 30.0)
    why = dataclasses.replace(plain, fit=dataclasses.replace(plain.fit, channels=tuple(names)))
    assert why.channels == tuple(names)
    assert plain.channels == tuple(range(9))
    by_name, by_number, expected = (
        getattr(w, method)(c) for w, c in ((why, "DM2"), (why, 2), (plain, np.int8(2)))
    )
    if method == "contributions":
        assert (by_name.channel, by_number.channel, expected.channel) == ("DM2", "DM2", 2)
        up, down = by_name.largest(3)
        assert {name for name, _ in up + down} <= set(names)
        assert "Contributions to the gain of channel DM2, less one" in repr(by_name)
        by_name, by_number, expected = (c.others for c in (by_name, by_number, expected))
    np.testing.assert_array_equal(by_name, expected)
    np.testing.assert_array_equal(by_number, expected)
    with pytest.raises(ValueError, match=r"from 0 to 8 or a name, as 'DM0', 'DM1', 'DM2', not 'DM9'\.$"):
        getattr(why, method)("DM9")


@pytest.mark.parametrize("method", ["gain_modes", "covariance_modes"])
@pytest.mark.parametrize("modes", [None, 3])
def test_only_modes_that_there_are_can_be_had(method, modes):
    why = fc.explain(X, S, 30.0, modes=modes)
    K = len(why.spectrum)
    assert len(getattr(why, method)(K)) == len(getattr(why, method)()) == K
    np.testing.assert_array_equal(getattr(why, method)(2), getattr(why, method)()[:2])
    with refused(ValueError, "n", f"be at most the {K} modes there are"):
        getattr(why, method)(K + 1)
    with refused(ValueError, "n", "be at least 1"):
        getattr(why, method)(0)
    with refused(TypeError, "n", "be a whole number"):
        getattr(why, method)(1.5)


def test_largest_contributions_are_in_order_and_add_up():
    why = fc.explain(*problem((40, 4)), 30.0)
    parts = why.contributions(4)
    up, down = parts.largest(40)
    assert all(a >= b > 0 for (_, a), (_, b) in itertools.pairwise(up))
    assert all(a <= b < 0 for (_, a), (_, b) in itertools.pairwise(down))
    assert len(up) + len(down) == 39  # but for the channel itself
    assert {name: value for name, value in up + down} == {j: v for j, v in enumerate(parts.others) if j != 4}
    assert parts.largest(2) == (up[:2], down[:2])
    with refused(ValueError, "n", "be at least 1"):
        parts.largest(0)


def test_a_printed_contribution_adds_up():
    parts = fc.explain(*problem((40, 4)), 30.0).contributions(4)
    *rows, last = [line.split() for line in repr(parts).splitlines()[1:]]
    assert last[:2] == ["sum:", "delta"]
    assert float(last[-1]) == pytest.approx(parts.delta, rel=1e-3)
    assert sum(float(row[-1]) for row in rows) == pytest.approx(
        parts.delta, abs=1e-2 * np.abs(parts.others).sum()
    )


def test_a_frame_of_an_explanation_has_squared_norms():
    pytest.importorskip("pandas")
    X, S = problem((40, 4))
    frame = fc.explain(X, S, relative_ridge=0.1).to_frame()
    assert list(frame)[:5] == ["delta", "diagonal_delta", "overlap", "whitened_overlap", "squared_norm"]
    np.testing.assert_allclose(frame["squared_norm"], fc.atom_norms(X) ** 2, rtol=1e-12)


def test_a_printed_explanation_has_its_shares():
    why = fc.explain(*problem((40, 4)), relative_ridge=0.1)
    text = repr(why)
    assert f"left         {why.left_by_ridge / why.total:8.2%}" in text
    assert f"unreachable  {why.unreachable / why.total:8.2%}  no gains" in text
    assert f"corrected    {1 - (why.left_by_ridge + why.unreachable) / why.total:8.2%}" in text
    assert "(0.1 of the largest eigenvalue)" in text
    assert f"all 10 above rounding; {why.dof:.4g} effective" in text
    assert f"{why.shrinkage[0]:9.1%}" in text
    assert f"{why.fit.loss:.4g} exact, {why.fit.loss_at_one:.4g} at gains of one\n" in text
    assert not why.fit.overshoots
    assert "overshoots" not in text
    X, S = problem((40, 4))
    far = fc.explain(X, 100 * S, relative_ridge=1e-4)
    assert far.fit.loss > far.fit.loss_at_one
    assert "overshoots: its exact loss is above that at gains of one\n" in repr(far)
    part = repr(fc.explain(*problem((40, 4)), 30.0, modes=3))
    assert "at most; no gains" in part
    assert " to " in part


@needs_jit
@pytest.mark.parametrize("modes", [None, 3])
def test_too_little_memory_is_said_before_it_is_taken(modes, little_memory):
    X, S = data(900, 20), target(20)
    fc.explain(X[:40], S, 1e5, modes=modes)  # compiles
    what = f"{modes} modes of 900 channels" if modes else "Eigenvectors of order 210"
    with pytest.raises(MemoryError, match=rf"^{what} takes .* GB, and 5e-05 GB are available: "):
        little_memory(lambda: fc.explain(X, S, 1e5, modes=modes), available=50_000)


@needs_jit
def test_a_krylov_space_that_does_not_fit_is_not_begun(little_memory):
    X, S = data(900, 20), target(20)  # 10 vectors for 3 modes, and 200 for the rest
    with pytest.raises(MemoryError, match=r"^A Krylov space of 900 channels takes 0.00144 GB"):
        little_memory(lambda: fc.explain(X, S, 1e5, modes=3), available=100_000)


@needs_jit
@pytest.mark.parametrize("modes", [None, 3])
@pytest.mark.parametrize("method", ["filters", "whitened_filters", "coherences"])
def test_matrices_of_all_channels_are_not_begun_without_memory(method, modes, little_memory):
    why = fc.explain(data(900, 4), target(4), 1e5, modes=modes)
    with pytest.raises(MemoryError, match=r" of 900 channels takes .* GB, and 1e-06 GB are available: "):
        little_memory(getattr(why, method))


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
@pytest.mark.parametrize("modes", [None, 3])
def test_what_a_callback_raises_ends_an_explanation(modes, error):
    calls = []

    def stop(progress):
        calls.append(progress)
        raise error("enough")

    with pytest.raises(error, match="enough"):
        fc.explain(data(100, 8), target(8), 1e5, modes=modes, callback=stop)
    assert len(calls) == 1


@pytest.mark.parametrize("modes", [None, 3])
def test_a_callback_sees_how_far_modes_are(modes):
    seen, (X, S) = [], (data(60, 8), target(8))
    why = fc.explain(X, S, 1e5, modes=modes, callback=seen.append)
    assert all(isinstance(p, fc.Progress) and 0.0 <= p.done <= 1.0 for p in seen)
    assert {p.stage for p in seen} == {"modes" if modes else "factor"}
    assert all(f'"{p.stage}"' in fc.Progress.__doc__ for p in seen)
    np.testing.assert_array_equal(why.delta, fc.explain(X, S, 1e5, modes=modes).delta)


@pytest.mark.parametrize("modes", [None, 3])
def test_what_is_read_after_an_explanation_is_not_told(modes, tmp_path):
    seen, X = [], LAYOUTS["memory-map"](data(60, 8), tmp_path)
    why = fc.explain(X, target(8), 1e5, modes=modes, callback=seen.append)
    assert {p.stage for p in seen} == {"read", "modes" if modes else "factor"}
    stages = [p.stage for p in seen]
    assert stages == sorted(stages, key=lambda stage: stage != "read")  # one after the other
    told = len(seen)
    why.filter(3), why.whitened_filter(3), why.covariance_modes(), why.coherence(2), why.contributions(4)
    assert len(seen) == told


# --- random problems


@st.composite
def problems(draw):
    N, D = draw(st.integers(1, 24)), draw(st.integers(1, 6))
    random = np.random.default_rng(draw(st.integers(0, 2**16)))
    X = random.standard_normal((N, D)) + draw(st.sampled_from([0.0, 1.0]))
    if draw(st.booleans()):
        X[random.integers(N, size=N // 3)] = X[0]
    if draw(st.booleans()):
        X[random.integers(N, size=1 + N // 4)] = 0.0
    X = X.astype(np.float32) * 2.0 ** draw(st.integers(-20, 20))
    S = naive.covariance(random_gains(N)[:, np.newaxis] * X + 0.3 * X[::-1])
    return X.astype(draw(st.sampled_from([np.float32, np.float64]))), S, draw(st.booleans())


@pytest.mark.slow
@hypothesis.given(problems(), st.floats(-3, 1), st.integers(1, 20))
def test_all_ways_to_write_a_fit_agree(problem, decades, k):
    X, S, center = problem
    unit = float(np.abs(X).max()) ** 4 or 1.0
    ridge = 10.0**decades * (a_ridge(X, 1.0, center) + 1e-6 * unit)
    whole, some = (fc.explain(X, S, ridge, center=center, modes=m) for m in (None, k))
    delta = fc.fit(X, S, ridge=ridge, center=center, solver="cholesky").delta
    size = np.linalg.norm(whole.overlaps) / ridge
    for why in (whole, some):
        assert why.fit.status == "converged"
        close(why.delta, delta, TRUNCATED, beside=size)
        close(why.filters() @ why.overlaps, why.delta, TRUNCATED, beside=size)
        close(why.whitened_filters() @ why.whitened_overlaps, why.delta, TRUNCATED, beside=size)
        close(why.reachable + why.unreachable, why.total, CLOSE)
        left = why.total - 2 * why.delta @ why.overlaps + why.delta @ fc.gram(X, center=center) @ why.delta
        close(why.unreachable + why.left_by_ridge, left, 1e-5, beside=why.total)
        assert why.dof <= why.dof_upper * (1 + CLOSE)
        for i in {0, len(X) - 1}:
            parts = why.contributions(i)
            close(parts.diagonal + parts.others.sum(), parts.delta, TRUNCATED, beside=size)
    close(whole.coefficients @ whole.gain_modes(), whole.delta, TRUNCATED, beside=size)
    assert some.dof <= whole.dof * (1 + 1e-8)
    assert whole.dof <= some.dof_upper * (1 + 1e-8)
    assert some.reachable <= whole.reachable + 1e-8 * whole.total


@pytest.mark.parametrize("budget", [None, 1e5])
def test_filters_beside_few_modes_come_without_a_matrix(budget, monkeypatch):
    X, S = data(300, 12), target(12)
    why = fc.explain(X, S, relative_ridge=1e-2, modes=4, memory_budget=budget)
    for name in ("gram_triangle", "dual_gram"):
        for module in ("cholesky", "dual", "spectral"):
            if hasattr(getattr(solvers, module), name):
                monkeypatch.setattr(getattr(solvers, module), name, pytest.fail)
    expected = naive.solve(X, np.eye(300)[[7]], why.ridge)[0]
    np.testing.assert_allclose(why.filter(7), expected, rtol=0, atol=1e-9 * np.abs(expected).max())
    assert abs(why.filter(7) @ why.overlaps - why.delta[7]) <= 1e-10 * np.abs(why.delta).max()


@pytest.mark.parametrize("modes", [20, 25, 40])
def test_modes_of_the_same_size_are_found(modes):
    # Forty copies of one problem, each in conditions of its own: eigenvalues come forty at a time.
    X = np.kron(np.eye(40), np.random.default_rng(0).standard_normal((3, 2)))
    S = np.diag(np.arange(1.0, 81.0))
    why = fc.explain(X, S, relative_ridge=0.01, modes=modes, center=False)
    top = np.linalg.norm(naive.atoms(X[:3, :2], None, False), 2) ** 2
    np.testing.assert_allclose(why.spectrum, top, rtol=1e-12)
    assert abs(why.filter(3) @ why.overlaps - why.delta[3]) <= 1e-10 * np.abs(why.delta).max()


def test_modes_that_lanczos_does_not_find_are_said_to_be_so(monkeypatch):
    def fail(*_, **__):
        raise modes_module.ArpackError(3)

    monkeypatch.setattr(modes_module, "eigsh", fail)
    with refused(ValueError, "modes", "be another number"):
        fc.explain(data(30, 9), target(9), 30.0, modes=4)


def test_few_modes_and_their_remainder_make_up_the_gains():
    why = fc.explain(data(40, 9), target(9, size=40), relative_ridge=1e-2, modes=6)
    assert np.abs(why.remainder).max() > 1e-3 * np.abs(why.delta).max()
    parts = why.coefficients @ why.gain_modes() + why.remainder
    np.testing.assert_allclose(parts, why.delta, rtol=0, atol=1e-10 * np.abs(why.delta).max())


@pytest.mark.parametrize("method", ["filter", "whitened_filter"])
def test_filters_that_are_not_as_good_as_promised_are_warned_of(method, monkeypatch):
    why = fc.explain(data(200, 9), target(9, size=200), relative_ridge=1e-4, modes=3)
    monkeypatch.setattr("fastcov._explaining.explanation.LOOSE", 1e-18)
    with pytest.warns(fc.ConvergenceWarning, match="A filter is solved to a relative residual of") as caught:
        getattr(why, method)(3)
    assert caught[0].filename == __file__
