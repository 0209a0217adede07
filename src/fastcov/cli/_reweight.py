"""`fastcov reweight`: one weight per channel, for products or for squared differences of conditions."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Any

import click

from ._cluster import cluster_of
from ._files import InputNames, open_target, outputs, print_json, write_table
from ._options import (
    RELATIVE_RIDGE,
    RidgeOrCv,
    Ridges,
    at_most_one,
    bounds_of,
    center_option,
    cluster_options,
    exactly_one,
    json_option,
    limit_options,
    naming_options,
    output_option,
    seed_option,
    solver_option,
)
from ._study_options import folds_option, pairs_file

if TYPE_CHECKING:
    from .._results.reweighting import Reweighting

# Copies of names in rooms whose import would make --help slow.
ATOMS = ("product", "squared-euclidean")
PAIR_SCORES = ("pearson", "spearman", "cross-pearson", "cross-spearman")


@click.command("reweight", short_help="Fit one weight per channel to similarities of conditions.")
@click.argument("x", metavar="X")
@click.option("--responses", metavar="Y", help="Responses of the other population. The target is their "
              "covariance, or the squared distances of conditions for squared-euclidean atoms.")  # fmt: skip
@click.option("--target", metavar="S", help="The target itself, conditions x conditions: similarities, or "
              "dissimilarities for squared-euclidean atoms.")  # fmt: skip
@naming_options
@click.option("--correlations", is_flag=True, help="Take correlations in place of covariances of Y, or one "
              "less the correlation for squared-euclidean atoms.")  # fmt: skip
@click.option("--atoms", type=click.Choice(ATOMS), default="product", show_default=True,
              help="Similarity of two conditions in one channel.")  # fmt: skip
@click.option("--ridge", type=RidgeOrCv(), metavar="FLOAT|cv", help="Ridge, in units of X to the fourth; cv "
              "chooses the best on held-out conditions, and scores these in nested folds.")  # fmt: skip
@click.option("--relative-ridge", type=float, help="Ridge over the largest eigenvalue of the Gram matrix of "
              f"the pairs.  [default: {RELATIVE_RIDGE}]")  # fmt: skip
@click.option("--shrink-to", type=float, default=0.0, show_default=True,
              help="Weight to which the ridge draws all; 1 is for the plain sum over channels.")  # fmt: skip
@click.option("--offset", is_flag=True, help="Fit an offset of all pairs, too.")
@click.option("--lower", type=float, help="Smallest weight; 0 prevents negative weights.")
@click.option("--upper", type=float, help="Largest weight.")
@click.option("--pairs", metavar="off-diagonal|all|FILE", default="off-diagonal", show_default=True,
              help="Pairs that count; a file has weights, conditions x conditions.")  # fmt: skip
@folds_option
@click.option("--repeats", type=click.IntRange(1), default=1, show_default=True,
              help="How often to draw the folds of --ridge cv.")  # fmt: skip
@click.option("--relative-ridges", type=Ridges(), help="Ridges that --ridge cv chooses from, over the "
              "largest eigenvalue.  [default: 1e-4 to 1 in half decades]")  # fmt: skip
@click.option("--score", type=click.Choice(PAIR_SCORES), default="pearson", show_default=True,
              help="Score that chooses the ridge.")  # fmt: skip
@center_option
@solver_option
@limit_options
@seed_option
@cluster_options
@output_option("the weights and all else, which fastcov.load reads, or a table of the weights")
@json_option
def reweight_command(
    x: str,
    responses: str | None,
    target: str | None,
    channels: str | None,
    conditions: str | None,
    id_column: str | None,
    correlations: bool,
    atoms: str,
    ridge: float | str | None,
    relative_ridge: float | None,
    lower: float | None,
    upper: float | None,
    pairs: str,
    folds: int | str | None,
    seed: int,
    dask: str | None,
    dask_workers: int | None,
    output: str | None,
    as_json: bool,
    **asked: Any,
) -> None:
    """Fit one weight per channel, so that weighted similarities of conditions become those of Y.

    The similarity of conditions a and b is the weighted sum over channels of x_a x_b, or of (x_a - x_b)^2.
    This is feature-reweighted representational similarity analysis. X, Y and their files are as for
    'fastcov fit'.

    \b
    fastcov reweight data.npz:glomeruli --responses data.npz:mitral --correlations --offset --ridge cv
    fastcov reweight X.csv --target rdm.csv --atoms squared-euclidean --lower 0 --output weights.csv
    """  # noqa: D301
    exactly_one("--responses", responses, "--target", target)
    if ridge is None and relative_ridge is None:
        relative_ridge = RELATIVE_RIDGE
    exactly_one("--ridge", ridge, "--relative-ridge", relative_ridge)
    at_most_one("--dask", dask, "--dask-workers", dask_workers)
    if correlations and responses is None:
        raise click.UsageError("--correlations are of --responses, not of --target.")
    bounds = bounds_of(lower, upper)

    from .._inputs.files import open_array
    from .._reweighting.reweight import reweight

    named = pairs_file(pairs) if pairs != "all" else None
    results, _ = outputs(output, None, (x, responses, target, channels, conditions, named))
    naming = InputNames(channels, conditions, id_column, cluster_of(dask, dask_workers))
    X, of = open_target(x, responses, target, asked["center"], naming, drawn=False)
    S = of["S"] if "S" in of else _similarities(of["responses"], atoms, correlations, asked["center"])
    found = reweight(
        X, S, ridge, relative_ridge=relative_ridge, atoms=atoms, bounds=bounds, folds=folds or 5, rng=seed,
        pairs=pairs if named is None else open_array(named, name="pairs")[:], **asked,
    )  # fmt: skip
    if results is not None:
        _save(results, found)
    if as_json:
        print_json(_record(found))
    else:
        click.echo(str(found))


def _similarities(Y: Any, atoms: str, correlations: bool, center: bool) -> Any:
    """Return the target of responses: covariances or correlations, or distances in their place."""
    import numpy as np

    from .._model.distances import Distances
    from .._model.target import covariance

    C = np.asarray(covariance(Y, center=center))
    if correlations:
        sizes = np.sqrt(np.diag(C))
        if not sizes.all():
            raise ValueError(
                f"Argument 'Y' must vary over channels in each condition for --correlations, not be constant "
                f"in condition {int(np.argmin(sizes))}: leave it out."
            )
        C = C / np.outer(sizes, sizes)
    if atoms == "product":
        return C
    return 1.0 - C if correlations else Distances.between(C)


def _save(path: pathlib.Path, found: Reweighting) -> None:
    """Save all of it, or a table of the weights."""
    import numpy as np

    from .._results.frames import named

    if path.suffix.lower() == ".csv":
        rows = np.atleast_2d(found.weights)
        table = {"channel": np.array(named(found.channels, rows.shape[1]), dtype=object)}
        stacked = found.weights.ndim == 2
        table |= {f"weight_{t}" if stacked else "weight": row for t, row in enumerate(rows)}
        write_table(path, [table])
    else:
        found.save(path)
    click.echo(f"Saved the weights to {path}", err=True)


def _record(found: Reweighting) -> dict[str, Any]:
    """Return everything except matrices, by name."""
    from .._version import __version__

    N, D = found.stats["shape"]
    names = {"channel_names": found.channels, "condition_names": found.conditions}
    numbers = ("offset", "loss", "r2", "pearson", "spearman", "ridge", "relative_ridge", "residual", "status")
    scores = found.scores
    held_out = None if scores is None else {
        "score": scores.score, "folds": len(scores.folds), "relative_ridges": scores.relative_ridges,
        "chosen": scores.chosen, "nested": scores.nested, "equal": scores.equal,
    }  # fmt: skip
    return {
        "version": __version__, "channels": N, "conditions": D,
        **{name: list(each) for name, each in names.items() if each is not None},
        "atoms": found.atoms, "shrink_to": found.shrink_to, "center": found.stats["center"],
        **{name: found.stats.get(name) for name in ("pairs", "solver", "reason", "seconds")},
        **({"at_bounds": found.stats["at_bounds"]} if "at_bounds" in found.stats else {}),
        **{name: getattr(found, name) for name in numbers},
        "weights": found.weights,
        **({} if held_out is None else {"held_out": held_out}),
    }  # fmt: skip
