"""plot.models: a row for each model with the numbers of the comparison, and nothing overlaps or is cut."""

import dataclasses

import numpy as np
import pytest
from cases import data

import fastcov as fc
from fastcov._results import score_kernels
from fastcov._results.noise_ceiling import NoiseCeiling

pytest.importorskip("matplotlib")

from fastcov.plot._models import draw_models, height_of
from fastcov.plot._style import new_figure

N, M, D = 24, 30, 14
ON = score_kernels.ON
NAMES = ["one", "no-x", "scaled", "gains", "gains+nuisance", "free"]


@pytest.fixture(scope="module")
def found():
    X = data(N, D)
    gains = np.exp(np.linspace(-1.6, 1.1, N))
    mix = np.random.default_rng(3).standard_normal((M, N)) / np.sqrt(N)
    Y = mix @ (gains[:, np.newaxis] * (X - X.mean(axis=0)))
    return fc.compare(X, Y, NAMES, folds=4, relative_ridges=[1e-2, 1e-1])


def texts(ax):
    return [text.get_text() for text in ax.texts]


def number(value):
    text = f"{value:.2f}"
    return ("0.00" if text == "-0.00" else text).replace("-", "−")


def test_each_model_has_its_score_and_its_folds(found):
    scores, compared = fc.plot.models(found).axes
    assert scores.get_xlim()[1] > found.ceiling.ceiling()
    shown = texts(scores)
    for name in NAMES:
        assert name in shown
        assert found[name].words in shown
        assert number(found.value(name)[0]) in shown
    dots = [line for line in scores.lines if line.get_alpha() == 0.35]
    for line, name in zip(dots, NAMES, strict=True):
        np.testing.assert_array_equal(line.get_xdata(), found.by_fold(name))
    assert f"noise ceiling {number(found.ceiling.ceiling())}" in shown
    assert "the reference" in texts(compared)


def test_bars_are_the_intervals_of_differences(found):
    _, compared = fc.plot.models(found, score="r2", choice="best", reference="free").axes
    bars = [tuple(line.get_xdata()) for line in compared.lines if line.get_linewidth() == 2.2]
    expected = [(each.lower, each.upper) for each in found.differences("free", "r2", "best")]
    assert bars == expected
    full = [line.get_markerfacecolor() != "white" for line in compared.lines if line.get_markersize() == 8]
    assert full == [not low <= 0 <= high for low, high in expected]
    assert "free" in compared.get_title(loc="left")


def overlapping(figure):
    """Pairs of texts that share room, and texts beyond the figure."""
    renderer = figure.canvas.get_renderer()
    boxes = {}
    for ax in figure.axes:
        pieces = [*ax.texts, ax.xaxis.label, ax.title, ax._left_title]
        boxes |= {
            (text.get_text(), i): text.get_window_extent(renderer)
            for i, text in enumerate(pieces)
            if text.get_text()
        }
    names = list(boxes)
    for i, one in enumerate(names):
        box = boxes[one]
        inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
        if not inside:
            yield one
        for other in names[i + 1 :]:
            a, b = box.padded(-1.0), boxes[other].padded(-1.0)
            if a.overlaps(b):
                yield one, other


@pytest.mark.parametrize("narrow", [False, True])
def test_nothing_overlaps_or_is_cut(found, narrow):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    if narrow:
        figure = new_figure(4.2, height_of(found, narrow=True))
        draw_models(figure, found, "cross-pearson", None, "gains")
    else:
        figure = fc.plot.models(found)
    FigureCanvasAgg(figure).draw()
    assert list(overlapping(figure)) == []


def test_folds_far_below_are_marked_at_the_edge(found):
    """R² of one fold is −50: the axis does not go there, and an arrow says so."""
    one = found["gains"]
    scores = one.cv.scores["exact"]
    sums = scores.nested.moments.sums.copy()
    size = sums[0, ON + score_kernels.SIZE] + sums[0, score_kernels.DIAGONAL_SIZE]
    sums[0, ON + score_kernels.LEFT] = 51 * size - sums[0, score_kernels.DIAGONAL_LEFT]
    moments = dataclasses.replace(scores.nested.moments, sums=sums)
    worse = dataclasses.replace(scores, nested=dataclasses.replace(scores.nested, moments=moments))
    cv = dataclasses.replace(one.cv, scores={"exact": worse})
    changed = dataclasses.replace(found, models=found.models | {"gains": dataclasses.replace(one, cv=cv)})
    np.testing.assert_allclose(changed.by_fold("gains", "r2").min(), -50.0)
    ax, _ = fc.plot.models(changed, score="r2").axes
    assert ax.get_xlim()[0] > -50.0
    arrows = [line for line in ax.lines if line.get_marker() == "<" and len(line.get_xdata())]
    assert len(arrows) == 1


def test_a_score_that_is_not_defined_leaves_its_row_empty(found):
    ceiling = NoiseCeiling("cells", {name: np.full(3, np.nan) for name in found.ceiling.reliability}, 2.0,
                           found.ceiling.stats)  # fmt: skip
    models = dict(found.models)
    for name in ("one", "no-x", "scaled"):
        sums = np.full_like(models[name].baseline.sums, np.nan)
        moments = dataclasses.replace(models[name].baseline, sums=sums)
        models[name] = dataclasses.replace(models[name], baseline=moments)
    scores, compared = fc.plot.models(dataclasses.replace(found, models=models, ceiling=ceiling)).axes
    assert sum(line.get_markersize() == 8 for line in scores.lines) == 3
    assert sum(line.get_markersize() == 8 for line in compared.lines) == 2


@pytest.mark.parametrize("given", [None, 3])
def test_anything_else_is_refused(given):
    with pytest.raises(TypeError, match="Argument 'comparison' must be a Comparison"):
        fc.plot.models(given)


def test_unknown_names_are_refused(found):
    with pytest.raises(KeyError, match="'name'"):
        fc.plot.models(found, reference="none")
    with pytest.raises(ValueError, match="'score'"):
        fc.plot.models(found, score="none")
    with pytest.raises(ValueError, match="'choice'"):
        fc.plot.models(found, choice="none")
