"""Figures by what they show: the data on the artists, the words, and room for both."""

import itertools
import subprocess
import sys

import matplotlib.text
import numpy as np
import pytest
from cases import slow_but
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.testing import assert_allclose, assert_array_equal

import fastcov as fc
from fastcov import plot
from fastcov._results.score import BASELINES, SCORES
from fastcov.plot._held_out import WORDS


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


def test_exact_linear_and_diagonal_gains_are_told_apart_in_one_legible_figure(sim):
    fits = {m: fc.fit(sim.X, sim.S, relative_ridge=0.03, method=m) for m in ("exact", "linear", "diagonal")}
    figure = plot.summary(sim.X, sim.S, fits, order="cluster")
    assert_legible(figure)
    (gains,) = (ax for ax in figure.axes if ax.get_legend())
    labels = [text.get_text() for text in gains.get_legend().get_texts()]
    assert [label.split(":")[0] for label in labels] == ["exact", "linear", "diagonal", "gain 1"]
    assert "exact gains" in figure.axes[2].get_title()
    first = gains.lines[0]
    assert_array_equal(first.get_ydata(), np.sort(fits["exact"].gains))


# ---- cross-validation

METHODS = ("exact", "linear", "diagonal")


@pytest.fixture(scope="module")
def noisy():
    return fc.datasets.simulate(60, 16, noise=0.7, rng=3)


@pytest.fixture(scope="module")
def cv(noisy):
    return fc.cross_validate(noisy.X, noisy.Y, method=METHODS, folds=4, shuffles=3)


def entries(ax):
    """Texts of a legend."""
    return [text.get_text() for text in ax.get_legend().get_texts()]


def means(ax):
    """The lines with error bars."""
    return [container.lines[0] for container in ax.containers]


def carets(ax, edge):
    """Places marked at one edge of the picture, a list for each line that marks some."""
    return [line.get_xdata() for line in ax.lines if len(line.get_ydata()) and line.get_marker() in (6, 7)
            and set(line.get_ydata()) == {edge}]  # fmt: skip


def test_points_are_pooled_scores_at_their_true_ridges_with_jackknifed_errors(cv):
    ax = plot.cross_validation(cv)
    low, _ = ax.get_ylim()
    order = np.argsort(cv.ridges)
    for line, container, method in zip(means(ax), ax.containers, METHODS, strict=True):
        value, error = (values[order] for values in cv.summary(method))
        assert_array_equal(line.get_xdata(), cv.ridges[order])
        shown = value >= low
        assert_allclose(np.asarray(line.get_ydata())[shown], value[shown])
        assert (np.asarray(line.get_ydata())[~shown] < low).all()
        segments = [s for s in container.lines[2][0].get_segments() if len(s) and np.isfinite(s).all()]
        assert_allclose([np.ptp(s[:, 1]) for s in segments], 2 * error[shown])


@pytest.mark.slow
def test_methods_at_one_ridge_are_told_apart_by_marker_and_size(cv):
    lines = means(plot.cross_validation(cv))
    assert len({line.get_marker() for line in lines}) == 3
    sizes = [line.get_markersize() for line in lines]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 3


def test_each_fold_is_a_thin_line_of_the_colour_of_its_method(cv):
    ax = plot.cross_validation(cv)
    order = np.argsort(cv.ridges)
    for line, method in zip(means(ax), METHODS, strict=True):
        thin = [other for other in ax.lines if other.get_color() == line.get_color()
                and other.get_linewidth() < 1 and len(other.get_xdata()) == len(order)]  # fmt: skip
        assert len(thin) == 4
        for other, score in zip(thin, cv.scores[method].by_fold(cv.score)[:, order], strict=True):
            inside = score > ax.get_ylim()[0]
            assert_allclose(np.asarray(other.get_ydata())[inside], score[inside])


