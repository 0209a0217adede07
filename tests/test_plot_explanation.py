"""Figures of explanations by what they show: every number drawn is compared with plain NumPy on G."""

import dataclasses
import itertools
import sys

import matplotlib.text
import naive
import numpy as np
import pytest
from cases import slow_but
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.testing import assert_allclose, assert_array_equal
from test_plot import assert_legible, entries, images, shown

import fastcov as fc
from fastcov import plot

N, D = 40, 8
K = 24  # modes: some channels are dead, or alike
CHANNELS = tuple(f"mouse_{i // 9}_left_olfactory_bulb_glomerulus_{i}" for i in range(N))
CONDITIONS = tuple(f"ethyl something-or-other acetate {j}" for j in range(D))
PARTS = {
    "spectrum": plot.spectrum,
    "covariance_modes": plot.covariance_modes,
    "overlaps": plot.overlaps,
    "importance": plot.importance,
    "contributions": lambda why: plot.contributions(why, 0),
    "reachable": plot.reachable,
    "explanation": plot.explanation,
}


@pytest.fixture(scope="module")
def sim():
    return fc.datasets.simulate(N, D, rng=1)


@pytest.fixture(scope="module")
def why(sim):
    return fc.explain(sim.X, sim.S, relative_ridge=0.03)


@pytest.fixture(scope="module")
def few(sim):
    """The first three modes."""
    return fc.explain(sim.X, sim.S, relative_ridge=0.03, modes=3)


@dataclasses.dataclass
class Oracle:
    """The same from G as a matrix."""

    A: np.ndarray  # GᵀG + λI
    delta: np.ndarray
    overlaps: np.ndarray
    spectrum: np.ndarray
    U: np.ndarray
    V: np.ndarray
    error: np.ndarray
    ridge: float


@pytest.fixture(scope="module")
def oracle(sim, why):
    G = naive.atoms(sim.X)
    error = (sim.S - naive.covariance(sim.X)).ravel()
    U, s, Vt = np.linalg.svd(G, full_matrices=False)
    assert s[K - 1] > 1e-3 > 1e-9 > s[K]
    A = G.T @ G + why.ridge * np.eye(N)
    delta = np.linalg.solve(A, G.T @ error)
    return Oracle(A, delta, G.T @ error, s[:K] ** 2, U[:, :K], Vt[:K].T, error, why.ridge)


def named(why, **names):
    return dataclasses.replace(why, fit=dataclasses.replace(why.fit, **names))


def figure_of(drawn):
    """The figure of whatever a function of fastcov.plot gives."""
    first = np.ravel(np.asarray(drawn, dtype=object))[0]
    return first if isinstance(first, Figure) else first.figure


def pixels(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].astype(int)


def colour_at(figure, ax, x, y):
    """The pixel that is drawn at a point of the data, as fractions of full colour."""
    drawn = pixels(figure)
    column, row = ax.transData.transform((x, y))
    return drawn[len(drawn) - 1 - round(row), round(column)] / 255


# ---- spectrum


def modes_drawn(ax):
    """Mode numbers, σ² over the largest, and whether the point is full, of all points."""
    points = [line for line in ax.lines if line.get_marker() == "o" and len(line.get_xdata())]
    rows = [
        (x, y, line.get_markerfacecolor() != "white")
        for line in points for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    ]  # fmt: skip
    return np.array(sorted(rows)).T


def right_axis(ax):
    (axis,) = ax.child_axes
    return np.array(axis.get_yticks()), [text.get_text() for text in axis.get_yticklabels()]


def test_importances_are_drawn_from_the_largest_on_as_shares_of_the_loss_removed(why, oracle):
    one, silenced = plot.importance(why, 5)
    inverse = np.diagonal(np.linalg.inv(oracle.A))
    held = oracle.delta**2 / 2 / inverse
    channel = (1 + oracle.delta) ** 2 / 2 / inverse - oracle.ridge / 2 * (1 - oracle.delta**2)
    for ax, values in ((one, held), (silenced, channel)):
        first = np.argsort(-values)[:5]
        shares = 200 * values[first] / (oracle.delta @ oracle.overlaps)
        assert_allclose([bar.get_width() for bar in ax.patches], shares, rtol=1e-8)
        assert [text.get_text() for text in ax.get_yticklabels()] == [f"channel {i}" for i in first]
        assert [text.get_text() for text in ax.texts] == [f"{share:.1f}%" for share in shares]
    axes = figure_of(plot.importance(why, 100)).axes
    assert len(axes[0].patches) == N
    with pytest.raises(ValueError, match="'axes' must be two Axes, not 1"):
        plot.importance(why, axes=[one])
    with pytest.raises(ValueError, match="'n' must be"):
        plot.importance(why, 0)


