"""Read the input files of commands, and write their results."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from .._version import __version__
from ._options import FIGURES, RESULTS

if TYPE_CHECKING:
    from .._results.connectivity import Connectivity
    from .._results.fit import Fit
    from .._results.frames import Table
    from ._cluster import Cluster

HDF5 = (".h5", ".hdf5")
# Dots per inch: 9 inches are then sharp at twice the 900 pixels of a README.
DPI = 200


def outputs(
    results: str | None, figure: str | None, read: Sequence[str | None]
) -> tuple[pathlib.Path | None, pathlib.Path | None]:
    """Return the paths of results and figure; check them before anything is read."""
    from .._inputs.files import check_output
    from .._inputs.optional import optional

    files = [file for file in read if file is not None]
    table = check_output(results, RESULTS, name="--output", read=files) if results is not None else None
    if table is not None and table.suffix in HDF5:
        optional("h5py", f"Writing {table.suffix.lower()} files", "h5")
    picture = check_output(figure, FIGURES, name="--plot", read=files) if figure is not None else None
    if picture is not None:
        from .. import plot

        plot.require_matplotlib()
    return table, picture


@dataclasses.dataclass(frozen=True)
class InputNames:
    """The sources of names of channels and conditions, and the cluster that arrays are loaded onto."""

    channels: str | None
    conditions: str | None
    id_column: str | None  # the tables whose first column is names: x, y or both
    cluster: Cluster | None  # the cluster that X and Y are loaded onto

    def open(self, spec: str, name: str) -> Any:
        """Open an array, with the names in its file."""
        from .._inputs.files import open_named

        array = open_named(spec, name=name, id_column=self.named(name))
        return array if self.cluster is None or name == "S" else self.cluster.load(spec, array, name)

    def named(self, name: str) -> bool:
        """Return whether the user declares the first column of an argument's table to be names."""
        return self.id_column in ("both", "x" if name == "X" else "y")

    def hint(self, specs: dict[str, str], arrays: dict[str, Any]) -> str:
        """Suggest an --id-column if one table has an extra column, because a column of ids was read as data.

        It also suggests one in the opposite case, if a column of data was read as names.
        """
        narrow, wide = sorted(arrays, key=lambda name: int(arrays[name].shape[1]))
        if arrays[wide].shape[1] - arrays[narrow].shape[1] != 1:
            return ""
        if not self.named(wide) and _is_table(specs[wide]) and _ids(arrays[wide].values[:][:, 0]):
            option = "both" if self.named(narrow) else wide.lower()
            return f" Or, if the first column of {wide} is names, give --id-column {option}."
        if self.id_column == "both" and _is_table(specs[narrow]) and not _ids(arrays[narrow].channels):
            return f" Or, if the first column of {narrow} is numbers, give --id-column {wide.lower()}."
        return ""

    def open_input(self, spec: str) -> Any:
        """Open X, with names from the options, or else its own."""
        from .._inputs.labels import Labelled, Labels
        from .._inputs.name_files import read_names
        from .._rows.responses import check_responses

        X = self.open(spec, "X")
        if self.channels is None and self.conditions is None:
            return X
        values = check_responses("X", X)
        rows, columns = (
            None if file is None else read_names(file, n, name=option, what=what)
            for file, n, option, what in (
                (self.channels, values.shape[0], "--channels", "channels"),
                (self.conditions, values.shape[1], "--conditions", "conditions"),
            )
        )
        Labels.of("--channels", Labelled(values, channels=rows))
        Labels.of("--conditions", Labelled(values, conditions=columns))
        own = X if isinstance(X, Labelled) else Labelled(X)
        return Labelled(own.values, rows or own.channels, columns or own.conditions)


def _is_table(spec: str) -> bool:
    return spec.lower().endswith((".csv", ".tsv"))


def _ids(column: Any) -> bool:
    """Return whether the cells of a column look like ids: words, or whole numbers >= 0 without repeats."""
    import numpy as np

    try:
        numbers = np.asarray(column, np.float64)
    except ValueError:
        return True
    whole = bool(np.isfinite(numbers).all() and (numbers == np.rint(numbers)).all())
    return whole and bool(numbers.min() >= 0) and 2 < len(numbers) == len(np.unique(numbers))


def open_responses(x: str, y: str | None, center: bool, naming: InputNames) -> tuple[Any, Any]:
    """Open X, and Y if it is given, with the conditions of X in the same order."""
    from .._model.problem import Problem
    from .._model.target import aligned

    X = naming.open_input(x)
    if y is None:
        return X, None
    given = Problem.of(X, center=center)  # so that an error in X names X
    Y = naming.open(y, "Y")
    if Y.ndim == 2 and Y.shape[1] != X.shape[1]:
        raise ValueError(
            f"Argument 'Y' must have the {X.shape[1]} conditions of X in its columns, not {Y.shape[1]}: "
            f"is one of them conditions x channels?{naming.hint({'X': x, 'Y': y}, {'X': X, 'Y': Y})}"
        )
    return X, aligned("Y", Y, given.labels)