def test_wild_scores_do_not_squash_the_picture_and_are_marked_at_the_edge_and_counted(cv):
    ax = plot.cross_validation(cv, score="r2")
    low, high = ax.get_ylim()
    assert min(cv.summary("diagonal", "r2")[0]) < -100
    assert -4 < low < min(0, cv.baseline("one", "r2")[0])
    assert max(cv.summary(m, "r2")[0].max() for m in METHODS) < high < 1.2
    below = {m: np.sort(cv.ridges[cv.summary(m, "r2")[0] < low]) for m in METHODS}
    wild = [m for m in METHODS if len(below[m])]
    assert "diagonal" in wild
    for m, places in zip(wild, carets(ax, low), strict=True):
        assert_array_equal(places, below[m])
    labels = {m: next(text for text in entries(ax) if text.startswith(f"{m}: ")) for m in METHODS}
    for m in METHODS:
        assert (f", {len(below[m])} of 9 below the scale" in labels[m]) == bool(len(below[m]))
    hidden = sum(int(np.sum(s.r2 < low)) for s in cv.scores.values())
    assert f"single folds ({hidden} of 108 values below the scale)" in entries(ax)


def test_the_best_of_a_study_that_is_wild_throughout_is_in_the_picture(noisy):
    cv = fc.cross_validate(
        noisy.X, noisy.Y, method="diagonal", relative_ridges=[1e-4, 3e-4, 1e-3], score="r2", refit=None
    )
    best = cv.summary("diagonal")[0].max()
    assert best < -5
    low, high = plot.cross_validation(cv).get_ylim()
    assert low < best < cv.baseline("one")[0] < high


@pytest.mark.slow
def test_chosen_ridges_are_ringed_and_named(cv):
    ax = plot.cross_validation(cv)
    rings = [line for line in ax.lines if len(line.get_xdata()) == 1 and line.get_markerfacecolor() == "none"]
    assert len(rings) == 6
    for k, method in enumerate(METHODS):
        value, error = cv.summary(method)
        best = cv.place(method)
        assert (
            f"{method}: {value[best]:.2f} ± {error[best]:.2f} at λ/λ_max = {cv.ridges[best]:.3g}"
            in " ".join(entries(ax)).replace("−", "-")
        )
        for ring, ridge in zip(
            rings[2 * k : 2 * k + 2], (cv.best_ridge[method], cv.one_se_ridge[method]), strict=True
        ):
            assert_array_equal(ring.get_xdata(), [ridge])
            assert ring.get_ydata()[0] == value[np.flatnonzero(cv.ridges == ridge)[0]]
    assert {"best ridge", "largest ridge within one standard error"} <= set(entries(ax))
    other = entries(plot.cross_validation(cv, score="rsa"))
    assert "best ridge by cross-pearson" in other


@pytest.mark.slow
@pytest.mark.parametrize("score", [None, "r2", "cross-r2-off-diagonal"])
def test_each_baseline_is_a_line_named_with_its_score(cv, score):
    ax = plot.cross_validation(cv, score=score)
    drawn = [tuple(line.get_ydata()) for line in ax.lines]
    for name, label in BASELINES.items():
        value, _ = cv.baseline(name, score)
        assert (value, value) in drawn
        assert any(text.startswith(f"{label}: {plot._style.number(value)}") for text in entries(ax))


def test_shuffles_are_a_dotted_mean_and_the_middle_of_their_pooled_scores(cv, noisy):
    ax = plot.cross_validation(cv)
    dotted = [line for line in ax.lines if line.get_linestyle() == ":" and len(line.get_xdata())]
    order = np.argsort(cv.ridges)
    pooled = cv.scores["exact"].shuffled.pooled(cv.score)
    assert len(dotted) == 3
    assert_allclose(dotted[0].get_ydata(), pooled.mean(axis=0)[order])
    low, high = np.quantile(pooled, [0.05, 0.95], axis=0)
    path = ax.collections[[c.get_alpha() for c in ax.collections].index(0.13)].get_paths()[0].vertices
    inside = low[order] > ax.get_ylim()[0]
    for edge in (low[order][inside], high[order]):
        assert all(np.isclose(path[:, 1], value).any() for value in edge)
    k = cv.place("exact")
    says = f"exact, 3 shuffles: mean {pooled[:, k].mean():.2f} there, 5–95 % {low[k]:.2f} to {high[k]:.2f}"
    assert says.replace("-", "−") in [text.replace("-", "−") for text in entries(ax)]
    plain = plot.cross_validation(fc.cross_validate(noisy.X, noisy.Y, relative_ridges=[0.1], refit=None))
    assert not any("shuffle" in text for text in entries(plain))