def test_the_spectrum_is_that_of_the_atoms_from_the_largest(why, oracle):
    modes, sizes, full = modes_drawn(plot.spectrum(why))
    assert_array_equal(modes, np.arange(1, K + 1))
    assert_allclose(sizes, oracle.spectrum / oracle.spectrum[0], rtol=1e-6)
    assert_array_equal(full, oracle.spectrum >= oracle.ridge)


def test_the_right_hand_axis_says_how_much_of_each_mode_is_corrected(why, oracle):
    ax = plot.spectrum(why)
    places, names = right_axis(ax)
    sizes = places * oracle.spectrum[0]
    shares = 100 * sizes / (sizes + oracle.ridge)
    assert len(places) >= 3
    assert_allclose([float(name.rstrip("%")) for name in names], shares, rtol=1e-9)
    low, high = ax.get_ylim()
    assert low < places.min()
    assert places.max() < high


def test_lambda_is_a_line_where_one_half_is_corrected(why):
    ax = plot.spectrum(why)
    (line,) = (line for line in ax.lines if line.get_linestyle() == "--" and len(line.get_xdata()))
    assert_allclose(line.get_ydata(), 0.03, rtol=1e-9)
    places, names = right_axis(ax)
    assert_allclose(places[names.index("50%")], 0.03)


def test_the_legend_counts_modes_and_degrees_of_freedom(why, oracle):
    ax = plot.spectrum(why)
    most = np.count_nonzero(oracle.spectrum >= oracle.ridge)
    assert entries(ax) == [
        f"corrected by half or more: {most} modes", f"corrected by less: {K - most} modes",
        "λ: 0.03 of the largest σ²",
    ]  # fmt: skip
    dof = (oracle.spectrum / (oracle.spectrum + oracle.ridge)).sum()
    assert ax.get_legend().get_title().get_text() == f"{dof:.3g} effective degrees of freedom"


def test_a_truncated_spectrum_says_so_and_gives_bounds(few):
    ax = plot.spectrum(few)
    assert ax.get_xlabel() == "mode: the first 3 of 36"
    assert (
        ax.get_legend().get_title().get_text()
        == f"{few.dof:.3g} to {few.dof_upper:.3g} effective degrees of freedom"
    )


@pytest.mark.slow
@pytest.mark.parametrize(("ridge", "words"), [
    (0.0, "λ = 0: all modes are corrected in full"),
    (1e-9, "λ: 1e-09 of the largest σ², below the picture"),
    (1e9, "λ: 1e+09 of the largest σ², above the picture"),
])  # fmt: skip
def test_a_ridge_out_of_the_picture_does_not_squash_it(sim, ridge, words):
    why = fc.explain(sim.X, sim.S, relative_ridge=ridge)
    ax = plot.spectrum(why)
    assert entries(ax)[-1] == words
    low, high = ax.get_ylim()
    assert why.spectrum[-1] / why.spectrum[0] / 10 < low
    assert high < 10
    assert_legible(ax.figure)


# ---- covariance modes


def test_modes_are_those_of_the_atoms_up_to_sign(why, oracle):
    axes = plot.covariance_modes(why, 5)
    assert len(axes) == 5
    for k, image in enumerate(images(axes)):
        mode = oracle.U[:, k].reshape(D, D)
        assert_allclose(image, np.sign((image * mode).sum()) * mode, atol=1e-7)
        assert image.ravel() @ oracle.error >= 0.0  # signs are those in which the error has them


