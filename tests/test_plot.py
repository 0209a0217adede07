"""Figures by what they show: the data on the artists, the words, and room for both."""

import itertools
import subprocess
import sys

import matplotlib.text
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.testing import assert_allclose, assert_array_equal

import fastcov as fc
from fastcov import plot


@pytest.fixture(scope="module")
def sim():
    return fc.datasets.simulate(120, 14)


@pytest.fixture(scope="module")
def fits(sim):
    return {
        method: fc.fit(sim.X, sim.S, relative_ridge=0.03, method=method) for method in ("linear", "diagonal")
    }


def shown(figure):
    """Texts of a figure that are drawn, with their boxes in pixels."""
    FigureCanvasAgg(figure).draw()
    unseen = set()  # matplotlib keeps labels of ticks beyond the range
    for axis in itertools.chain.from_iterable((ax.xaxis, ax.yaxis) for ax in figure.axes):
        low, high = sorted(axis.get_view_interval())
        for tick in axis.get_major_ticks():
            if not low <= tick.get_loc() <= high:
                unseen |= {tick.label1, tick.label2}
    texts = figure.findobj(lambda artist: isinstance(artist, matplotlib.text.Text) and artist.get_visible())
    drawn = [text for text in texts if text.get_text().strip() and text not in unseen]
    return [(text.get_text(), text.get_window_extent()) for text in drawn]


def assert_legible(figure):
    """No text is cut by the edge of the figure or lies over another."""
    texts = shown(figure)
    width, height = figure.canvas.get_width_height()
    cut = [t for t, b in texts if b.x0 < 0 or b.y0 < 0 or b.x1 > width or b.y1 > height]
    over = [
        (t, u) for (t, a), (u, b) in itertools.combinations(texts, 2)
        if min(a.x1, b.x1) - max(a.x0, b.x0) > 1 and min(a.y1, b.y1) - max(a.y0, b.y0) > 1
    ]  # fmt: skip
    assert len(texts) > 5
    assert not cut
    assert not over


def images(axes):
    return [np.asarray(ax.images[0].get_array()) for ax in axes]


# ---- covariances


def test_panels_show_input_target_and_fit_in_input_order(sim, fits):
    axes = plot.covariances(sim.X, sim.S, fits["linear"])
    given, target, fitted = images(axes)
    assert_allclose(given, fc.covariance(sim.X), rtol=1e-12)
    assert_allclose(target, sim.S, rtol=1e-12)
    assert_array_equal(fitted, fits["linear"].covariance())


def test_panels_share_one_scale_symmetric_about_zero(sim, fits):
    limits = {ax.images[0].get_clim() for ax in plot.covariances(sim.X, sim.S, fits["linear"])}
    ((low, high),) = limits
    assert low == -high < 0


def test_titles_give_r2_against_the_target(sim, fits):
    fit = fits["linear"]
    axes = plot.covariances(sim.X, sim.S, fit)
    titles = [ax.get_title() for ax in axes]
    at_one = 1 - 2 * fit.loss_at_one / np.square(sim.S).sum()
    assert [title.split("\n")[0] for title in titles] == ["Input", "Target", "Fitted"]
    assert f"R² = {at_one:.2f}" in titles[0]
    assert f"linear gains: R² = {fit.r2:.2f}" in titles[2]


def test_colour_bar_has_units_and_counts_what_is_beyond_it(sim, fits):
    axes = plot.covariances(sim.X, sim.S, fits["diagonal"])
    limit = axes[0].images[0].get_clim()[1]
    beyond = np.mean(np.abs(images(axes)) > limit)
    label = axes[0].figure.axes[-1].get_ylabel()
    assert beyond > 0
    assert label == f"covariance (units of X squared)\n{beyond:.1%} of entries beyond the ends"


def test_colour_bar_claims_no_clipping_where_there_is_none():
    X = np.array([[1.0, -1.0], [-1.0, 1.0]])
    S = fc.covariance(X)
    axes = plot.covariances(X, S, fc.fit(X, S, ridge=1.0))
    assert axes[0].figure.axes[-1].get_ylabel() == "covariance (units of X squared)"


def test_clustering_reorders_all_panels_alike_and_gathers_groups():
    rng = np.random.default_rng(0)
    groups = rng.permutation(np.repeat([0, 1, 2], 5))
    X = rng.normal(size=(60, 3))[:, groups] + 0.1 * rng.normal(size=(60, 15))
    S = fc.covariance(X)
    fit = fc.fit(X, S, relative_ridge=0.1)
    names = [f"{group}-{i}" for i, group in enumerate(groups)]
    axes = plot.covariances(X, S, fit, order="cluster", labels=names)
    places = np.array([int(t.get_text().split("-")[1]) for t in axes[0].get_yticklabels()])
    assert sorted(places) == list(range(15))
    assert np.count_nonzero(np.diff(groups[places])) == 2
    for image, matrix in zip(images(axes), (fc.covariance(X), S, fit.covariance()), strict=True):
        assert_allclose(image, matrix[np.ix_(places, places)], rtol=1e-12)