def test_a_ridge_of_zero_has_a_place_of_its_own_left_of_all_others(noisy):
    cv = fc.cross_validate(noisy.X, noisy.Y, relative_ridges=[1e-1, 0, 1e-3], folds=2, refit=None)
    ax = plot.cross_validation(cv)
    (line,) = means(ax)
    zero, *others = line.get_xdata()
    assert_array_equal(others, [1e-3, 1e-1])
    assert 1e-5 < zero < 1e-3
    labels = [text.get_text() for text in ax.get_xticklabels()]
    assert labels[0] == "0"
    assert ax.get_xticks()[0] == zero
    assert_legible(ax.figure)
    alone = fc.cross_validate(noisy.X, noisy.Y, ridges=[0], method="linear", folds=2, refit=None)
    assert [text.get_text() for text in plot.cross_validation(alone).get_xticklabels()] == ["0"]


@pytest.mark.slow
def test_axes_say_what_ridge_and_score_are(cv, noisy):
    ax = plot.cross_validation(cv)
    assert ax.get_xlabel() == "ridge λ / largest eigenvalue (larger: gains closer to 1)"
    assert ax.get_ylabel() == "correlation of covariances ± standard error\nheld-out × trained pairs"
    assert (
        plot.cross_validation(cv, score="r2").get_ylabel().startswith("R² ± standard error\nheld-out pairs")
    )
    assert "60 channels, 16 conditions, 4 folds" in ax.figure.get_suptitle()
    absolute = fc.cross_validate(noisy.X, noisy.Y, ridges=[10, 20], refit=None, repeats=2)
    ax = plot.cross_validation(absolute)
    assert ax.get_xlabel() == "ridge λ (larger: gains closer to 1)"
    assert [text.get_text() for text in ax.get_xticklabels()] == ["10", "20"]
    assert "10 folds (2 repeats)" in ax.figure.get_suptitle()


def test_the_title_of_one_method_is_its_verdict(noisy):
    cv = fc.cross_validate(noisy.X, noisy.Y, relative_ridges=[0.1, 1.0], refit=None)
    title = " ".join(plot.cross_validation(cv).figure.get_suptitle().split())
    assert title.endswith(cv.verdict.words)


def test_every_score_has_words():
    assert list(WORDS) == list(SCORES)


@pytest.mark.covering(2)
@pytest.mark.parametrize("legend", slow_but({"above"}, ["auto", "above", "inside"]))
@pytest.mark.parametrize("shuffles", [0, 2])
@pytest.mark.parametrize("method", [["exact"], ["exact", "linear"]])
def test_a_column_of_a_paper_is_enough(noisy, method, shuffles, legend):
    cv = fc.cross_validate(
        noisy.X, noisy.Y, method=method, shuffles=shuffles, folds=4, relative_ridges=[1e-2, 1e-1, 1.0],
        refit=None,
    )  # fmt: skip
    figure = Figure(figsize=(3.4, 2.6))
    ax = plot.cross_validation(cv, ax=figure.subplots(), legend=legend)
    assert_legible(figure)
    texts = entries(ax)
    assert all(any(label in text for text in texts) for label in BASELINES.values())
    assert any("shuffles: 5–95 %" in text for text in texts) == bool(shuffles)
    box = ax.get_legend().get_window_extent()
    assert box.x0 >= 0
    assert box.y1 <= figure.bbox.y1
    assert box.x1 <= figure.bbox.x1
    assert ax.get_window_extent().height > 0.4 * figure.bbox.height
    if legend != "above":  # no point or line is behind it
        bottom = ax.transData.inverted().transform((0, box.y0))[1]
        drawn = [line.get_ydata() for line in ax.lines if len(line.get_ydata())]
        assert max(np.nanmax(y) for y in drawn) < bottom


