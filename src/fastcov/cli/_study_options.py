"""Options of studies of held-out conditions, and options of the pairs of conditions that a fit counts."""

from __future__ import annotations

from typing import Any

import click

from ._files import read_labels
from ._options import _together, at_most_one

# A copy of `_results.moments.SCORES`, whose import would make --help slow.
SCORES = (
    "r2", "r2-diagonal", "r2-off-diagonal", "pearson", "rsa", "cosine", "cross-r2", "cross-r2-off-diagonal",
    "cross-pearson", "cross-rsa", "cross-cosine",
)  # fmt: skip
SCORE = "cross-pearson"
LEAVE_OUT = ("leave-one-out", "leave-two-out")


class Folds(click.ParamType):  # type: ignore[type-arg, unused-ignore]  # generic in newer versions only
    """A number of folds, or a rule for leaving conditions out."""

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
    "--folds", type=Folds(), help="Number of random folds, or leave-one-out or leave-two-out.  [default: 5]"
)
score_option = click.option(
    "--score", type=click.Choice(SCORES), default=SCORE, show_default=True, metavar="SCORE",
    help=f"Score that chooses the ridge and is tested: {', '.join(SCORES)}. Scores with cross are over pairs "
    "of a held-out and a trained condition.",
)  # fmt: skip
permute_options = _together(
    click.option("--permute-within", metavar="FILE", help="A label for each condition, one per line: "
                 "shuffles exchange only conditions with the same label, for example if classes of stimuli "
                 "are known to differ."),
    click.option("--permute-groups", metavar="FILE", help="A label for each condition, one per line: "
                 "shuffles exchange whole groups of the same size, such as the trials of one stimulus."),
)  # fmt: skip
pairs_option = click.option(
    "--pairs", metavar="off-diagonal|FILE", help="Which pairs of conditions count: all except variances, or "
    "a file of weights, conditions x conditions, with 0 for pairs that do not count.  [default: all]",
)  # fmt: skip
problem_options = _together(
    click.option("--nuisance", type=click.Choice(["diagonal", "constant"]), multiple=True,
                 help="Term to fit together with the gains: one number for all variances, or one for all "
                 "pairs. May be given twice."),
    pairs_option,
)  # fmt: skip


def check_permute(within: str | None, groups: str | None) -> None:
    at_most_one("--permute-within", within, "--permute-groups", groups)


def permuted(within: str | None, groups: str | None, n: int) -> dict[str, Any]:
    """Return the arguments of `cross_validate` that say which of n conditions may be exchanged."""
    if within is not None:
        return {"groups": read_labels(within, n, "--permute-within"), "permute": "within"}
    if groups is not None:
        return {"groups": read_labels(groups, n, "--permute-groups"), "permute": "groups"}
    return {}


def problem_of(nuisance: tuple[str, ...], pairs: str | None) -> dict[str, Any]:
    """Return the arguments for pairs and nuisance terms, but only those that were given."""
    found: dict[str, Any] = {"nuisance": list(dict.fromkeys(nuisance))} if nuisance else {}
    if pairs is not None:
        from .._inputs.files import open_array

        found["pairs"] = pairs if pairs == "off-diagonal" else open_array(pairs, name="pairs")[:]
    return found


def pairs_file(pairs: str | None) -> str | None:
    """Return the file that --pairs names, or None."""
    return None if pairs == "off-diagonal" else pairs
