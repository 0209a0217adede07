"""What is checked before anything is computed, so that nothing is refused after an hour of shuffles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._inputs.labels import Labels
from .._inputs.validation import check_choice, check_whole
from .._model.target import aligned
from .._rows.responses import check_responses

# The name of a population that is given without one.
ONLY = "Y"
# Methods whose gains have an infinitesimal jackknife; others need bootstraps.
SMOOTH = ("exact", "linear")


def populations_of(X: Any, Y: Any) -> dict[str, Any]:
    """Responses by population, with their conditions in the order of those of X."""
    labels, D = Labels.of("X", X), int(check_responses("X", X).shape[1])
    if not isinstance(Y, Mapping):
        return {ONLY: aligned("Y", _wide("Y", Y, D, labels), labels)}
    if not Y:
        raise ValueError("Argument 'Y' must hold at least one population, not none.")
    found = {}
    for name, each in Y.items():
        if not isinstance(name, str):
            raise TypeError(
                f"Argument 'Y' must name populations by text, not {name!r}: use a dict of str to responses."
            )
        argument = f"Y[{name!r}]"
        found[name] = aligned(argument, _wide(argument, each, D, labels), labels)
    return found


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
    method: Any, by: Any, n_boot: Any, shuffles: Any, group_shuffles: Any, deals: Any, fdr: Any, level: Any, n: int
) -> None:
    """Refuse at once what would be refused after an hour of shuffles."""
    check_choice("by", by, ("cells", "conditions", "both"))
    if not isinstance(method, str):
        raise TypeError(f"Argument 'method' must be one method, not {method!r}: study one after another.")
    boots = check_whole("n_boot", n_boot, 0)
    if method not in SMOOTH and not boots:
        raise ValueError(
            f"Argument 'n_boot' must be above 0 with method={method!r}, not 0: only gains of "
            f"{' and '.join(map(repr, SMOOTH))} fits have intervals without bootstraps."
        )
    for name, value in (("shuffles", shuffles), ("group_shuffles", group_shuffles)):
        if 0 < check_whole(name, value, 0) < 19:
            raise ValueError(
                f"Argument '{name}' must be at least 19 for a p of 0.05, or 0 for none, not {value}."
            )
    if check_whole("deals", deals, 0) and n < 2:
        raise ValueError(
            f"Argument 'deals' must be 0 for one population, not {deals}: there is none to compare it with."
        )
    for name, value, usual in (("fdr", fdr, 0.1), ("level", level, 0.95)):
        if not (isinstance(value, (int, float)) and 0.0 < value < 1.0):
            raise ValueError(f"Argument '{name}' must be between 0 and 1, not {value!r}: {usual} is usual.")


def shapes(populations: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(name, check_responses(name, each)) for name, each in populations.items()]
