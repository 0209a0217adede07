"""What a fit is of, in sentences: gains, or a connectivity. Texts about either take their nouns from here."""

from __future__ import annotations

import dataclasses

from .._connectivity.solve import METHODS, MIXED
from .score import BASELINES

# Forms of verbs after a single subject, where they are not the plural with an s.
_SINGULAR = {"are": "is", "were": "was", "do": "does", "reach": "reaches", "Do": "Does"}


@dataclasses.dataclass(frozen=True)
class Nouns:
    """Nouns of one kind of model.

    Attributes
    ----------
    subject, they, some, short, kind : str
        What was fitted: after "the", as a pronoun, in general ("whether gains "
            "predict"), where there is little
        room, and after a method.
    fitted : str
        The same in general, as opposed to what was not fitted.
    at_one, with_one : str
        The baseline in which X is as it is, and the same after "with".
    row, each : str
        The fit in a table of scores, and in a sentence beside one gain for each group.
    larger, near : str
        What a larger ridge does, and what it keeps.
    lead : str
        How it was fitted; takes `channels`.
    """

    subject: str
    they: str
    some: str
    short: str
    kind: str
    fitted: str
    at_one: str
    with_one: str
    row: str
    each: str
    larger: str
    near: str
    lead: str
    plural: bool = True

    def do(self, verb: str) -> str:
        """A verb, given in the plural, as the subject needs it."""
        return verb if self.plural else _SINGULAR.get(verb, f"{verb}s")

    @property
    def labels(self) -> dict[str, str]:
        """Names of the baselines in tables and figures."""
        return BASELINES | {"one": self.at_one}


GAINS = Nouns(
    subject="gains",
    they="they",
    some="gains",
    short="the gains",
    kind="gains",
    fitted="fitted gains",
    at_one=BASELINES["one"],
    with_one="all gains at one",
    row="gains by channel",
    each="a gain for each channel",
    larger="gains closer to 1",
    near="gains near one",
    lead="One gain was fitted to each of {channels}",
)
CONNECTIVITY = Nouns(
    subject="connectivity",
    they="it",
    some="a connectivity",
    short="W",
    kind="connectivity",
    fitted="a fitted connectivity",
    at_one="W = 0",
    with_one="W = 0",
    row="connectivity",
    each="the connectivity",
    larger="W closer to 0",
    near="W small",
    lead="A connectivity W, which turns responses X into (I + W)X, was fitted to {channels}",
    plural=False,
)
BOTH = dataclasses.replace(
    GAINS,
    subject="gains and the connectivity",
    some="gains with a connectivity",
    short="z and W",
    kind="fit",
    fitted="fitted gains with a connectivity",
    with_one="all gains at one and W = 0",
    row="gains and connectivity",
    each="gains with a connectivity",
    larger="closer to X",
    near="them near X",
    lead="Gains z and a connectivity W, for responses (diag(z) + W)X, were fitted to {channels}",
)
# Of several methods, some of which fit gains and some a connectivity.
FITS = dataclasses.replace(
    GAINS,
    subject="fits",
    some="fits",
    short="the fits",
    kind="fits",
    fitted="fits",
    row="fits",
    each="the fit",
    larger="closer to X",
    near="them near X",
    lead="Gains, and connectivities W that turn responses X into (I + W)X, were fitted to {channels}",
)


def nouns_of(*methods: str) -> Nouns:
    """The nouns for what a method fits, or for what several methods fit."""
    found = {BOTH if m == MIXED else CONNECTIVITY if m in METHODS else GAINS for m in methods}
    return found.pop() if len(found) == 1 else FITS