def test_titles_give_the_shares_of_each_mode(why, oracle):
    shrunk = oracle.spectrum / (oracle.spectrum + oracle.ridge)
    along = oracle.U.T @ oracle.error
    removed = along**2 * shrunk / (along**2 * shrunk).sum()
    moved = (oracle.V.T @ oracle.delta) ** 2 / (oracle.delta @ oracle.delta)
    for k, ax in enumerate(plot.covariance_modes(why)):
        assert ax.get_title() == (
            f"Mode {k + 1}\n{shrunk[k]:.1%} corrected\n"
            f"{removed[k]:.1%} of loss removed\n{moved[k]:.1%} of ‖δ‖²"
        )


def test_modes_share_one_scale_symmetric_about_zero_and_the_bar_says_what_is_beyond(why):
    axes = plot.covariance_modes(why)
    ((low, high),) = {ax.images[0].get_clim() for ax in axes}
    assert low == -high < 0
    beyond = np.mean(np.abs(images(axes)) > high)
    bar = axes[0].figure.axes[-1].get_ylabel()
    assert beyond > 0
    assert bar == f"covariance mode, of norm one\n{beyond:.1%} of entries beyond the ends"


def test_positive_entries_are_red_and_negative_blue_at_their_place(why):
    axes = plot.covariance_modes(why)
    image = images(axes)[1]
    for place, red in ((image.argmax(), True), (image.argmin(), False)):
        row, column = np.unravel_index(place, image.shape)
        r, _, b = colour_at(axes[1].figure, axes[1], column, row)
        assert (r > b) == red


@pytest.mark.slow
def test_clustering_gives_all_modes_the_order_of_the_covariances(sim, why):
    names = [str(j) for j in range(D)]
    axes = plot.covariance_modes(why, order="cluster", labels=names)
    places = [int(text.get_text()) for text in axes[0].get_yticklabels()]
    other = plot.covariances(sim.X, sim.S, why.fit, order="cluster", labels=names)
    assert [int(text.get_text()) for text in other[0].get_yticklabels()] == places != sorted(places)
    for image, mode in zip(images(axes), why.covariance_modes(4), strict=True):
        assert_array_equal(image, mode[np.ix_(places, places)])
    assert axes[0].get_ylabel() == "condition, clustered"


@pytest.mark.slow
def test_conditions_have_the_names_of_the_explanation_or_those_given(why):
    own = plot.covariance_modes(named(why, conditions=("a", "b", "c", "d", "e", "f", "g", 8)))
    assert [text.get_text() for text in own[0].get_yticklabels()] == [*"abcdefg", "8"]
    given = plot.covariance_modes(named(why, conditions=tuple("abcdefgh")), labels=list("ABCDEFGH"))
    assert [text.get_text() for text in given[0].get_yticklabels()] == list("ABCDEFGH")
    long = plot.covariance_modes(why, labels=CONDITIONS)
    assert [text.get_text()[-1] for text in long[0].get_yticklabels()] == list("01234567")
    assert_legible(long[0].figure)


@pytest.mark.slow
@pytest.mark.parametrize("n", slow_but({1, 6}, [1, 2, 4, 6, K]))
def test_any_number_of_modes_is_legible(why, n):
    axes = plot.covariance_modes(why, n, order="cluster", labels=CONDITIONS)
    assert [ax.get_title().split("\n")[0] for ax in axes] == [f"Mode {k + 1}" for k in range(n)]
    assert len(axes[0].figure.axes) == n + 1
    assert_legible(axes[0].figure)


def test_panels_without_a_mode_are_empty(sim):
    one = fc.explain(sim.X[:1], sim.S, 1.0, center=False)
    axes = plot.covariance_modes(one)
    assert [len(ax.images) for ax in axes] == [1, 0, 0, 0]
    assert not any(ax.axison for ax in axes[1:])
    assert axes[0].get_title().startswith("Mode 1")


def test_modes_that_are_rounding_are_not_drawn(sim):
    X = sim.X[np.arange(N) % 3]
    why = fc.explain(X, sim.S, relative_ridge=0.1, modes=5)
    assert [len(ax.images) for ax in plot.covariance_modes(why)] == [1, 1, 1, 0]
    assert_array_equal(modes_drawn(plot.spectrum(why))[0], [1, 2, 3])


# ---- overlaps