def test_a_legend_can_be_left_out_and_a_place_that_is_none_is_refused(cv):
    assert plot.cross_validation(cv, legend=False).get_legend() is None
    for legend in ("below", True, None):
        with pytest.raises(ValueError, match="Argument 'legend' must be 'auto', 'above', 'inside' or False"):
            plot.cross_validation(cv, legend=legend)
    with pytest.raises(ValueError, match="Argument 'score' must be"):
        plot.cross_validation(cv, score="r3")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("N", "D", "options"),
    [
        (3, 12, {"method": ["exact", "linear", "line-search", "diagonal"], "shuffles": 1}),
        (60, 10, {"folds": 2}),
        pytest.param(60, 20, {"relative_ridges": [1e-2], "shuffles": 2}, marks=pytest.mark.slow),
        (60, 20, {"relative_ridges": np.logspace(-12, 3, 31).tolist(), "method": "linear", "repeats": 3}),
        pytest.param(60, 20, {"folds": [np.arange(20) < 10], "method": "linear"}, marks=pytest.mark.slow),
    ],
)
def test_studies_of_every_shape_are_legible(N, D, options):
    sim = fc.datasets.simulate(N, D, noise=0.5)
    if isinstance(options.get("folds"), list):  # one fold: no standard error
        (half,) = options["folds"]
        options = options | {"folds": [(half, ~half)]}
    ax = plot.cross_validation(fc.cross_validate(sim.X, sim.Y, refit=None, **options))
    assert_legible(ax.figure)
    assert ("±" in ax.get_ylabel()) == ("single folds" in " ".join(entries(ax)))


def test_scores_that_are_not_finite_are_said_not_to_be(noisy):
    Y = noisy.Y.copy()
    Y[:, ::2] = 0.0  # nothing to predict where the even ones are held out
    odd = np.arange(16) % 2 == 1
    cv = fc.cross_validate(
        noisy.X, Y, folds=[(odd, ~odd)], method=["exact", "linear"], refit=None, relative_ridges=[0.1, 1.0]
    )
    ax = plot.cross_validation(cv, score="r2")
    assert {"exact: R² is not defined", "linear: R² is not defined"} <= set(entries(ax))
    assert "gains of one: not defined" in entries(ax)
    assert_legible(ax.figure)


# ---- the path


@pytest.fixture(scope="module")
def paths(noisy):
    return {method: fc.ridge_path(noisy.X, noisy.S, method=method) for method in METHODS}


def test_the_path_shows_losses_relative_to_gains_of_one_and_the_range_of_gains(paths):
    losses, spread = plot.ridge_path(paths["exact"])
    path = paths["exact"]
    assert_allclose(losses.lines[0].get_xdata(), np.sort(path.relative_ridges))
    assert_allclose(losses.lines[0].get_ydata(), path.loss / path.loss_at_one)
    quantiles = np.quantile(path.gains, [0.05, 0.95, 0.5], axis=1)
    for line, values in zip(spread.lines, quantiles, strict=False):
        assert_allclose(line.get_ydata(), values)
    assert [1, 1] in [list(line.get_ydata()) for line in losses.lines]
    assert [1, 1] in [list(line.get_ydata()) for line in spread.lines]
    assert entries(losses) == ["exact", "gains of one"]


def test_paths_in_any_order_of_ridges_are_drawn_alike(noisy):
    ridges = [3.0, 100.0, 30.0, 0.0]
    forth, back = (
        plot.ridge_path(fc.ridge_path(noisy.X, noisy.S, ridges=r, method="exact"))[0].lines[0]
        for r in (ridges, sorted(ridges))
    )
    assert_array_equal(forth.get_xdata(), back.get_xdata())
    assert_allclose(forth.get_ydata(), back.get_ydata())
    assert (np.diff(forth.get_ydata()) > 0).all()


def test_losses_off_the_scale_are_marked_at_the_edge(paths):
    losses, spread = plot.ridge_path(paths)
    top = losses.get_ylim()[1]
    assert top < 2
    wild = {name: np.sort(p.relative_ridges[p.loss / p.loss_at_one > top]) for name, p in paths.items()}
    marked = carets(losses, top)
    for places, expected in zip(marked, [w for w in wild.values() if len(w)], strict=True):
        assert_allclose(np.log10(places), np.log10(expected), atol=0.2)
    assert len(wild["diagonal"])
    assert not len(wild["exact"])
    assert entries(losses) == [*METHODS, "gains of one", "off the scale"]
    low, high = spread.get_ylim()
    assert high - low < 3 * np.ptp(np.quantile(paths["exact"].gains, [0.05, 0.95], axis=1))


