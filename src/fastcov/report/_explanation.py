"""The part of a report that an explanation of the fit adds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .. import plot
from .._explanation import Explanation
from .._result import Fit
from ..plot._style import is_narrow
from ._sections import Picture, Row, Section, Table
from ._words import number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Covariance modes beside each other on paper, and below each other on a phone.
_MODES = 4
# Channels in the table of why gains moved, and bars of either sign in a waterfall.
_CHANNELS, _BARS = 8, 5


def explanation_sections(explanation: Any, fit: Fit) -> list[Section]:
    """Figures and tables of an explanation of the fit: none without one."""
    if explanation is None:
        return []
    if not isinstance(explanation, Explanation):
        raise TypeError(
            f"Argument 'explanation' must be an Explanation, not {type(explanation).__name__}: pass what "
            "fastcov.explain returns."
        )
    shape = explanation.fit.stats["shape"]
    if shape != fit.stats["shape"]:
        raise ValueError(
            f"Argument 'explanation' must be of the responses that were fitted, {fit.stats['shape']}, not of "
            f"{shape}: explain the same X."
        )
    plain = fit.method == "linear" and "at_bounds" not in fit.stats and np.ndim(fit.ridge) == 0
    which = f"the linear fit without bounds, with a ridge of {number(explanation.ridge)}"
    if plain and explanation.ridge == fit.ridge:
        which = "this fit"
    total = explanation.total or 1.0
    reach = explanation.unreachable / total
    bound = "" if explanation.complete else "at most "
    largest = int(np.argmax(np.abs(explanation.delta)))
    channel = explanation.channels[largest]
    return [
        Section(
            "Why these gains",
            sentences=[
                f"This part is of {which}. To first order each gain moves the covariance in one direction, "
                "the channel’s atom; the fit finds the mixture of atoms that comes closest to the error, "
                "what the target has and the input has not.",
                f"{bound.capitalize()}{reach:.1%} of the squared error no gains can correct, to first order; "
                f"the ridge holds back {explanation.left_by_ridge / total:.1%}, and the rest is corrected.",
            ],
            pictures=_pictures(explanation, channel),
            rows=_rows(explanation),
            tables=[_table(explanation)],
        )
    ]


def _pictures(explanation: Explanation, channel: Any) -> list[Picture]:
    modes = max(1, min(_MODES, len(explanation.spectrum)))
    corrected = 1.0 - (explanation.unreachable + explanation.left_by_ridge) / (explanation.total or 1.0)
    return [
        Picture(
            "What of the error gains can correct",
            f"One bar for the squared error: {corrected:.0%} corrected, the rest held back by the ridge or "
            "out of reach of any gains.",
            "A smaller ridge moves the second part into the first. The last stays: it takes more than one "
            "gain for each channel to correct it.",
            lambda figure: plot.reachable(explanation, ax=figure.subplots()),
            (1.9, 2.3),
        ),
        Picture(
            "Which modes of the error are corrected",
            f"The squared singular values of {len(explanation.spectrum)} modes in falling order, with the "
            "ridge as a line, and the share of each mode that is corrected.",
            "Gains act on the covariance through modes. Those well above the line of the ridge are corrected "
            "in full, those below hardly at all.",
            lambda figure: plot.spectrum(explanation, ax=figure.subplots()),
            (3.6, 3.8),
        ),
        Picture(
            f"The first {modes} covariance modes" if modes > 1 else "The covariance mode",
            "Matrices over pairs of conditions: the changes of the covariance that gains make most easily.",
            "Red pairs of conditions become more alike, blue ones less, where the gains move along the mode. "
            "The titles say how much of each mode is corrected, and its share of the loss and of the gains.",
            lambda figure: _modes(figure, explanation, modes),
            (3.2, 0.8 + 2.6 * -(-modes // 2)),
        ),
        Picture(
            "Overlaps and gains",
            "Two scatter plots of all channels: the change of the gain against the overlap of the channel’s "
            "atom with the error, as it is and whitened.",
            "Left, what each channel would correct by itself; channels that are alike compete for it, so "
            "that gains differ from it. Right, the same after the correlations among atoms are taken out.",
            lambda figure: plot.overlaps(explanation, axes=_pair(figure)),
            (4.2, 7.6),
        ),
        Picture(
            f"The gain of channel {channel}",
            f"A waterfall of what channel {channel} would have as its gain by itself, and what each other "
            "channel adds to it or takes from it.",
            "The channel whose gain is furthest from one. Others correct part of the same error: what they "
            "take is why fitting each gain by itself fails.",
            lambda figure: plot.contributions(explanation, channel, _BARS, ax=figure.subplots()),
            (4.4, 4.8),
        ),
    ]  # fmt: skip


def _modes(figure: Figure, explanation: Explanation, n: int) -> None:
    rows, columns = (-(-n // 2), min(n, 2)) if is_narrow(figure) else (1, n)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for empty in axes[n:]:
        empty.remove()
    plot.covariance_modes(explanation, n, axes=list(axes[:n]), order="cluster")


def _pair(figure: Figure) -> Any:
    return figure.subplots(2, 1) if is_narrow(figure) else figure.subplots(1, 2)


def _rows(explanation: Explanation) -> list[Row]:
    """The numbers of an explanation, with what each means."""
    bound = "" if explanation.complete else "; a bound, since not all modes were computed"
    dof = number(explanation.dof)
    if not explanation.complete:
        dof += f" to {number(explanation.dof_upper)}"
    return [
        Row("Squared error", number(explanation.total), "‖e₀‖² = ‖S − C‖² of the target S and the covariance "
            "C with all gains at one. Twice the loss there."),
        Row("Reachable", number(explanation.reachable), "What some gains could correct, to first "
            f"order{bound}."),
        Row("Unreachable", number(explanation.unreachable), "What no gains can correct, to first order: the "
            f"linear loss stays above half of it{bound}."),
        Row("Left by the ridge", number(explanation.left_by_ridge), "What is reachable, and not corrected so "
            "that gains stay near one."),
        Row("Effective degrees of freedom", dof, f"So many modes as if corrected in full, of "
            f"{len(explanation.spectrum)} that were computed."),
        Row("Linear loss", f"{number(explanation.linear_loss)}; exact {number(explanation.fit.loss)}", "What "
            "the linear fit takes the loss to be, and what it is. Where the second is much larger, the "
            "explanation is one of a problem that the gains have left."),
    ]  # fmt: skip


def _table(explanation: Explanation) -> Table:
    """The channels that moved most: their gain, what it would be alone, and who changed that most."""
    rows = []
    for i in np.argsort(-np.abs(explanation.delta), kind="stable")[:_CHANNELS]:
        name = explanation.channels[i]
        found = explanation.contributions(name)
        (up, down) = found.largest(1)
        most = max(up + down, key=lambda pair: abs(pair[1]), default=None)
        by = "none" if most is None else f"{most[0]} ({'+' if most[1] > 0 else ''}{number(most[1])})"
        rows.append((str(name), number(1.0 + found.delta), number(1.0 + found.diagonal), by))
    head = ("Channel", "Gain", "Gain if alone", "Changed most by")
    return Table("The gains of the linear fit that are furthest from one", head, rows)