@pytest.mark.parametrize("S", [np.eye(2), np.zeros((5, 5)), np.diag([1.0, 0, 0, 0, 2.0])])
def test_targets_without_structure_can_be_clustered(S):
    X = np.random.default_rng(0).normal(size=(9, len(S)))
    axes = plot.covariances(X, S, fc.fit(X, S, ridge=1.0), order="cluster")
    assert_array_equal(np.sort(images(axes)[1], axis=None), np.sort(S, axis=None))


def test_places_are_not_numbered_once_conditions_are_clustered(sim, fits):
    for order, label, numbered in (("input", "condition", True), ("cluster", "condition, clustered", False)):
        axes = plot.covariances(sim.X, sim.S, fits["linear"], order=order)
        assert axes[0].get_ylabel() == label
        assert [ax.yaxis.get_tick_params()["labelleft"] for ax in axes] == [numbered, False, False]


def test_labels_are_thinned_where_there_is_no_room_for_all():
    sim = fc.datasets.simulate(40, 90)
    names = [f"odour {i}" for i in range(90)]
    fit = fc.fit(sim.X, sim.S, relative_ridge=0.1)
    axes = plot.covariances(sim.X, sim.S, fit, labels=names)
    found = [(round(place), text.get_text()) for place, text in
             zip(axes[0].get_yticks(), axes[0].get_yticklabels(), strict=True)]  # fmt: skip
    assert 5 < len(found) < 45
    assert all(names[place] == text for place, text in found)
    assert_legible(axes[0].figure)


def test_axes_that_are_given_are_drawn_on(sim, fits):
    figure = Figure()
    axes = figure.subplots(1, 3)
    assert list(plot.covariances(sim.X, sim.S, fits["linear"], axes=axes)) == list(axes)
    assert len(figure.axes) == 4


def test_uncentred_fit_is_compared_with_the_uncentred_covariance(sim):
    overlap = fc.covariance(sim.X, center=False)
    fit = fc.fit(sim.X, overlap, relative_ridge=0.1, center=False)
    axes = plot.covariances(sim.X, overlap, fit)
    assert_allclose(images(axes)[0], overlap, rtol=1e-12)
    assert "R² = 1.00" in axes[0].get_title()


# ---- gains


def lines(ax):
    """Line of each label; those without one are the points beyond the range."""
    named = {
        line.get_label().split(":")[0]: line for line in ax.lines if not line.get_label().startswith("_")
    }
    return named, [line for line in ax.lines if line.get_label().startswith("_")]


def test_gains_are_sorted_by_the_first_fit_and_the_others_stay_with_their_channels(fits):
    ax = plot.gains({"first": fits["linear"], "other": fits["diagonal"]})
    named, _ = lines(ax)
    order = np.argsort(fits["linear"].gains)
    assert_array_equal(named["first"].get_xdata(), np.arange(1, 121))
    assert_array_equal(named["first"].get_ydata(), fits["linear"].gains[order])
    x = np.asarray(named["other"].get_xdata())
    assert_array_equal(named["other"].get_ydata(), fits["diagonal"].gains[order][x - 1])


def test_wild_gains_are_marked_at_the_edge_and_counted(fits):
    wild = fits["diagonal"]
    tame = fits["linear"]
    ax = plot.gains({"linear": tame, "diagonal": wild})
    low, high = ax.get_ylim()
    assert low < tame.gains.min()
    assert high > tame.gains.max()
    assert high - low < 3 * np.ptp(tame.gains)
    named, beyond = lines(ax)
    outside = np.count_nonzero((wild.gains < low) | (wild.gains > high))
    assert outside > 0
    assert f"{outside} of 120 off the scale" in named["diagonal"].get_label()
    assert sum(len(line.get_xdata()) for line in beyond) == outside
    assert {y for line in beyond for y in line.get_ydata()} <= {low, high}
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == [line.get_label() for line in named.values()]


def test_gain_of_one_is_drawn_and_named(fits):
    named, beyond = lines(plot.gains(fits["linear"]))
    assert_array_equal(named["gain 1"].get_ydata(), [1, 1])
    assert f"R² = {fits['linear'].r2:.2f}" in named["linear"].get_label()
    assert not beyond


def test_gains_that_are_all_one_have_a_range(sim):
    fit = fc.fit(sim.X, fc.covariance(sim.X), relative_ridge=1e6)
    low, high = plot.gains(fit).get_ylim()
    assert low < 1 < high


def test_negative_r2_has_a_minus_sign(fits):
    assert fits["diagonal"].r2 < 0
    named, _ = lines(plot.gains(fits))
    assert f"R² = −{abs(fits['diagonal'].r2):.2f}" in named["diagonal"].get_label()


def test_the_r2_of_a_wild_fit_is_short(sim):
    fit = fc.fit(sim.X, sim.S, relative_ridge=0, method="diagonal")
    assert fit.r2 < -100
    named, _ = lines(plot.gains(fit))
    mantissa, exponent = f"{-fit.r2:.2e}".split("e")
    assert named["diagonal"].get_label() == f"diagonal: R² = −{mantissa}e{exponent}"


