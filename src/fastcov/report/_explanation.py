"""Make the part of a report that an explanation of the fit adds."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import plot
from .._explaining.explanation import Explanation
from .._results.fit import Fit, target_of_stack
from ..plot._style import is_narrow
from ._sections import Picture, Row, Section, Table
from ._words import number, score, share

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

# Number of covariance modes, side by side on paper, and one below the other on a phone.
_MODES = 4
# Number of channels in the table of why gains moved, and of bars of each sign in a waterfall.
_CHANNELS, _BARS = 8, 5
# Number of modes in the table of those that make up the gains.
_LEADING = 6
# Least and largest number of pairs of conditions that are named, and the share of the overlap that is enough.
_PAIRS, _MOST = (3, 5), 0.8
_AGAINST = "A share below 0 is of a pair of conditions that pulls the gain the other way."
# Largest differences of two covariances, and of two ridges, that count as rounding.
_SAME, _SAME_RIDGE = 1e-6, 1e-9

# Terms of this part, for the glossary.
EXPLAINED = (
    Row("Atom", "What raising one gain a little does to the covariance: which pairs of conditions become "
        "more alike, and which less. Every channel has its own."),
    Row("Overlap", "How well a channel’s atom points to what is missing. Above 0, a larger gain brings the "
        "covariance nearer to the target; below 0, a smaller one. The largest are not always the channels "
        "that move most, because others do the same work."),
    Row("Whitened", "After what channels have in common is shared out among them, so that the same error is "
        "not counted once for each channel that could correct it."),
    Row("Mode", "A pattern of gains that move together, and the pattern of the covariance that they change. "
        "Modes do not mix: each corrects its own part of the error."),
    Row("Importance", "The share of what the fit takes off the loss that is lost if this gain stays at one "
        "and all others are fitted again. A channel that moves far may be of little importance: others can "
        "do the same."),
    Row("Effective degrees of freedom", "How many independent patterns the ridge leaves free to be fitted. "
        "Far fewer than channels: single gains are not determined by themselves."),
)  # fmt: skip


def explanation_sections(explanation: Any, fit: Fit, channel: Any = None) -> list[Section]:
    """Make figures and tables of an explanation of the fit and of one of its channels; none without one."""
    if explanation is None:
        if channel is not None:
            raise ValueError(
                f"Argument 'channel' must be left out without an explanation, not {channel!r}: pass what "
                "fastcov.explain returns as explanation."
            )
        return []
    if not isinstance(explanation, Explanation):
        raise TypeError(
            f"Argument 'explanation' must be an Explanation, not {type(explanation).__name__}: pass what "
            "fastcov.explain returns."
        )
    if fit.groups is not None:
        raise ValueError(
            "Argument 'explanation' must be left out for gains that groups share, not given: an explanation "
            "is of a gain for each channel."
        )
    target, fit = _explained(explanation, fit)
    names = {
        name: getattr(fit, name) or getattr(explanation.fit, name) for name in ("channels", "conditions")
    }
    why = dataclasses.replace(explanation, fit=dataclasses.replace(explanation.fit, **names))
    plain = fit.method == "linear" and "at_bounds" not in fit.stats and np.ndim(fit.ridge) == 0
    which = "this fit" if plain else f"the linear fit without bounds, with a ridge of {number(why.ridge)}"
    index = int(np.argmax(np.abs(fit.delta))) if channel is None else why.contributions(channel).index
    total = why.total or 1.0
    bound = "" if why.complete else "at most "
    (moved, *matters), pairs = _tables(why, fit, plain), _pairs(why, index)
    return [
        Section(
            "Why these gains",
            sentences=[
                f"This part is of {which}{target}. To first order each gain moves the covariance in one "
                "direction, the channel’s atom; the fit finds the mixture of atoms that comes closest to the "
                "error, what the target has and the input has not.",
                f"{bound.capitalize()}{why.unreachable / total:.1%} of the squared error no gains can "
                f"correct, to first order; the ridge holds back {why.left_by_ridge / total:.1%}, and the "
                "rest is corrected.",
                _about(why, fit, index, plain),
                *_permuted(why),
                *filter(None, [why.remark]),
            ],
            pictures=_pictures(why, index, plain),
            rows=_rows(why),
            tables=[moved, *pairs, *matters, *_leading(why)],
            notes=[_AGAINST] * any(row[1].startswith("−") for table in pairs for row in table.rows),
            warnings=_warnings(why.fit, fit, plain),
        )
    ]


def _explained(explanation: Explanation, fit: Fit) -> tuple[str, Fit]:
    """Return the fit that an explanation explains, after its name if that is one target of a stack.

    Raises an error if the explanation is that of another fit.
    """
    other = explanation.fit
    if other.stats["shape"] != fit.stats["shape"]:
        raise ValueError(
            f"Argument 'explanation' must be of the responses that were fitted, {fit.stats['shape']}, not of "
            f"{other.stats['shape']}: explain the same X."
        )
    apart = _apart(explanation.fit.covariance_at_one(), fit.covariance_at_one())
    if apart > _SAME:
        raise ValueError(
            "Argument 'explanation' must be of the responses that were fitted, not of others, whose "
            f"covariance with all gains at one differs by {apart:.1e} of the largest entry: explain the same "
            "X, with the same center."
        )
    fits = [fit] if fit.delta.ndim == 1 else [target_of_stack(fit, k) for k in range(len(fit.delta))]
    apart, k = min((_apart(other.target(), each.target()), k) for k, each in enumerate(fits))
    if apart > _SAME:
        raise ValueError(
            "Argument 'explanation' must be of the target that was fitted, not of another, which differs by "
            f"{apart:.1e} of the largest entry: explain the same S or responses."
        )
    if np.ndim(fit.ridge) == 0 and abs(other.ridge - fit.ridge) > _SAME_RIDGE * abs(fit.ridge):
        raise ValueError(
            f"Argument 'explanation' must be of the ridge that was fitted, {fit.ridge:.10g}, not of "
            f"{other.ridge:.10g}: pass ridge=fit.ridge to fastcov.explain."
        )
    pairs = zip(fit.channels or (), other.channels or (), strict=False)
    i, (name, found) = next(((i, pair) for i, pair in enumerate(pairs) if pair[0] != pair[1]), (0, ("", "")))
    if name != found:
        raise ValueError(
            f"Argument 'explanation' must be of the channels that were fitted, in their order, and channel "
            f"{i} is {name!r}, not {found!r}: explain the same X."
        )
    return f" to target {k + 1}" if len(fits) > 1 else "", fits[k]


def _apart(A: Array, B: Array) -> float:
    """Return the largest difference of two matrices, as a share of the largest entry of the second."""
    size = float(np.abs(B).max())
    return float(np.abs(A - B).max()) / (size or 1.0)


def _warnings(linear: Fit, fit: Fit, plain: bool) -> list[str]:
    """Say how to read an explanation if its fit overshoots."""
    if not linear.overshoots:
        return []
    of = "of that" if share(linear).endswith("%") else "that"
    first = "This fit" if plain else "The linear fit that is explained here"
    found = "" if plain else f" and {score(fit.r2)} of the fit that this page is about"
    rest = (
        "take the gains from a larger ridge or from method='exact'" if plain or fit.overshoots
        else "the gains to use are those of the fit that this page is about"
    )  # fmt: skip
    return [
        f"{first} overshoots: its exact loss is {share(linear)} {of} with all gains at one. Its R² is "
        f"{score(linear.r2)}, against {score(linear.stats['r2_at_one'])} with all gains at one{found}. Its "
        "gains are further from one than first order holds. What follows says which channels share which "
        f"error, and which way that pulls them; not how far gains should go: {rest}."
    ]


def _about(why: Explanation, fit: Fit, index: int, plain: bool) -> str:
    """Describe one channel in a sentence."""
    found, one = why.contributions(why.channels[index]), score(1.0 + fit.delta[index])
    linear = "" if plain else f" in this fit and of {score(1.0 + found.delta)} in the linear fit"
    rest = found.delta - found.diagonal
    others = "add" if rest > 0 else "take"
    return (
        f"{_named(why, index)} has a gain of {one}{linear}; alone it would have one of "
        f"{score(1.0 + found.diagonal)}, and the other channels {others} {number(abs(rest))}."
    )


def _permuted(why: Explanation) -> list[str]:
    """Say how much the fit corrects of the target, and of permuted targets, in which it can find nothing."""
    if not len(why.corrected_permuted):
        return []
    corrected = 1.0 - (why.unreachable + why.left_by_ridge) / (why.total or 1.0)
    return [
        "Of targets whose conditions are permuted, which have nothing to do with these responses, the same "
        f"fit corrects {why.corrected_permuted.mean():.1%} on average, against {corrected:.1%}, and the "
        f"ridge holds back {why.left_by_ridge_permuted.mean():.1%}. What gains correct of permuted targets "
        "they correct where there is nothing to find."
    ]


def _named(why: Explanation, index: int) -> str:
    return f"Channel {why.channels[index]}"


def _pictures(explanation: Explanation, index: int, plain: bool) -> list[Picture]:
    channel = explanation.channels[index]
    linear = "" if plain else " in the linear fit"
    # Long names of conditions make the panels narrower, and because these are square, rows are lower.
    row = 2.6 - 0.02 * min(14, max((len(str(name)) for name in explanation.fit.conditions or ()), default=0))
    modes = max(1, min(_MODES, len(explanation.spectrum)))
    corrected = 1.0 - (explanation.unreachable + explanation.left_by_ridge) / (explanation.total or 1.0)
    return [
        Picture(
            "What of the error gains can correct",
            f"One bar for the squared error: {corrected:.0%} corrected, the rest held back by the ridge or "
            "out of reach of any gains.",
            "A smaller ridge moves the second part into the first, to first order; the exact loss may rise "
            "all the same. The last stays: it takes more than one gain for each channel to correct it.",
            lambda figure: plot.reachable(explanation, ax=figure.subplots()),
            (1.9, 2.3),
        ),
        Picture(
            "How much of each pattern, or mode, the ridge lets the fit correct",
            f"The squared singular values of {len(explanation.spectrum)} modes in falling order, with the "
            "ridge as a line, and the share of each mode that is corrected.",
            "Gains act on the covariance through modes. Those well above the line of the ridge are corrected "
            "in full, those below hardly at all.",
            lambda figure: plot.spectrum(explanation, ax=figure.subplots()),
            (3.6, 3.8),
        ),
        Picture(
            f"The {modes} patterns of the covariance that gains change most easily" if modes > 1
            else "The pattern of the covariance that gains change",
            "Matrices over pairs of conditions: the changes of the covariance that gains make most easily.",
            "Red pairs of conditions become more alike, blue ones less, where the gains move along the mode. "
            "The titles say how much of each mode is corrected, and its share of the loss and of the gains.",
            lambda figure: _modes(figure, explanation, modes),
            (3.2, 0.8 + row * -(-modes // 2)),
        ),
        Picture(
            "What each channel shares with the error, and its gain",
            "Two scatter plots of all channels: the change of the gain against the overlap of the channel’s "
            "atom with the error, as it is and whitened.",
            "The raw overlap is what each channel would correct by itself; channels that are alike compete "
            "for it, so that gains differ from it. The whitened one is the same after the correlations among "
            "atoms are taken out.",
            lambda figure: plot.overlaps(explanation, axes=_pair(figure)),
            (4.2, 7.6),
        ),
        Picture(
            f"The gain of channel {channel}{linear}",
            f"A waterfall of what channel {channel} would have as its gain by itself, and what each other "
            "channel adds to it or takes from it.",
            "Other channels correct part of the same error: what they take is why fitting each gain by "
            "itself fails.",
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
    """Make the rows of the numbers of an explanation, with the meaning of each."""
    bound = "" if explanation.complete else "; a bound, since not all modes were computed"
    dof = number(explanation.dof)
    if not explanation.complete:
        dof += f" to {number(explanation.dof_upper)}"
    permuted = []
    if len(explanation.delta_correlations):
        permuted = [
            Row("Gains of permuted targets", f"correlation {explanation.delta_correlations.mean():.2f}",
                "Correlation of these gains and those fitted to the target with its conditions permuted, the "
                f"mean of {len(explanation.delta_correlations)} such targets. Far above 0, much of the gains "
                "is of the responses, not of the target.")
        ]  # fmt: skip
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
        *permuted,
    ]  # fmt: skip


def _tables(explanation: Explanation, fit: Fit, plain: bool) -> list[Table]:
    """Tabulate the channels that moved most: gains, gains alone, what changed them most, and how they matter.

    Importances are a table of their own: a page on a phone has no room for a further column.
    """
    rows, lost = [], []
    known = explanation._quick and explanation.loss_removed > 0
    for i in np.argsort(-np.abs(fit.delta), kind="stable")[:_CHANNELS]:
        name = explanation.channels[i]
        found = explanation.contributions(name)
        (up, down) = found.largest(1)
        most = max(up + down, key=lambda pair: abs(pair[1]), default=None)
        by = "none" if most is None else f"{most[0]} ({'+' if most[1] > 0 else ''}{number(most[1])})"
        gains = [] if plain else [score(1.0 + fit.delta[i])]
        rows.append((str(name), *gains, score(1.0 + found.delta), score(1.0 + found.diagonal), by))
        if known:
            lost.append((str(name), f"{explanation.importance[i] / explanation.loss_removed:.1%}"))
    linear = ("Gain",) if plain else ("Gain", "Linear fit")
    head = ("Channel", *linear, "Alone", "Changed most by")
    tables = [Table("The gains that are furthest from one", head, rows)]
    if known:
        tables.append(Table("How much these channels matter", ("Channel", "Importance"), lost))
    return tables


def _leading(explanation: Explanation) -> list[Table]:
    """Tabulate the modes that make up the gains."""
    columns = explanation.shrinkage, explanation.delta_shares, explanation.loss_shares
    rows = [(str(k + 1), *(f"{column[k]:.1%}" for column in columns)) for k in explanation.order[:_LEADING]]
    head = ("Mode", "Corrected", "Of the gains", "Of the loss removed")
    caption = "The modes with the largest share of the gains, of the squared change ‖δ‖²"
    return [Table(caption, head, rows)] if rows else []


def _pairs(explanation: Explanation, index: int) -> list[Table]:
    """Tabulate the pairs of conditions, and single ones, that make up most of a channel's overlap."""
    overlap = float(explanation.overlaps[index])
    if overlap == 0:
        return []
    # A pair of two different conditions appears twice in the matrix.
    rows, columns = np.triu_indices(explanation.fit.stats["shape"][1])
    parts = explanation.overlap_pairs(explanation.channels[index])[rows, columns]
    parts = np.where(rows == columns, parts, 2.0 * parts) / overlap
    error = (explanation.fit.target() - explanation.fit.covariance_at_one())[rows, columns]
    names = explanation.fit.conditions or tuple(f"condition {j}" for j in range(len(rows)))
    least, most = _PAIRS
    found: list[tuple[str, str, str]] = []
    sum_so_far = 0.0
    for k in np.argsort(-np.abs(parts), kind="stable")[:most]:
        if parts[k] == 0 or (len(found) >= least and sum_so_far >= _MOST):
            break
        one, other = names[rows[k]], names[columns[k]]
        up, down = ("stronger", "weaker") if rows[k] == columns[k] else ("more alike", "less alike")
        pair = f"{one} alone" if rows[k] == columns[k] else f"{one} and {other}"
        found.append((pair, f"{100 * parts[k]:.1f}%".replace("-", "−"), up if error[k] > 0 else down))
        sum_so_far += float(parts[k])
    caption = (
        f"Conditions behind channel {explanation.channels[index]}: the largest shares of its overlap, which "
        f"pulls its gain {'up' if overlap > 0 else 'down'}"
    )
    return [Table(caption, ("Conditions", "Share", "In the target"), found)]
