"""Commands of `fastcov`: demo, study, compare, fit, report, cv, test, path, reweight, plan, doctor, bench.

Results go to stdout, messages to stderr. An error in the input prints one line, and the exit code is
2. Numba, SciPy and matplotlib are imported only by the commands that need them, so that --help is
instant.
"""

from __future__ import annotations

import click

from .._version import __version__
from ._bench import bench
from ._compare import compare_command
from ._demo import demo
from ._fit import fit_command, report_command
from ._group import ErrorReportingGroup
from ._options import RELATIVE_RIDGE as RELATIVE_RIDGE
from ._reweight import reweight_command
from ._studies import cv_command, path_command
from ._study import study_command
from ._test import test_command
from ._tools import doctor, plan_command


@click.group(
    cls=ErrorReportingGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="fastcov")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Fit one gain per channel that turns one population's covariance into another's.

    \b
    fastcov demo                                  see what fastcov does, on simulated responses
    fastcov study X.csv Y.csv                     find which gains change, and whether they predict
    fastcov compare X.csv Y.csv                   compare models: gains, all connections, baselines
    fastcov fit X.npy --responses Y.npy           fit gains to two recordings
    fastcov report X.npy --responses Y.npy        fit gains, and write a page that explains them
    fastcov cv X.npy --responses Y.npy            find which ridge and method predict held-out conditions
    fastcov test X.npy --responses Y.npy          test prediction against shuffled conditions
    fastcov path X.npy --responses Y.npy          see how gains depart from one as the ridge falls
    fastcov reweight X.npy --responses Y.npy      weigh similarities of channels, as in reweighted RSA
    fastcov plan 100000 100                       estimate time and memory of a fit of this size
    fastcov doctor                                check the installation
    fastcov bench --quick                         measure speed here, and compare with alternatives
    """  # noqa: D301  (click ends a paragraph at a real backspace)
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


for _command in (
    demo, study_command, compare_command, fit_command, report_command, cv_command, test_command,
    path_command, reweight_command, plan_command, doctor, bench,
):  # fmt: skip
    main.add_command(_command)