def test_conditions_are_numbered_by_whole_numbers():
    sim = fc.datasets.simulate(10, 3)
    axes = plot.covariances(sim.X, sim.S, fc.fit(sim.X, sim.S, ridge=1.0))
    assert_array_equal(axes[0].get_yticks() % 1, 0)


def test_fits_are_told_apart_by_colour_and_marker(fits):
    named, _ = lines(plot.gains({name: fits["linear"] for name in "abcd"}))
    assert len({named[name].get_color() for name in "abcd"}) == 4
    assert len({named[name].get_marker() for name in "abcd"}) == 4


def test_the_ax_that_is_given_is_drawn_on(fits):
    ax = Figure().subplots()
    assert plot.gains(fits, ax=ax) is ax


# ---- the whole figure


@pytest.mark.parametrize(("N", "D"), [(3, 2), (148, 48), (2000, 30)])
def test_nothing_in_a_summary_overlaps_or_is_cut(N, D):
    sim = fc.datasets.simulate(N, D)
    fits = {m: fc.fit(sim.X, sim.S, ridge=10.0 * N, method=m) for m in ("linear", "diagonal")}
    names = [f"a long name of an odour {i}" for i in range(D)]
    assert_legible(plot.summary(sim.X, sim.S, fits))
    assert_legible(plot.summary(sim.X, sim.S, fits, order="cluster", labels=names))


def test_single_parts_are_legible(sim, fits):
    assert_legible(plot.covariances(sim.X, sim.S, fits["linear"])[0].figure)
    assert_legible(plot.gains(fits).figure)


def test_summary_says_what_was_fitted_and_labels_its_axes(sim, fits):
    figure = plot.summary(sim.X, sim.S, fits)
    words = [text for text, _ in shown(figure)]
    assert "120 channels, 14 conditions, ridge 0.03 of the largest eigenvalue" in words
    for word in ("gain (output / input)", "channel, in order of its linear gain", "condition"):
        assert word in words
    other = plot.summary(sim.X, sim.S, fc.fit(sim.X, sim.S, ridge=1234.5))
    assert "120 channels, 14 conditions, ridge 1.23e+03" in [text for text, _ in shown(other)]


def test_summary_is_nine_hundred_pixels_wide_and_saves(sim, fits, tmp_path):
    figure = plot.summary(sim.X, sim.S, fits)
    figure.savefig(tmp_path / "x.png", dpi=100)
    import matplotlib.image

    assert matplotlib.image.imread(tmp_path / "x.png").shape[:2] == (600, 900)


def test_pyplot_is_left_alone():
    code = (
        "import sys, fastcov as fc\n"
        "sim = fc.datasets.simulate(10, 4)\n"
        "import matplotlib; before = matplotlib.rcParams.copy()\n"
        "fc.plot.summary(sim.X, sim.S, fc.fit(sim.X, sim.S, ridge=1.0)).canvas.draw()\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert matplotlib.rcParams.copy() == before\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- refusals


def test_without_matplotlib_the_error_says_what_to_install(sim, fits, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'pip install "fastcov-gains\[plot\]"'):
        plot.summary(sim.X, sim.S, fits)


def test_module_is_imported_without_matplotlib():
    code = "import sys, fastcov.plot; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_does_not_belong_together_is_refused(sim, fits):
    fit = fits["linear"]
    stack = fc.fit(sim.X, np.stack([sim.S, sim.S]), ridge=1.0)
    other = fc.fit(sim.X[:50], sim.S, ridge=1.0)

    def refuse(error, words, call, *args, **kwargs):
        with pytest.raises(error, match=words) as caught:
            call(*args, **kwargs)
        assert str(caught.value).startswith("Argument '")

    refuse(ValueError, "'labels' must name the 14", plot.covariances, sim.X, sim.S, fit, labels=["a"])
    refuse(ValueError, "'axes' must be three", plot.covariances, sim.X, sim.S, fit, axes=[None])
    refuse(
        ValueError,
        "'order' must be one of 'input', 'cluster'",
        plot.covariances,
        sim.X,
        sim.S,
        fit,
        order="x",
    )
    refuse(ValueError, "'X' must be the .* that were fitted", plot.covariances, sim.X[1:], sim.S, fit)
    refuse(ValueError, "'S' must be 14 x 14", plot.covariances, sim.X, sim.S[1:, 1:], fit)
    refuse(ValueError, "'S' must be one target", plot.covariances, sim.X, np.stack([sim.S] * 2), fit)
    refuse(ValueError, "'fit' must be a fit of one target", plot.covariances, sim.X, sim.S, stack)
    refuse(TypeError, "'fit' must be a Fit, not dict", plot.covariances, sim.X, sim.S, fits)
    refuse(ValueError, "at least one Fit", plot.gains, {})
    refuse(TypeError, "must be a Fit or a mapping", plot.gains, fit.gains)
    refuse(TypeError, "must be a Fit or a mapping", plot.gains, {"linear": fit.gains})
    refuse(ValueError, "of one target", plot.gains, stack)
    refuse(ValueError, "linear of 120, other of 50", plot.gains, {"linear": fit, "other": other})
