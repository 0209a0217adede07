"""What is checked before anything is computed, so that nothing is refused after an hour of shuffles."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from .._connectivity.solve import METHODS
from .._inputs.labels import Labels
from .._inputs.validation import check_between, check_choice, check_whole
from .._model.target import aligned, record_of
from .._rows.responses import check_responses, over_trials
from .._studies.trial_columns import unrepeated

# The name of a population that is given without one.
ONLY = "Y"
# How errors about a population begin where it is the only one.
ARGUMENT = "Argument 'Y'"
# Methods whose gains have an infinitesimal jackknife; others need bootstraps.
SMOOTH = ("exact", "linear")


@dataclasses.dataclass(frozen=True)
class Populations:
    """Responses by population, without trials and in the order of the conditions of X; and as they were."""

    responses: dict[str, Any]
    given: dict[str, Any]
    alone: bool  # one population, without a name

    @classmethod
    def of(cls, X: Any, Y: Any, trials: Any, nan_policy: str, center: bool) -> Populations:
        """Align the populations with X, whose trials are averaged already."""
        labels, D = Labels.of("X", X), int(check_responses("X", X).shape[1])
        if isinstance(Y, Mapping):
            if not Y:
                raise ValueError("Argument 'Y' must hold at least one population, not none.")
            if wrong := [name for name in Y if not isinstance(name, str)]:
                raise TypeError(
                    f"Argument 'Y' must name populations by text, not {wrong[0]!r}: use a dict of str to "
                    "responses."
                )
            given = {(name, f"Y[{name!r}]"): each for name, each in Y.items()}
        else:
            given = {(ONLY, "Y"): Y}
        found, raw = {}, {}
        for (name, argument), each in given.items():
            raw[name] = unrepeated(argument, each, trials)
            mean = over_trials(argument, raw[name], nan_policy, center=center)
            found[name] = aligned(argument, _wide(argument, mean, D, labels), labels)
        return cls(found, raw, not isinstance(Y, Mapping))

    @contextlib.contextmanager
    def named(self, name: str) -> Iterator[None]:
        """Errors of functions that know one population, 'Y', say which of several it is."""
        try:
            yield
        except (TypeError, ValueError) as error:
            text = str(error)
            if not self.alone and text.startswith(ARGUMENT):
                error.args = (f"Argument 'Y[{name!r}]'{text.removeprefix(ARGUMENT)}",)
            raise

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Cells and conditions by population."""
        return {name: tuple(check_responses(name, each).shape) for name, each in self.responses.items()}

    @property
    def moved(self) -> str | None:
        """The first population whose cells were replaced by others with the same covariance, if any."""
        replaced = (name for name, each in self.responses.items() if "moved" in (record_of(each) or {}))
        return next(replaced, None)


def _wide(argument: str, Y: Any, D: int, labels: Labels) -> Any:
    """Responses with as many conditions as X; other names are left to the alignment, which names them."""
    shape = check_responses(argument, Y).shape
    own = Labels.of(argument, Y)
    if shape[1] != D and (own.conditions is None or labels.conditions is None):
        raise ValueError(
            f"Argument '{argument}' must have the {D} conditions of X in its columns, not {shape[1]}: is one "
            "of them conditions x channels?"
        )
    return Y


def check(
    method: Any,
    by: Any,
    n_boot: Any,
    shuffles: Any,
    group_shuffles: Any,
    deals: Any,
    fdr: Any,
    level: Any,
    n_starts: Any,
    n: int,
) -> tuple[float, float]:
    """Refuse at once what would be refused after an hour of shuffles; gives `level` and `fdr`."""
    check_choice("by", by, ("cells", "conditions", "both"))
    if not isinstance(method, str):
        raise TypeError(f"Argument 'method' must be one method, not {method!r}: study one after another.")
    boots = check_whole("n_boot", n_boot, 0)
    if method not in (*SMOOTH, *METHODS) and not boots:
        raise ValueError(
            f"Argument 'n_boot' must be above 0 with method={method!r}, not 0: only gains of "
            f"{' and '.join(map(repr, SMOOTH))} fits have intervals without bootstraps."
        )
    if check_whole("n_starts", n_starts, 1) > 1 and method != "exact":
        raise ValueError(
            f"Argument 'method' must be 'exact' where n_starts is above 1, not {method!r}: other fits do not "
            "depend on where they start."
        )
    for name, value in (("shuffles", shuffles), ("group_shuffles", group_shuffles), ("deals", deals)):
        if 0 < check_whole(name, value, 0) < 19:
            raise ValueError(
                f"Argument '{name}' must be at least 19 for a p of 0.05, or 0 for none, not {value}."
            )
    if deals and n < 2:
        raise ValueError(
            f"Argument 'deals' must be 0 for one population, not {deals}: there is none to compare it with."
        )
    return check_between("level", level, 0.95), check_between("fdr", fdr, 0.1)


def check_cells(populations: Populations, cells: Any, deals: int) -> None:
    """Refuse what needs single cells, if some were replaced because values are missing."""
    if (name := populations.moved) is None or not (cells or deals):
        return
    raise ValueError(
        f"Argument '{'groups' if cells else 'deals'}' must be without cells of Y where values are missing, "
        f"as in {name!r}: nan_policy='pairwise' keeps covariances alone. Leave out these cells."
    )
