"""Options of studies of held-out conditions, and of which pairs of conditions a fit is about."""

from __future__ import annotations

from typing import Any

import click

from ._files import read_labels
from ._options import _together, at_most_one

# As in `_results.moments.SCORES`, whose import takes time that --help does not have.
SCORES = (
    "r2", "r2-diagonal", "r2-off-diagonal", "pearson", "rsa", "cosine", "cross-r2", "cross-r2-off-diagonal",
    "cross-pearson", "cross-rsa", "cross-cosine",
)  # fmt: skip
SCORE = "cross-pearson"
LEAVE_OUT = ("leave-one-out", "leave-two-out")


class Folds(click.ParamType):  # type: ignore[type-arg, unused-ignore]  # generic in newer versions only
    """A number of folds, or which conditions are left out at once."""

    name = "FOLDS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        if value in LEAVE_OUT:
            return str(value)
        try:
            number = int(value)
        except ValueError:
            number = 0
        if number < 2:
            self.fail(f"{value!r} is no number in the range x>=2, nor {' or '.join(LEAVE_OUT)}.", param, ctx)
        return number


folds_option = click.option(
    "--folds", type=Folds(), help="Folds, drawn at random, or leave-one-out or leave-two-out.  [default: 5]"
)
score_option = click.option(
    "--score", type=click.Choice(SCORES), default=SCORE, show_default=True, metavar="SCORE",
    help=f"What chooses the ridge and is tested: {', '.join(SCORES)}. Those with cross are of pairs of a "
    "held-out and a trained condition.",
)  # fmt: skip
permute_options = _together(
    click.option("--permute-within", metavar="FILE", help="A label for each condition, one a line: shuffles "
                 "exchange conditions of the same label alone, as where classes of stimuli are known to "
                 "differ."),
    click.option("--permute-groups", metavar="FILE", help="A label for each condition, one a line: shuffles "
                 "exchange groups of the same size as wholes, as trials of one stimulus."),
)  # fmt: skip
problem_options = _together(
    click.option("--nuisance", type=click.Choice(["diagonal", "constant"]), multiple=True,
                 help="What is fitted beside the gains: one number for all variances, or for all pairs. "
                 "May be given twice."),
    click.option("--pairs", metavar="off-diagonal|FILE", help="Which pairs of conditions count: all but "
                 "variances, or weights, conditions x conditions, 0 for those that do not.  [default: all]"),
)  # fmt: skip


def check_permute(within: str | None, groups: str | None) -> None:
    at_most_one("--permute-within", within, "--permute-groups", groups)


def permuted(within: str | None, groups: str | None, n: int) -> dict[str, Any]:
    """What may be exchanged among n conditions, as `cross_validate` takes it."""
    if within is not None:
        return {"groups": read_labels(within, n, "--permute-within"), "permute": "within"}
    if groups is not None:
        return {"groups": read_labels(groups, n, "--permute-groups"), "permute": "groups"}
    return {}


def problem_of(nuisance: tuple[str, ...], pairs: str | None) -> dict[str, Any]:
    """Which pairs count and what is fitted beside gains: what was asked for alone."""
    found: dict[str, Any] = {"nuisance": list(dict.fromkeys(nuisance))} if nuisance else {}
    if pairs is not None:
        from .._inputs.files import open_array

        found["pairs"] = pairs if pairs == "off-diagonal" else open_array(pairs, name="pairs")[:]
    return found


def pairs_file(pairs: str | None) -> str | None:
    """The file that --pairs names, if it does."""
    return None if pairs == "off-diagonal" else pairs
