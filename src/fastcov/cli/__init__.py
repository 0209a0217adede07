"""The command line: `fastcov demo`, `fit`, `report`, `cv`, `test`, `path`, `plan`, `doctor` and `bench`.

Results go to stdout, messages to stderr. Whatever is wrong with the input is one line and exit
code 2. Numba, SciPy and matplotlib are imported by the commands that need them, so that --help is
instant.
"""

from __future__ import annotations

import click

from .._version import __version__
from ._bench import bench
from ._demo import demo
from ._fit import fit_command, report_command
from ._group import Doors
from ._options import RELATIVE_RIDGE as RELATIVE_RIDGE
from ._studies import cv_command, path_command
from ._test import test_command
from ._tools import doctor, plan_command


@click.group(
    cls=Doors,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="fastcov")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Fit one gain per channel that turns one population's covariance into another's.

    \b
    fastcov demo                                  what it does, on simulated responses
    fastcov fit X.npy --responses Y.npy           gains from two recordings
    fastcov report X.npy --responses Y.npy        the same, as a page that explains it
    fastcov cv X.npy --responses Y.npy            which ridge and method predict held-out conditions
    fastcov test X.npy --responses Y.npy          whether gains predict, against shuffled conditions
    fastcov path X.npy --responses Y.npy          how gains leave one as the ridge falls
    fastcov plan 100000 100                       what a fit of that size takes
    fastcov doctor                                what the installation is like
    fastcov bench --quick                         how fast it is here, beside what else there is
    """  # noqa: D301  (click ends a paragraph at a real backspace)
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


for _command in (
    demo, fit_command, report_command, cv_command, test_command, path_command, plan_command, doctor, bench
):  # fmt: skip
    main.add_command(_command)
