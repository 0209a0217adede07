"""The models that `compare` knows by name, and others that are given by their options."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._results.score import BASELINES
from .._studies.permutation_test import RIDGES

# A connectivity predicts patterns at smaller ridges than gains do: on recordings of (871, 52) the correlation
# of pairs is 0.62 at 1e-4 and 3e-4, 0.61 at 1e-3 and 0.50 at 1e-2, and R² is highest at 2e-3.
FREE_RIDGES = (2e-4, 6e-4, 2e-3, 1e-2, 1e-1, 1.0)
# Parameters of the baselines that are fitted to the training block: two means; a, β and γ.
PARAMETERS = {"one": 0, "no-x": 2, "scaled": 3}
# What `groups` of `compare` stands for in the options of a model, until labels are known.
LABELS = object()
# The model that options without a known name amend.
PLAIN = "gains"


@dataclasses.dataclass(frozen=True)
class Model:
    """A model: its name, what it is in a few words, and the options of `cross_validate` that fit it."""

    name: str
    words: str
    options: Mapping[str, Any]

    @property
    def is_baseline(self) -> bool:
        return self.name in BASELINES


def _exact(**options: Any) -> dict[str, Any]:
    return {"method": "exact", **options}


MODELS = {
    "one": Model("one", "X as it is", {}),
    "no-x": Model("no-x", "no X: two means", {}),
    "scaled": Model("scaled", "X scaled and shifted", {}),
    "one-gain": Model("one-gain", "one gain for all channels", _exact(channel_groups="one")),
    "groups": Model("groups", "a gain for each group", _exact(channel_groups=LABELS)),
    "gains": Model("gains", "a gain for each channel", _exact()),
    "gains+nuisance": Model(
        "gains+nuisance", "gains, and βI + γ11ᵀ", _exact(nuisance=("diagonal", "constant"))
    ),
    "free": Model("free", "all connections", {"method": "free", "relative_ridges": FREE_RIDGES}),
    "symmetric": Model(
        "symmetric", "symmetric connections", {"method": "symmetric", "relative_ridges": FREE_RIDGES}
    ),
    "mixed": Model("mixed", "gains and connections", {"method": "mixed", "relative_ridges": FREE_RIDGES}),
    "psd": Model("psd", "semi-definite connections", {"method": "psd", "relative_ridges": FREE_RIDGES}),
}
# What a model may have of its own. Everything else is shared, so that all have the same folds and scores.
OPTIONS = (
    "method", "ridges", "relative_ridges", "nuisance", "bounds", "channel_groups", "free_ridge", "solver",
    "tol", "max_iterations",
)  # fmt: skip
# Options of `run_study` that have no default there.
DEFAULTS: dict[str, Any] = {
    "method": "exact", "ridges": None, "relative_ridges": None, "nuisance": None, "bounds": None,
    "free_ridge": None, "solver": "auto", "tol": None, "max_iterations": 1000,
}  # fmt: skip


def models_of(
    models: Any, groups: NDArray[np.str_] | None, n_channels: int, relative_ridges: Any
) -> list[Model]:
    """Check models, given by name or as a mapping of name to options, and fill in all options."""
    if isinstance(models, str):
        raise TypeError(
            f"Argument 'models' must be a list of names, or a mapping of name to options, not {models!r}: "
            f"use [{models!r}]."
        )
    if not isinstance(models, (Mapping, Sequence)):
        raise TypeError(
            "Argument 'models' must be a list of names, or a mapping of name to options, not "
            f"{type(models).__name__}: the names are {', '.join(MODELS)}."
        )
    names = list(models)
    if wrong := [name for name in names if not isinstance(name, str)]:
        raise TypeError(f"Argument 'models' must name models by text, not {wrong[0]!r}.")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"Argument 'models' must name each model once, not {twice!r} twice.")
    given = models if isinstance(models, Mapping) else dict.fromkeys(names)
    found = [_one(name, given[name], groups, n_channels, relative_ridges) for name in names]
    if all(model.is_baseline for model in found):
        raise ValueError(
            "Argument 'models' must name at least one model that is fitted, such as 'gains', not only "
            f"baselines: {', '.join(names) or 'none'}."
        )
    return found


def _one(
    name: str, options: Any, groups: NDArray[np.str_] | None, n_channels: int, relative_ridges: Any
) -> Model:
    """One model with all its options."""
    if not options and isinstance(options, (Mapping, type(None))) and name not in MODELS:
        raise ValueError(
            f"Argument 'models' must name models that fastcov has, {', '.join(MODELS)}, not {name!r}: for "
            "another, pass a mapping of name to options of cross_validate, as "
            f"{{{name!r}: {{'bounds': (0, 1)}}}}."
        )
    if not isinstance(options, (Mapping, type(None))):
        raise TypeError(
            f"Argument 'models[{name!r}]' must be a mapping of options of cross_validate, not {options!r}: "
            "an empty one, {}, for a model that fastcov has."
        )
    own = dict(options or {})
    if name in BASELINES:
        if own:
            raise ValueError(
                f"Argument 'models[{name!r}]' must be without options, not have {', '.join(own)}: it is a "
                "baseline, in which nothing is chosen."
            )
        return MODELS[name]
    if wrong := [option for option in own if option not in OPTIONS]:
        raise ValueError(
            f"Argument 'models[{name!r}]' must have options among {', '.join(OPTIONS)}, not {wrong[0]!r}: "
            "what all models share is an argument of compare itself."
        )
    if not isinstance(own.get("method", ""), str):
        raise TypeError(
            f"Argument 'models[{name!r}]' must have one method, not {own['method']!r}: name a model for each."
        )
    known = MODELS.get(name, MODELS[PLAIN])
    full = {**known.options, **own}
    if full.get("channel_groups") is LABELS:
        if groups is None:
            raise ValueError(
                f"Argument 'groups' must be a label for each channel with the model {name!r}, not None: pass "
                "groups=, such as the animal of each channel."
            )
        full["channel_groups"] = groups
    elif isinstance(full.get("channel_groups"), str):
        full["channel_groups"] = np.full(n_channels, full["channel_groups"])
    if own.get("ridges") is not None:
        full["relative_ridges"] = own.get("relative_ridges")
    elif own.get("relative_ridges") is None:
        usual = full.get("relative_ridges", RIDGES)
        full["relative_ridges"] = usual if relative_ridges is None else relative_ridges
    words = known.words if name in MODELS and not own else _words(known, own)
    return Model(name, words, {**DEFAULTS, **full})


def _words(known: Model, own: Mapping[str, Any]) -> str:
    """A model by what it has of its own."""
    said = []
    for option, value in own.items():
        if option in ("ridges", "relative_ridges"):
            continue
        text = value if isinstance(value, str) else repr(value)
        said.append(text if option == "method" else f"{option} {text}" if len(text) < 24 else option)
    return f"{known.name}: {', '.join(said)}" if said else known.words