def points(ax):
    """All points of a scatter, in no order."""
    drawn = [line for line in ax.lines if line.get_marker() == "o"]
    return np.concatenate([np.column_stack(line.get_data()) for line in drawn])


def same_points(found, x, y):
    order, other = np.lexsort(found.T), np.lexsort(np.array([x, y]))
    assert_allclose(found[order], np.column_stack([x, y])[other], rtol=1e-6, atol=1e-9 * np.abs(x).max())


def whitened(oracle):
    values, vectors = np.linalg.eigh(oracle.A)
    return vectors @ ((vectors.T @ oracle.overlaps) / np.sqrt(values))


def test_delta_is_upright_against_raw_overlaps_left_and_whitened_ones_right(why, oracle):
    left, right = plot.overlaps(why)
    same_points(points(left), oracle.overlaps, oracle.delta)
    same_points(points(right), whitened(oracle), oracle.delta)
    for ax, word in ((left, "raw"), (right, "whitened")):
        assert ax.get_xlabel().startswith(word)
        assert ax.get_ylabel() == "δ = gain − 1"


def test_titles_give_the_correlations(why, oracle):
    for ax, values in zip(plot.overlaps(why), (oracle.overlaps, whitened(oracle)), strict=True):
        r = np.corrcoef(values, oracle.delta)[0, 1]
        assert f"correlation {r:.2f}" in ax.get_title()


def test_names_stand_at_their_channels_and_are_the_same_in_both(why, oracle):
    axes = plot.overlaps(named(why, channels=CHANNELS))
    found = []
    for ax, values in zip(axes, (oracle.overlaps, whitened(oracle)), strict=True):
        index = [int(text.get_text().rpartition("_")[2]) for text in ax.texts]
        assert_allclose(
            [text.xy for text in ax.texts], np.column_stack([values, oracle.delta])[index], rtol=1e-6
        )
        found.append(index)
    assert found[0] == found[1]
    assert len(found[0]) >= 3
    assert np.argmax(np.abs(oracle.delta)) == found[0][0]
    assert all(len(text.get_text()) <= 18 for text in axes[0].texts)
    assert_legible(axes[0].figure)


def test_the_dashed_line_is_the_diagonal_fit_of_a_median_channel(why, oracle):
    left, right = plot.overlaps(why)
    (line,) = (line for line in left.lines if line.get_linestyle() == "--")
    slope = np.diff(line.get_ydata()) / np.diff(line.get_xdata())
    sizes = np.diag(oracle.A)
    assert_allclose(slope, 1 / np.median(sizes[sizes > oracle.ridge]), rtol=1e-6)
    assert not any(line.get_linestyle() == "--" for line in right.lines)


def test_twenty_thousand_points_are_pixels_in_a_small_file(tmp_path):
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(20000, 6)).astype(np.float32), rng.normal(size=(50, 6))
    axes = plot.overlaps(fc.explain(X, responses=Y, relative_ridge=0.1))
    assert len(points(axes[0])) == 20000
    axes[0].figure.savefig(tmp_path / "overlaps.svg")
    assert (tmp_path / "overlaps.svg").stat().st_size < 500_000


# ---- contributions


def bars(ax):
    """Name, start and end of each bar, from the top."""
    assert ax.yaxis_inverted()
    names = [text.get_text() for text in ax.get_yticklabels()]
    patches = sorted(ax.patches, key=lambda patch: patch.get_y())
    return [
        (name, patch.get_x(), patch.get_x() + patch.get_width())
        for name, patch in zip(names, patches, strict=True)
    ]


def test_bars_lead_from_the_diagonal_fit_through_channels_to_delta(why, oracle):
    i, n = int(np.argmax(np.abs(oracle.delta))), 4
    rows = bars(plot.contributions(why, i, n))
    expected = -oracle.A[i] * oracle.delta / oracle.A[i, i]
    expected[i] = 0
    order = np.argsort(expected)
    shown = [*order[::-1][:n], *order[:n]]
    alone = oracle.overlaps[i] / oracle.A[i, i]
    steps = [*expected[shown], np.delete(expected, shown).sum()]
    assert [name for name, _, _ in rows] == [
        "alone (diagonal fit)", *(f"channel {j}" for j in shown), f"all {N - 1 - 2 * n} others",
        "together: δ",
    ]  # fmt: skip
    ends = alone + np.cumsum([0.0, *steps])
    assert_allclose([start for _, start, _ in rows], [0.0, *ends[:-1], 0.0], atol=1e-7)
    assert_allclose([end for _, _, end in rows], [*ends, oracle.delta[i]], atol=1e-7)
    assert_allclose(ends[-1], oracle.delta[i], atol=1e-7)


