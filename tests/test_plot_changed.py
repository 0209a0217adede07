"""The figure of channels that changed."""

import numpy as np
import pytest

pytest.importorskip("matplotlib")

import fastcov as fc

N = 12


def table(**changes):
    random = np.random.default_rng(0)
    gain = np.exp(0.5 * random.standard_normal(N))
    gain[:2] = 3.0, 0.2
    unknown = np.full(N, np.nan)
    columns = {"gain": gain, "se": np.full(N, 0.1), "lower": gain - 0.2, "upper": gain + 0.2}
    columns |= {"resolution": np.linspace(0, 1, N), "p": unknown, "q": unknown, "folds": unknown}
    columns |= {"starts": unknown, "resamples": unknown}
    columns["changed"] = (columns["lower"] > 1) | (columns["upper"] < 1)
    fields = {"names": tuple(f"g{i}" for i in range(N)), "by": "cells", "level": 0.95, "fdr": 0.1}
    return fc.ChannelTable(**(columns | fields | {"tested": False} | changes))


def texts(ax):
    return [label.get_text() for label in ax.get_yticklabels()]


def test_those_that_changed_are_named_from_both_sides():
    found = table()
    axes = fc.plot.changed_channels(found, n=4)
    named = texts(axes[1])
    above = {f"g{i}" for i in np.flatnonzero(found.lower > 1)}
    below = {f"g{i}" for i in np.flatnonzero(found.upper < 1)}
    assert len(named) == 4
    assert len(above & set(named)) == len(below & set(named)) == 2
    gains = [found.gain[int(name[1:])] for name in named]
    assert gains == sorted(gains)
    assert axes[1].get_title(loc="left") == f"The surest 4 of {len(above | below)} gains that changed"
    legend = [text.get_text() for text in axes[0].get_legend().get_texts()]
    assert legend[:2] == [f"{len(above)} above one", f"{len(below)} below one"]


def test_every_changed_channel_is_named_where_one_side_has_few():
    found = table()
    some = np.zeros(N, bool)
    some[0] = True
    some[np.flatnonzero(found.upper < 1)[:3]] = True
    assert len(texts(fc.plot.changed_channels(table(changed=some), n=4)[1])) == 4


@pytest.mark.parametrize(
    ("tested", "title"),
    [
        (True, "No gain passes the test; the surest intervals"),
        (False, "No interval leaves out one; the nearest"),
    ],
)
def test_where_none_changed_it_says_so(tested, title):
    wide = {} if tested else {"lower": np.zeros(N), "upper": np.full(N, 4.0)}
    axes = fc.plot.changed_channels(table(changed=np.zeros(N, bool), tested=tested, **wide), n=5)
    assert axes[1].get_title(loc="left") == title
    assert len(texts(axes[1])) == 5


def test_an_open_point_is_a_gain_that_the_ridge_sets():
    found = table()
    axes = fc.plot.changed_channels(found, n=N)
    points = [line for line in axes[1].lines if line.get_marker() == "o"]
    for point, name in zip(points, texts(axes[1]), strict=True):
        full = found.resolution[int(name[1:])] > 0.8
        assert (point.get_markerfacecolor() != "white") == full


def test_bad_arguments():
    with pytest.raises(TypeError, match="'table' must be a ChannelTable, not int"):
        fc.plot.changed_channels(3)
    with pytest.raises(ValueError, match="'n' must be"):
        fc.plot.changed_channels(table(), n=0)
    with pytest.raises(ValueError, match="'axes' must be two Axes, not 1"):
        fc.plot.changed_channels(table(), axes=[None])
