"""Of a product of parameters, cases enough that every few values meet: a covering array.

What goes wrong depends on one parameter or on two that meet, hardly ever on the one combination of six
values that no other case comes near. So a test of four solvers, three shapes, two precisions and two flags
need not run 96 times: a dozen cases have every value of each beside every value of every other one.
"""

import collections
import itertools


def covered(choice, strength):
    """What a case covers: its combinations of `strength` parameters, each a position and a value."""
    return set(itertools.combinations(enumerate(choice), min(strength, len(choice))))


def covering(choices, strength):
    """Places of the choices that cover all that the others do, few and in order; greedy, always the same.

    Each choice is a tuple of one value for each parameter.
    """
    of_each = [covered(choice, strength) for choice in choices]
    missing, taken, used = set().union(*of_each), [], collections.Counter()
    while missing:
        # Of those that add as many, the one whose values were taken least.
        most = max(map(len, of_each))
        place = min(
            (place for place in range(len(choices)) if len(of_each[place]) == most),
            key=lambda place: sum(used[value] for value in enumerate(choices[place])),
        )
        taken.append(place)
        used.update(enumerate(choices[place]))
        new = frozenset(of_each[place])
        missing -= new
        for found in of_each:
            found -= new
    return sorted(taken)


def kept(items, strength, whole=None):
    """Those of a test's cases that run: what covers them, and all of those with `whole` in their name."""
    first = [item for item in items if whole and whole in item.callspec.id]
    rest = [item for item in items if not (whole and whole in item.callspec.id)]
    # All cases share the objects that they were made of: one value is one object.
    choices = [tuple(map(id, item.callspec.params.values())) for item in rest]
    wanted = {id(rest[place]) for place in covering(choices, strength)} | set(map(id, first))
    return [item for item in items if id(item) in wanted]