def test_numbers_beside_the_bars_and_the_title_are_those_of_the_bars(why):
    for i in (0, int(np.argmax(why.delta)), int(np.argmin(why.delta))):
        ax = plot.contributions(why, i)
        numbers = [float(text.get_text().replace("−", "-")) for text in ax.texts]
        assert_allclose(numbers, [end - start for _, start, end in bars(ax)], rtol=6e-3, atol=1e-12)
        gain, alone = 1 + why.delta[i], 1 + why.diagonal_delta[i]
        words = f"channel {i}\ngain {gain:.2f}; alone it would be {alone:.2f}".replace("-", "−")
        assert ax.get_title(loc="left") == words


@pytest.mark.slow
def test_what_raises_a_gain_is_orange_and_what_lowers_it_blue(why):
    ax = plot.contributions(why, int(np.argmax(why.delta)), 3)
    colours = {}
    for (name, start, end), patch in zip(bars(ax)[1:-1], ax.patches[1:-1], strict=True):
        colours.setdefault(end > start, set()).add(patch.get_facecolor())
        middle = (start + end) / 2
        if abs(end - start) > 0.1:
            r, _, b = colour_at(ax.figure, ax, middle, patch.get_y() + 0.2)
            assert (r > b) == (end > start), name
    assert len(colours[True]) == len(colours[False]) == 1
    assert colours[True] != colours[False]


def test_channels_go_by_name_and_long_names_fit(why):
    ax = plot.contributions(named(why, channels=CHANNELS), CHANNELS[7])
    names = [name for name, _, _ in bars(ax)]
    assert all(len(name) <= 28 for name in names)
    assert len(set(names)) == len(names)
    assert ax.get_title(loc="left").startswith("mouse_0_left_")
    left, right = ax.get_window_extent().x0, ax.get_window_extent().x1
    assert_legible(ax.figure)
    assert right - left > 0.5 * ax.figure.bbox.width


def test_all_channels_may_be_named():
    X = np.random.default_rng(0).normal(size=(12, 5))
    why = fc.explain(X, np.eye(5), relative_ridge=0.1)
    names = [name for name, _, _ in bars(plot.contributions(why, 3, 100))]
    assert sorted(names[1:-1]) == sorted(f"channel {j}" for j in range(12) if j != 3)


# ---- reachable


def test_the_bar_adds_up_to_the_error_and_splits_it_as_projections_do(sim):
    X, S = sim.X[:20], sim.S
    why = fc.explain(X, S, relative_ridge=0.03)
    G, error = naive.atoms(X), (S - naive.covariance(X)).ravel()
    image = G @ np.linalg.lstsq(G, error, rcond=None)[0]
    fitted = G @ np.linalg.solve(G.T @ G + why.ridge * np.eye(20), G.T @ error)
    unreachable, left = np.square(error - image).sum(), np.square(image - fitted).sum()
    total = error @ error
    shares = np.array([total - unreachable - left, left, unreachable]) / total
    ax = plot.reachable(why)
    assert_allclose([patch.get_width() for patch in ax.patches], 100 * shares, rtol=1e-6)
    assert_allclose([patch.get_x() for patch in ax.patches], 100 * np.cumsum([0, *shares[:-1]]), rtol=1e-6)
    words = ("corrected by the fit", "reachable, but held back by the ridge",
             "unreachable by any gains, to first order")  # fmt: skip
    assert entries(ax) == [f"{word}: {share:.1%}" for word, share in zip(words, shares, strict=True)]
    assert shares.min() > 0.001
    seen = [colour_at(ax.figure, ax, p.get_x() + p.get_width() / 2, 0) for p in ax.patches]
    assert min(np.abs(a - b).max() for a, b in itertools.combinations(seen, 2)) > 0.2
    assert_legible(ax.figure)


