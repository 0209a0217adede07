"""Dask within this process: its own threads, and a cluster of two workers. The others have processes."""

import dask
import pytest
from cases import data
from dask_cases import AGREEMENT, D, N, chunked, distributed, fits, local_cluster, ridge_of, same, wanted

X, S, RIDGE = data(N, D), wanted(), ridge_of(0.5)
UNEVEN = (1, 61, 0, 58)


@pytest.fixture(scope="module")
def here():
    """A client of workers that are threads of this process."""
    options = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}
    with local_cluster(processes=False, scheduler_port=0, scheduler_kwargs=options) as client:
        yield client


@pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
def test_a_local_scheduler_gives_the_local_fit(scheduler):
    with pytest.raises(ValueError, match="No client"):
        distributed.default_client()
    with dask.config.set(scheduler=scheduler):
        fit = fits(chunked(X, UNEVEN), S, ridge=RIDGE)
    same(fit.delta, fits(X, S, ridge=RIDGE).delta)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("method", "solver"),
    [("linear", "pcg"), ("linear", "dual"), ("linear", "cholesky"), ("diagonal", "auto")],
)
def test_a_cluster_gives_the_local_fit(method, solver):
    fit, expected = (
        fits(given, S, ridge=RIDGE, method=method, solver=solver) for given in (chunked(X, UNEVEN), X)
    )
    same(fit.gains, expected.gains)
    same(fit.loss, expected.loss)
    assert fit.status == expected.status


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("method", "solver"),
    [("linear", "auto"), ("linear", "pcg"), ("linear", "dual"), ("exact", "auto"), ("line-search", "auto")],
)
def test_a_cluster_gives_the_local_fit_of_groups(method, solver):
    labels = [f"g{i % 7}" for i in range(N)]
    asked = {"method": method, "solver": solver, "groups": labels, "relative_ridge": 0.1}
    fit, expected = (fits(given, S, **asked) for given in (chunked(X, UNEVEN), X))
    same(fit.gains, expected.gains, 1e-6 if method == "exact" else AGREEMENT)
    same(fit.loss, expected.loss)
    assert fit.groups == expected.groups
