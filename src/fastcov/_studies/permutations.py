"""Random orders of conditions for the permutation null, in which there is nothing to find."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._inputs.validation import check_choice

Order = NDArray[np.intp]

PERMUTE = ("conditions", "within", "groups")
# What None and the missing values of NumPy and pandas are as text.
MISSING = ("None", "nan", "NaT", "<NA>")


def make_orders(
    n: int,
    D: int,
    random: np.random.Generator,
    groups: Any = None,
    permute: str = "conditions",
    conditions: Sequence[Order] | None = None,
) -> tuple[list[Order], float]:
    """n random orders of D conditions, and the number of possible orders.

    `permute` is "conditions" for any order, "within" if conditions change places within their groups only, or
    "groups" if whole groups of the same size change places. With `conditions`, the columns of each, these are
    moved as wholes, to where others with as many columns were.
    """
    check_choice("permute", permute, PERMUTE)
    if (groups is None) != (permute == "conditions"):
        raise ValueError(
            "Argument 'groups' must be a label for each condition where permute is 'within' or 'groups', and "
            f"left out otherwise, not {'left out' if groups is None else 'given'} with permute={permute!r}."
        )
    if conditions is not None:
        return _of_conditions(n, D, random, groups, permute, conditions)
    if groups is None:
        return [random.permutation(D) for _ in range(n)], math.exp(min(700.0, math.lgamma(D + 1)))
    members = members_of("groups", groups, D)
    if permute == "within":
        count = math.fsum(math.lgamma(len(part) + 1) for part in members)
        orders = [_within(members, D, random) for _ in range(n)]
    else:
        sizes: dict[int, list[Order]] = {}
        for part in members:
            sizes.setdefault(len(part), []).append(part)
        count = math.fsum(math.lgamma(len(parts) + 1) for parts in sizes.values())
        orders = [_as_wholes(list(sizes.values()), D, random) for _ in range(n)]
    if count == 0.0:
        raise ValueError(
            "Argument 'groups' must leave something to permute, not "
            + ("one condition in each group: use permute='groups'." if permute == "within"
               else "groups that are all of different sizes, or one: use permute='within'.")
        )  # fmt: skip
    return orders, math.exp(min(700.0, count))


def _of_conditions(
    n: int, D: int, random: np.random.Generator, groups: Any, permute: str, conditions: Sequence[Order]
) -> tuple[list[Order], float]:
    """n random orders of conditions that have several columns, within groups of conditions if given."""
    if permute == "groups":
        raise ValueError(
            "Argument 'permute' must be 'conditions' or 'within' where trials are given, not 'groups': "
            "conditions already move as wholes. Leave 'groups' out."
        )
    labels = np.zeros(D, np.intp)
    if groups is not None:
        for k, part in enumerate(members_of("groups", groups, D)):
            labels[part] = k
    alike: dict[tuple[int, int], list[Order]] = {}
    for part in conditions:
        if np.ptp(labels[part]):
            raise ValueError(
                "Argument 'groups' must have one label for all trials of a condition, not two for columns "
                f"{', '.join(map(str, part[:5]))}."
            )
        alike.setdefault((int(labels[part[0]]), len(part)), []).append(part)
    count = math.fsum(math.lgamma(len(parts) + 1) for parts in alike.values())
    if n and count == 0.0:
        raise ValueError(
            "Argument 'trials' must leave conditions to permute, not conditions that all have different "
            "numbers of trials (in their group): leave trials out until some have as many."
        )
    orders = [_as_wholes(list(alike.values()), D, random) for _ in range(n)]
    return orders, math.exp(min(700.0, count))


def members_of(name: str, groups: Any, D: int) -> list[Order]:
    """The places of each label, of one for each of the D columns."""
    try:
        given = list(groups)
    except TypeError:
        raise TypeError(
            f"Argument '{name}' must be a label for each of the {D} conditions, not {groups!r}."
        ) from None
    if len(given) != D:
        raise ValueError(
            f"Argument '{name}' must have a label for each of the {D} conditions, not {len(given)}."
        )
    labels = np.array([str(label) for label in given])
    for i, label in enumerate(given):
        if labels[i] in MISSING and not isinstance(label, (str, bytes)):
            raise ValueError(
                f"Argument '{name}' must have a label for each of the {D} conditions, not {label!r} for "
                f"number {i} (counted from 0): name it, or leave the column out."
            )
    return [np.flatnonzero(labels == label) for label in dict.fromkeys(labels.tolist())]


def _within(members: list[Order], D: int, random: np.random.Generator) -> Order:
    order = np.arange(D)
    for part in members:
        order[part] = random.permutation(part)
    return order


def _as_wholes(sizes: list[list[Order]], D: int, random: np.random.Generator) -> Order:
    order = np.arange(D)
    for parts in sizes:
        for place, k in enumerate(random.permutation(len(parts))):
            order[parts[place]] = parts[k]
    return order