def test_bounds_are_said_to_be_bounds(few, why):
    for explained, bound in ((few, True), (why, False)):
        _, left, unreachable = entries(plot.reachable(explained))
        assert ("at least" in left) == bound
        assert ("at most" in unreachable) == bound


def test_without_an_error_there_is_nothing_to_share(sim):
    ax = plot.reachable(fc.explain(sim.X, fc.covariance(sim.X), 1.0))
    assert [patch.get_width() for patch in ax.patches] == [0, 0, 0]
    assert [text.get_text() for text in ax.texts] == ["no error at gains of one"]


# ---- all in one


@pytest.mark.slow
def test_the_summary_holds_every_part_for_the_channel_that_moves_most(why):
    figure = plot.explanation(why)
    words = [text for text, _ in shown(figure)]
    most = int(np.argmax(np.abs(why.delta)))
    assert any(text.startswith(f"channel {most}\ngain") for text in words)
    assert sum(len(ax.images) for ax in figure.axes) == 4
    for begin in ("corrected by the fit", "corrected by half", "Raw", "Whitened", "Mode 4"):
        assert any(text.startswith(begin) for text in words), begin
    title = figure.get_suptitle()
    assert title.startswith("Linear fit of 40 channels, 8 conditions, ridge 0.03 of the largest eigenvalue\n")
    for loss in (why.fit.loss_at_one, why.linear_loss, why.fit.loss):
        assert f" {loss:.3g}" in title
    assert ("overshoots" in title) == why.fit.overshoots
    assert_legible(figure)


@pytest.mark.slow
def test_the_channel_that_moves_most_may_move_down(sim):
    why = fc.explain(sim.X, 0.1 * sim.S, relative_ridge=0.3)
    lowest = int(np.argmin(why.delta))
    assert why.delta.max() < -why.delta[lowest]
    words = [text for text, _ in shown(plot.explanation(why))]
    assert any(text.startswith(f"channel {lowest}\ngain") for text in words)


@pytest.mark.slow
def test_the_summary_is_of_the_channel_and_has_the_labels_that_are_given(why):
    words = [text for text, _ in shown(plot.explanation(named(why, channels=CHANNELS), CHANNELS[2]))]
    assert any(text.startswith("mouse_0_left_") and "gain" in text for text in words)
    words = [text for text, _ in shown(plot.explanation(why, labels=list("ABCDEFGH")))]
    assert set("ABCDEFGH") <= set(words)


def test_a_fit_that_overshoots_is_said_to(sim):
    why = fc.explain(sim.X, sim.S, 0.0)
    assert why.fit.overshoots
    assert plot.explanation(why).get_suptitle().endswith("exactly: it overshoots")


def test_figures_are_drawn_on_the_axes_that_are_given_and_nowhere_else(why):
    figure = Figure()
    axes = list(figure.subplots(3, 3).flat)
    assert plot.spectrum(why, ax=axes[0]) is axes[0]
    assert plot.reachable(why, ax=axes[1]) is axes[1]
    assert plot.contributions(why, 0, ax=axes[2]) is axes[2]
    assert list(plot.overlaps(why, axes=axes[3:5])) == axes[3:5]
    assert list(plot.covariance_modes(why, axes=axes[5:])) == axes[5:]
    assert len(figure.axes) == 10  # and a colour bar
    assert figure.get_suptitle() == ""


@pytest.mark.slow
@pytest.mark.parametrize("part", slow_but({"overlaps"}, PARTS))
def test_the_same_is_drawn_twice_and_something_else_for_another_ridge(sim, why, part):
    first, again = (pixels(figure_of(PARTS[part](why))) for _ in range(2))
    assert_array_equal(first, again)
    other = pixels(figure_of(PARTS[part](fc.explain(sim.X, sim.S, relative_ridge=1.0))))
    assert other.shape == first.shape
    assert np.count_nonzero((other != first).any(axis=2)) > 200


