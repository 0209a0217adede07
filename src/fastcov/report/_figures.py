"""Draw the figures of a report that need only the fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .. import plot
from .._results.connectivity import Connectivity
from .._results.fit import Fit
from .._results.nouns import nouns_of
from ..plot._fits import draw_covariances
from ..plot._style import is_narrow
from ._sections import Picture
from ._words import number, score

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Letters of the names of conditions that leave room for the panels of a wide and of a narrow figure.
_LETTERS = (24, 14)


def pictures(fit: Fit) -> list[Picture]:
    """Return the pictures of the covariances and the gains."""
    gains = fit.gains
    share = np.mean(np.abs(fit.delta) < 0.1)
    return [
        covariances_picture(fit),
        Picture(
            "Gains of all channels",
            f"Gains in rising order, from {number(gains.min())} to {number(gains.max())} with a median of "
            f"{number(np.median(gains))}; {share:.0%} are within 0.1 of one.",
            "Each point is a channel, in the order of the gains. The line at 1 is a channel that is left as "
            "it is; above it the channel is amplified, below it damped.",
            lambda figure: plot.gains(fit, ax=figure.subplots()),
            (3.2, 3.2),
        ),
    ]


def covariances_picture(fit: Fit | Connectivity) -> Picture:
    r2, at_one, nouns = score(fit.r2), score(fit.stats["r2_at_one"]), nouns_of(fit.method)
    return Picture(
        "Covariance of the input, the target, and the fit",
        f"Three matrices with a row and a column for each condition, in one colour scale: the covariance "
        f"with {nouns.with_one} (R² {at_one}), the target, and the covariance with the fitted "
        f"{nouns.subject} (R² {r2}).",
        "Each square is a pair of conditions: red where channels respond alike to both, blue where they "
        "respond in opposite ways. The better the fit, the more the last looks like the target. "
        "Conditions that are alike in the target stand together.",
        lambda figure: _covariances(figure, fit),
        (3.4, 9.8),
    )


def _covariances(figure: Figure, fit: Fit | Connectivity) -> None:
    narrow = is_narrow(figure)
    axes = figure.subplots(3, 1) if narrow else figure.subplots(1, 3)
    names = None
    if fit.conditions is not None:
        names = [_short(str(name), _LETTERS[narrow]) for name in fit.conditions]
    draw_covariances(
        fit.covariance_at_one(), fit.target(), fit, axes=list(axes), labels=names, order="cluster"
    )


def _short(name: str, letters: int) -> str:
    """Omit the middle of a long name, because names mostly differ at an end."""
    half = letters // 2
    return name if len(name) <= letters else f"{name[:half]}…{name[-half:]}"
