"""What commands read and write."""

from __future__ import annotations

import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from .. import __version__
from ._options import FIGURES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .._result import Fit

# 9 inches at 200 dots each are sharp at twice the 900 pixels of a README.
DPI = 200


def outputs(
    results: str | None, figure: str | None, read: Sequence[str | None]
) -> tuple[pathlib.Path | None, pathlib.Path | None]:
    """Where results and figure go, checked before anything is read."""
    from .._io import check_output

    files = [file for file in read if file is not None]
    table = check_output(results, (".npz",), name="--output", read=files) if results is not None else None
    picture = check_output(figure, FIGURES, name="--plot", read=files) if figure is not None else None
    if picture is not None:
        from .. import plot

        plot.require_matplotlib()
    return table, picture


def open_responses(x: str, y: str | None, center: bool) -> tuple[Any, Any]:
    """X, and Y with the same conditions where it is asked for."""
    from .._io import open_array
    from .._problem import Problem

    X = open_array(x, name="X")
    if y is None:
        return X, None
    Problem.of(X, center=center)  # what is wrong with X is said of X
    Y = open_array(y, name="Y")
    if Y.ndim == 2 and Y.shape[1] != X.shape[1]:
        raise ValueError(
            f"Argument 'Y' must have the {X.shape[1]} conditions of X in its columns, not {Y.shape[1]}: "
            "is one of them conditions x channels?"
        )
    return X, Y


def open_target(
    x: str, responses: str | None, target: str | None, center: bool, *, drawn: bool
) -> tuple[Any, Any, NDArray[Any]]:
    """X, Y if it is given, and the target."""
    from .._covariance import target_covariance
    from .._io import read_array

    X, Y = open_responses(x, responses, center)
    if Y is not None:
        return X, Y, target_covariance(Y, like=X, center=center)
    S = read_array(str(target), name="S")
    if S.ndim == 3 and drawn:
        raise click.UsageError("--plot draws one target, and --target holds a stack of them.")
    return X, None, S


def read_labels(path: str, n: int) -> list[str]:
    """A label for each of n conditions, one a line."""
    try:
        text = pathlib.Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(
            f"--groups must be a text file, and {path!r} is not: write a label a line."
        ) from None
    labels = [line.strip() for line in text.splitlines() if line.strip()]
    if len(labels) != n:
        raise ValueError(
            f"--groups must hold a label for each of the {n} conditions, one a line, and {path!r} holds "
            f"{len(labels)}."
        )
    return labels


def fit_record(fit: Fit) -> dict[str, Any]:
    """All of a fit but its covariance, by name."""
    N, D = fit.stats["shape"]
    scalars = ("loss", "loss_at_one", "overshoots", "r2", "ridge", "relative_ridge", "residual", "status")
    return {
        "version": __version__,
        "channels": N,
        "conditions": D,
        "center": fit.stats["center"],
        "method": fit.method,
        **{name: fit.stats.get(name) for name in ("solver", "reason", "iterations", "seconds")},
        **{name: fit.stats[name] for name in ("at_bounds", "losses", "step") if name in fit.stats},
        **{name: getattr(fit, name) for name in scalars},
        "gains": fit.gains,
    }


def save_arrays(path: pathlib.Path, what: str, record: Mapping[str, Any]) -> None:
    """Save a record as .npz, without pickle; what is None as NaN."""
    import numpy as np

    from .._io import writing

    texts = ("solver", "reason")  # empty where there is none, as numbers are NaN
    arrays: dict[str, Any] = {
        name: ("" if name in texts else np.nan) if value is None else value for name, value in record.items()
    }
    with writing(path) as draft:
        np.savez(draft, **arrays)
    click.echo(f"Saved {what} to {path}", err=True)


def save_figure(figure: Any, path: pathlib.Path) -> None:
    from .._io import writing

    with writing(path) as draft:
        figure.savefig(draft, dpi=DPI)
    click.echo(f"Saved the figure to {path}", err=True)


def print_json(record: Any) -> None:
    click.echo(json.dumps(_plain(record), allow_nan=False))


def _plain(value: Any) -> Any:
    """What JSON can say; NaN and infinity become null."""
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if hasattr(value, "tolist"):  # of NumPy
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
