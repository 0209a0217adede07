"""Random orders of conditions for the permutation null, in which there is nothing to find."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._inputs.validation import check_choice

Order = NDArray[np.intp]

PERMUTE = ("conditions", "within", "groups")


def make_orders(
    n: int, D: int, random: np.random.Generator, groups: Any = None, permute: str = "conditions"
) -> tuple[list[Order], float]:
    """n random orders of D conditions, and the number of possible orders.

    `permute` is "conditions" for any order, "within" if conditions change places within their groups only, or
    "groups" if whole groups of the same size change places.
    """
    check_choice("permute", permute, PERMUTE)
    if (groups is None) != (permute == "conditions"):
        raise ValueError(
            "Argument 'groups' must be a label for each condition where permute is 'within' or 'groups', and "
            f"left out otherwise, not {'left out' if groups is None else 'given'} with permute={permute!r}."
        )
    if groups is None:
        return [random.permutation(D) for _ in range(n)], math.exp(min(700.0, math.lgamma(D + 1)))
    members = _members(groups, D)
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


def _members(groups: Any, D: int) -> list[Order]:
    try:
        labels = np.array([str(label) for label in groups])
    except TypeError:
        raise TypeError(
            f"Argument 'groups' must be a label for each of the {D} conditions, not {groups!r}."
        ) from None
    if len(labels) != D:
        raise ValueError(
            f"Argument 'groups' must have a label for each of the {D} conditions, not {len(labels)}."
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