def hostile():
    rng = np.random.default_rng(0)
    X, S = rng.normal(size=(30, 5)), fc.covariance(rng.normal(size=(30, 5)))
    dead = X.copy()
    dead[3:9] = 0
    long = {"channels": CHANNELS[:30], "conditions": CONDITIONS[:5]}
    return {
        "all alike": lambda: fc.explain(np.ones((6, 3)), np.eye(3), 1.0),
        "all alike, no ridge": lambda: fc.explain(np.ones((6, 3)), np.eye(3), 0.0),
        "all zero": lambda: fc.explain(np.zeros((6, 3)), np.zeros((3, 3)), 1.0),
        "nothing to do": lambda: fc.explain(X, fc.covariance(X), 1.0),
        "no ridge": lambda: fc.explain(X, S, 0.0),
        "one channel": lambda: fc.explain(X[:1], S, 1.0, center=False),
        "two channels": lambda: fc.explain(X[:2], S, 1.0),
        "one condition": lambda: fc.explain(X[:, :1], S[:1, :1], 1.0),
        "two conditions": lambda: fc.explain(X[:, :2], S[:2, :2], 1.0),
        "dead channels": lambda: fc.explain(dead, S, 0.0, center=False),
        "huge": lambda: fc.explain(X * 1e60, S * 1e120, relative_ridge=0.1),
        "tiny": lambda: fc.explain(X * 1e-60, S * 1e-120, relative_ridge=0.1),
        "one mode known": lambda: fc.explain(X, S, relative_ridge=0.1, modes=1),
        "no change": lambda: fc.explain(X, S, ridge=1e30),
        "one size": lambda: fc.explain(np.vstack([np.eye(4)] * 5), 3 * np.eye(4), 1.0, center=False),
        "long names": lambda: named(fc.explain(X, S, relative_ridge=0.1), **long),
        "many conditions": lambda: fc.explain(rng.normal(size=(30, 90)), np.eye(90), relative_ridge=0.1),
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    slow_but({"two channels", "all zero"}, hostile()),
)
def test_whatever_is_explained_is_legible(case):
    why = hostile()[case]()
    for part, draw in PARTS.items():
        figure = figure_of(draw(why))
        if len(why.spectrum) or part in ("contributions", "reachable", "explanation"):
            assert_legible(figure)
        words = [text.get_text() for text in figure.findobj(matplotlib.text.Text)]
        assert not any("nan" in text or "−0.0%" in text for text in words)


def test_where_nothing_can_change_the_covariance_the_figures_say_so():
    why = fc.explain(np.ones((6, 3)), np.eye(3), 1.0)
    words = [text.replace("\n", " ") for text, _ in shown(plot.explanation(why))]
    assert words.count("No modes: no gain changes the covariance.") == 2
    assert "unreachable by any gains, to first order: 100.0%" in words


# ---- refusals


def test_figures_refuse_what_is_no_explanation(why):
    for draw in PARTS.values():
        with pytest.raises(
            TypeError, match=r"^Argument 'explanation' must be an Explanation, not Fit: pass "
        ):
            draw(why.fit)


def test_arguments_that_do_not_fit_are_named(why):
    one = Figure().subplots(1, 1, squeeze=False)[0]
    for words, call in (
        ("'axes' must be two Axes, not 1", lambda: plot.overlaps(why, axes=one)),
        ("'axes' must be 4 Axes, not 1", lambda: plot.covariance_modes(why, axes=one)),
        ("'labels' must name the 8 conditions, not 1", lambda: plot.covariance_modes(why, labels=["a"])),
        ("'labels' must name the 8 conditions, not 1", lambda: plot.explanation(why, labels=["a"])),
        ("'order' must be one of 'input', 'cluster'", lambda: plot.covariance_modes(why, order="x")),
        ("'n' must be", lambda: plot.covariance_modes(why, 0)),
        ("'n' must be", lambda: plot.contributions(why, 0, 0)),
        ("'channel' must be a number from 0 to 39", lambda: plot.contributions(why, 40)),
        ("'channel' must be a number from 0 to 39", lambda: plot.explanation(why, "a")),
    ):
        with pytest.raises(ValueError, match=words) as caught:
            call()
        assert str(caught.value).startswith("Argument '")


def test_without_matplotlib_the_error_says_what_to_install(why, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for draw in PARTS.values():
        with pytest.raises(ImportError, match=r'pip install "fastcov-gains\[plot\]"'):
            draw(why)
