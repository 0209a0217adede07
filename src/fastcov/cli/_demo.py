"""`fastcov demo`: fit, score and draw simulated responses."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Any

import click

from ._files import save_figure, save_record
from ._group import say
from ._options import FIGURES, RELATIVE_RIDGE

if TYPE_CHECKING:
    from .._results.fit import Fit
    from ..datasets import Simulation

# Methods in the order in which they are drawn; the table says enough about the line search.
_DRAWN = ("exact", "linear", "diagonal")
# The smallest number of shuffles that can give p = 0.05; they take a few seconds.
_SHUFFLES = 19


@click.command()
@click.option("--output", default="demo.png", show_default=True, help="Figure of the fits: .png, .pdf "
              "or .svg.")  # fmt: skip
@click.option("--cv-output", metavar="FILE", help="Figure of held-out conditions and of the path.  [default: "
              "beside the first figure, with _cv in its name]")  # fmt: skip
@click.option("--data", metavar="FILE.npz", help="Save the simulated X, Y, S and gains, to try other "
              "commands on them.")  # fmt: skip
@click.option("--channels", type=click.IntRange(2), default=148, show_default=True,
              help="Channels to simulate.")  # fmt: skip
@click.option("--conditions", type=click.IntRange(4), default=48, show_default=True,
              help="Conditions to simulate.")  # fmt: skip
@click.option("--noise", type=click.FloatRange(0), default=0.5, show_default=True,
              help="Noise of the output, as a fraction of its signal.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the simulation.")
@click.option("--relative-ridge", type=click.FloatRange(0), default=RELATIVE_RIDGE, show_default=True,
              help="Ridge over the largest eigenvalue of the Gram matrix of the atoms.")  # fmt: skip
def demo(
    output: str,
    cv_output: str | None,
    data: str | None,
    channels: int,
    conditions: int,
    noise: float,
    seed: int,
    relative_ridge: float,
) -> None:
    """Simulate responses, fit gains by every method, and draw the fits.

    The first table compares the losses of gains of one, of each method, and of the gains that the
    simulation used; lower is better. The second table says how well the covariance of held-out
    conditions is predicted at each ridge, beside baselines and 19 studies of shuffled conditions.

    \b
    fastcov demo --data demo.npz
    fastcov cv demo.npz:X --responses demo.npz:Y --method exact --method linear --plot cv.png
    """  # noqa: D301
    import warnings

    from .. import datasets, plot
    from .._fit import fit
    from .._inputs.files import check_output
    from .._results.overshoot import OvershootWarning
    from .._studies.cross_validation import cross_validate
    from .._studies.ridge_path import ridge_path

    first = check_output(output, FIGURES, name="--output")
    beside = pathlib.Path(output).with_name(f"{first.stem}_cv{first.suffix}")
    second = check_output(cv_output or str(beside), FIGURES, name="--cv-output")
    saved = check_output(data, (".npz",), name="--data") if data is not None else None

    simulation = datasets.simulate(channels, conditions, rng=seed, noise=noise)
    X, S = simulation.X, simulation.S
    warnings.simplefilter("ignore", OvershootWarning)  # tables and figures show the overshoot
    # Methods from the worst to the best.
    methods = ("diagonal", "linear", "line-search", "exact")
    fits = {name: fit(X, S, relative_ridge=relative_ridge, method=name) for name in methods}
    folds = min(5, conditions // 2)
    cv = cross_validate(X, simulation.Y, folds=folds, method=_DRAWN, rng=seed, shuffles=_SHUFFLES, refit=None)
    paths = {name: ridge_path(X, S, method=name) for name in _DRAWN}
    if saved is not None:
        names = ("X", "Y", "S", "gains")
        save_record(saved, "the simulation", {name: getattr(simulation, name) for name in names}, tuple)
    try:
        figures = (
            plot.summary(X, S, {name: fits[name] for name in _DRAWN}, order="cluster"),
            plot.study(cv, paths),
        )
    except ImportError as error:
        say("No figure", str(error))
    else:
        for figure, path in zip(figures, (first, second), strict=True):
            save_figure(figure, path)
    click.echo(f"{simulation}\n\n{_losses(simulation, fits)}\n\n{cv}")


def _losses(simulation: Simulation, fits: dict[str, Fit]) -> str:
    """Make a table of the exact loss of each fit, of gains of one, and of the true gains."""
    import numpy as np

    from .._exact_loss.loss import loss

    X, S, linear = simulation.X, simulation.S, fits["linear"]
    size = float(np.square(S).sum()) or np.nan
    candidates: dict[str, Any] = {"all one": np.ones(len(X))}
    candidates |= {f"{name} fit": fit.gains for name, fit in fits.items()}
    candidates["true gains"] = simulation.gains
    rows = [("gains", "loss", "to loss at one", "R2")]
    for name, gains in candidates.items():
        penalised, misfit = (float(loss(X, S, gains, ridge=ridge)) for ridge in (linear.ridge, 0.0))
        ratio = penalised / (linear.loss_at_one or np.nan)
        rows.append((name, f"{penalised:.4g}", f"{ratio:.3f}", f"{1 - 2 * misfit / size:.3f}"))
    table = "\n".join(f"  {name:<16}{value:>12}{ratio:>16}{r2:>10}" for name, value, ratio, r2 in rows)
    return (
        f"{table}\n"
        f"  The loss includes the ridge term (ridge {linear.ridge:.4g}), which draws gains to one: the true\n"
        "  gains pay for being far from it. R2 is that of the covariance alone."
    )