def open_target(
    x: str, responses: str | None, target: str | None, center: bool, naming: InputNames, *, drawn: bool
) -> tuple[Any, dict[str, Any]]:
    """Open X, and the S or responses that its gains are fitted to, in the order of its conditions."""
    from .._inputs.labels import Labels, by_condition

    X, Y = open_responses(x, responses, center, naming)
    if Y is not None:
        return X, {"responses": Y}
    S = naming.open(str(target), "S")
    if S.ndim == 3 and drawn:
        raise click.UsageError("--plot draws one target, and --target holds a stack of them.")
    return X, {"S": by_condition("S", S, Labels.of("X", X)) if S.shape[-1:] == X.shape[1:] else S}


def read_labels(path: str, n: int, option: str = "--groups") -> list[str]:
    """Read a label for each of n conditions, one per line."""
    from .._inputs.name_files import read_lines

    labels = read_lines(path, option)
    if len(labels) != n:
        raise ValueError(
            f"{option} must hold a label for each of the {n} conditions, one a line, and {path!r} holds "
            f"{len(labels)}."
        )
    return labels


def names_of(fit: Fit | Connectivity | None) -> dict[str, Any]:
    """Return the names of channels and conditions, if there are any."""
    names = {} if fit is None else {"channel_names": fit.channels, "condition_names": fit.conditions}
    return {name: list(each) for name, each in names.items() if each is not None}


def fit_record(fit: Fit | Connectivity, X: Any = None) -> dict[str, Any]:
    """Return everything in a fit except its covariance, by name; of a connectivity the diagonal needs X."""
    from .._results.connectivity import Connectivity

    N, D = fit.stats["shape"]
    scalars = ("loss", "loss_at_one", "overshoots", "r2", "ridge", "relative_ridge", "residual", "status")
    return {
        "version": __version__,
        "channels": N,
        "conditions": D,
        **names_of(fit),
        "center": fit.stats["center"],
        "method": fit.method,
        **{name: fit.stats.get(name) for name in ("solver", "reason", "iterations", "seconds")},
        **{name: fit.stats[name] for name in ("at_bounds", "losses", "step") if name in fit.stats},
        **{name: getattr(fit, name) for name in scalars},
        **(_connected(fit, X) if isinstance(fit, Connectivity) else _gains(fit)),
    }


def _gains(fit: Fit) -> dict[str, Any]:
    """Return the gains of a fit, and those of groups that share one."""
    shared = {} if fit.groups is None else {"groups": list(fit.groups), "group_gains": fit.group_gains}
    return {**shared, "gains": fit.gains}


def _connected(found: Connectivity, X: Any) -> dict[str, Any]:
    """Return what a connectivity has in place of gains."""
    names = ("degrees_of_freedom", "unreachable", "singular_values")
    record = {"norm": found.norm(), **{name: getattr(found, name) for name in names}}
    if X is None:
        return record
    from .._results.frames import connectivity_columns

    return record | connectivity_columns(found, found._problem(X))


def save_fit(path: pathlib.Path, fit: Fit | Connectivity, X: Any) -> None:
    """Save a complete fit, or a table of its channels."""
    from .._results.connectivity import Connectivity
    from .._results.frames import connectivity_table, fit_table

    if path.suffix.lower() == ".csv":
        table = connectivity_table(fit, fit._problem(X)) if isinstance(fit, Connectivity) else fit_table(fit)
        write_table(path, [table])
    else:
        fit.save(path)
    click.echo(f"Saved the fit to {path}", err=True)


def save_record(
    path: pathlib.Path, what: str, record: Mapping[str, Any], tables: Callable[[], Iterable[Table]]
) -> None:
    """Save a record as arrays without pickle, with NaN for None; or join tables with the same columns."""
    import numpy as np

    from .._inputs.container import write_entries

    if path.suffix.lower() == ".csv":
        write_table(path, tables())
    else:
        write_entries(
            path, {name: np.nan if value is None else _texts(value) for name, value in record.items()}
        )
    click.echo(f"Saved {what} to {path}", err=True)


def _texts(value: Any) -> Any:
    """Convert numbers in a mixed list of names to text, because an array has one type."""
    mixed = isinstance(value, list) and any(isinstance(each, str) for each in value)
    return [str(each) for each in value] if mixed else value


def write_table(path: pathlib.Path, tables: Iterable[Table]) -> None:
    """Write tables with the same columns as one table, with all digits."""
    from .._inputs.files import writing

    with writing(path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        for k, table in enumerate(tables):
            if k == 0:
                writer.writerow(table)
            writer.writerows(zip(*(column.tolist() for column in table.values()), strict=True))


def save_figure(figure: Any, path: pathlib.Path) -> None:
    from .._inputs.files import writing

    with writing(path) as draft:
        figure.savefig(draft, dpi=DPI)
    click.echo(f"Saved the figure to {path}", err=True)


def print_json(record: Any) -> None:
    click.echo(json.dumps(_plain(record), allow_nan=False))


def _plain(value: Any) -> Any:
    """Convert a value to types that JSON can represent; NaN and infinity become null."""
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if hasattr(value, "tolist"):  # a NumPy array or number
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