@pytest.mark.slow
@pytest.mark.covering(1)
@pytest.mark.parametrize("N", [3, 60])
@pytest.mark.parametrize("ridges", [[1.0], [0.0], [0.0, 1e-3, 1.0], [0.01, 0.02]])
def test_paths_of_every_shape_are_legible(N, ridges):
    sim = fc.datasets.simulate(N, 8)
    path = fc.ridge_path(sim.X, sim.S, relative_ridges=ridges, method="line-search")
    assert_legible(plot.ridge_path(path)[0].figure)
    assert_legible(plot.ridge_path({f"a rather long name of a path {k}": path for k in range(3)})[0].figure)


def test_a_path_that_has_nothing_to_gain_stays_at_the_loss_of_gains_of_one():
    X = np.diag([1.0, 2.0, 4.0])
    losses, _ = plot.ridge_path(fc.ridge_path(X, fc.covariance(X), relative_ridges=[0.1, 1.0]))
    assert_allclose(losses.lines[0].get_ydata(), 1.0)


@pytest.mark.slow
def test_a_study_is_one_legible_figure_of_three_panels(cv, paths):
    figure = plot.study(cv, paths)
    assert len(figure.axes) == 3
    assert tuple(figure.get_size_inches()) == (9.0, 8.0)
    assert_legible(figure)


@pytest.mark.slow
def test_studies_are_drawn_on_the_axes_that_are_given(cv, paths):
    figure = Figure()
    ax, *two = figure.subplots(1, 3)
    assert plot.cross_validation(cv, ax=ax) is ax
    assert list(plot.ridge_path(paths, axes=two)) == two
    assert len(figure.axes) == 3
    assert figure.get_suptitle() == ""


# ---- the whole figure


@pytest.mark.slow
@pytest.mark.parametrize("shape", slow_but({(148, 48)}, [(3, 2), (148, 48), (2000, 30)]), ids=str)
def test_nothing_in_a_summary_overlaps_or_is_cut(shape):
    N, D = shape
    sim = fc.datasets.simulate(N, D)
    fits = {m: fc.fit(sim.X, sim.S, ridge=10.0 * N, method=m) for m in ("linear", "diagonal")}
    names = [f"a long name of an odour {i}" for i in range(D)]
    assert_legible(plot.summary(sim.X, sim.S, fits))
    assert_legible(plot.summary(sim.X, sim.S, fits, order="cluster", labels=names))


def test_single_parts_are_legible(sim, fits):
    assert_legible(plot.covariances(sim.X, sim.S, fits["linear"])[0].figure)
    assert_legible(plot.gains(fits).figure)


@pytest.mark.slow
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


@pytest.mark.slow
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
    with pytest.raises(ImportError, match="fastcov-gains"):
        plot.cross_validation(None)
    with pytest.raises(ImportError, match="fastcov-gains"):
        plot.ridge_path(fc.ridge_path(sim.X, sim.S))


@pytest.mark.slow
def test_module_is_imported_without_matplotlib():
    code = "import sys, fastcov.plot; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_studies_refuse_what_is_none(sim, cv, paths):
    stack = fc.ridge_path(sim.X, np.stack([sim.S, sim.S]), relative_ridges=[1.0])
    for error, words, call in (
        (TypeError, "'cv' must be a CrossValidation, not dict: pass what fastcov.cross_validate",
         lambda: plot.cross_validation({})),
        (TypeError, "'path' must be a RidgePath or a mapping of names to RidgePaths, not list",
         lambda: plot.ridge_path([paths["exact"]])),
        (TypeError, "'path' must be a RidgePath or a mapping", lambda: plot.ridge_path({"exact": cv})),
        (ValueError, "'path' must hold at least one RidgePath", lambda: plot.ridge_path({})),
        (ValueError, r"'path\['linear'\]' must be a path to one target, not to 2",
         lambda: plot.ridge_path(stack)),
        (ValueError, "'axes' must be two Axes, not 1",
         lambda: plot.ridge_path(paths, axes=Figure().subplots(1, 1, squeeze=False)[0])),
    ):  # fmt: skip
        with pytest.raises(error, match=words) as caught:
            call()
        assert str(caught.value).startswith("Argument '")


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
