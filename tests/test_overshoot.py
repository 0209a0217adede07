"""OvershootWarning: where a fit ends above the loss at gains of one, and nowhere else."""

import dataclasses
import re
import warnings

import numpy as np
import pytest
from cases import data, run_python, target

import fastcov as fc
from fastcov._results import overshoot

N, D = 30, 5
X, GOOD = data(N, D), target(D, size=N)
FAR = 30.0 * GOOD
METHODS = ("linear", "line-search", "exact", "diagonal")


@pytest.fixture(autouse=True)
def strict():
    """What other tests ignore is an error here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=fc.OvershootWarning)
        yield


def warned(function, *args, **kwargs):
    """The result, and the one warning."""
    with pytest.warns(fc.OvershootWarning) as caught:
        result = function(*args, **kwargs)
    (record,) = caught
    assert record.filename == __file__
    assert "\n" not in str(record.message)
    return result, str(record.message)


@pytest.mark.parametrize("method", ["linear", "diagonal"])
@pytest.mark.parametrize("of", [X, X.astype(np.float32), (8 * X).astype(int)], ids=lambda x: str(x.dtype))
def test_a_fit_above_the_loss_at_one_says_by_how_many_times_and_what_to_do(method, of):
    S = FAR * (np.trace(fc.covariance(of)) / np.trace(fc.covariance(X)))
    fit, message = warned(fc.fit, of, S, relative_ridge=1e-5, method=method)
    assert fit.overshoots
    told = float(re.match(r"The exact loss is (\S+) times that at gains of one: ", message)[1])
    assert told == pytest.approx(fit.loss / fit.loss_at_one, rel=0.01)
    assert message.endswith("this fit overshoots. Use a larger ridge, or method='line-search' or 'exact'.")


def test_without_a_relative_ridge_one_is_named():
    _, message = warned(fc.fit, X, FAR, ridge=0.0)
    assert message.endswith("Use a larger ridge, as relative_ridge=0.1, or method='line-search' or 'exact'.")


def test_an_exact_fit_that_bounds_keep_above_is_not_told_to_be_exact():
    fit, message = warned(fc.fit, X, GOOD, relative_ridge=0.1, method="exact", bounds=(3, None))
    assert fit.overshoots
    assert message.endswith("Use a larger ridge.")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_fit_below_it_says_nothing(method, kind):
    relative = {"diagonal": 100.0, "linear": 10.0}.get(method, 1e-4)
    fit = fc.fit(X.astype(kind), GOOD, relative_ridge=relative, method=method)
    assert fit.loss < fit.loss_at_one


@pytest.mark.covering(2)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("ridge", [0.0, 1e-6, 1.0])
def test_rounding_is_no_overshoot(method, kind, ridge):
    A = data(40, 6, kind)
    if ridge or method == "linear":
        S = fc.covariance(A)  # the loss at one is zero, or rounding
        fc.fit(A, S, relative_ridge=ridge, method=method)
        fc.fit(A, S * (1 + np.finfo(kind).eps), relative_ridge=ridge, method=method)


@pytest.mark.parametrize("scale", [1e-60, 1e60])
def test_the_units_of_the_responses_do_not_matter(scale):
    fc.fit(scale * X, scale**2 * GOOD, relative_ridge=10.0)
    _, message = warned(fc.fit, scale * X, scale**2 * FAR, relative_ridge=1e-5)
    assert message == warned(fc.fit, X, FAR, relative_ridge=1e-5)[1]


def test_a_loss_at_one_of_zero_is_not_divided_by():
    A = data(4, 2)
    fit, message = warned(
        fc.fit, A, fc.covariance(A), ridge=1.0, method="exact", gains0=-np.ones(4), bounds=(None, -0.5)
    )
    assert fit.loss_at_one <= 1e-24 * fit.loss
    assert re.match(r"The exact loss is \S+(, and 0 at| times that at) gains of one: ", message)
    zero = dataclasses.replace(fit, loss_at_one=np.float64(0.0))
    with pytest.warns(fc.OvershootWarning, match=rf"is {fit.loss:.3g}, and 0 at gains of one: "):
        overshoot.warn_overshoot(zero)


def test_a_loss_just_above_is_told_from_one():
    fit = fc.fit(X, GOOD, relative_ridge=10.0)
    fit = dataclasses.replace(fit, loss=fit.loss_at_one * (1 + 1e-7))
    with pytest.warns(fc.OvershootWarning, match=r"is 1\.0000001 times"):
        overshoot.warn_overshoot(fit)
    overshoot.warn_overshoot(dataclasses.replace(fit, loss=fit.loss_at_one * (1 + 1e-15)))


def test_of_a_stack_the_targets_that_overshoot_are_counted_in_one_warning():
    fit, message = warned(fc.fit, X, np.stack([FAR, fc.covariance(X), FAR]), relative_ridge=1e-5)
    assert fit.overshoots[[0, 2]].all()
    worst = (fit.loss[[0, 2]] / fit.loss_at_one[[0, 2]]).max()
    assert message.startswith(
        f"The exact loss is {worst:.3g} times that at gains of one for 2 of 3 targets: "
    )
    fc.fit(X, np.stack([GOOD, FAR]), relative_ridge=10.0)


def test_a_path_warns_once_and_names_its_ridges():
    ridges = [1.0, 1e-5, 10.0, 1e-4]
    path, message = warned(fc.ridge_path, X, FAR, relative_ridges=ridges)
    above = sorted(ridge for ridge, fit in zip(ridges, path, strict=True) if fit.overshoots)
    assert 0 < len(above) < 4
    named = ", ".join(f"{ridge:.4g}" for ridge in above)
    assert f"at {len(above)} of 4 ridges (relative_ridge {named}), at most " in message
    worst = max(path.loss) / path.loss_at_one
    assert f"at most {worst:.3g} times" in message
    assert message.endswith("Use larger ridges, or method='line-search' or 'exact'.")
    fc.ridge_path(X, FAR, relative_ridges=ridges, method="exact")
    fc.ridge_path(X, FAR, relative_ridges=ridges, method="line-search")


def test_a_target_that_gains_of_one_reach_does_not_hide_the_worst_of_a_path():
    fit = fc.fit(X, np.stack([GOOD, FAR]), ridge=10.0, method="exact")
    made = {"loss_at_one": np.array([0.0, 1e6])}
    path = [dataclasses.replace(fit, ridge=t, loss=np.array([0.0, 1e6 * t]), **made) for t in (3.0, 7.0, 5.0)]
    with pytest.warns(fc.OvershootWarning, match=r"at 3 of 3 ridges \(ridge 3, 5, 7\), at most 7 times"):
        overshoot.warn_overshoots(fc.RidgePath(tuple(path)))


def test_of_many_ridges_the_ends_are_named():
    path = [fc.fit(X, FAR, ridge=10.0, method="exact")]
    path = [dataclasses.replace(path[0], ridge=float(k), loss=1e9 * path[0].loss) for k in range(20)]
    with pytest.warns(fc.OvershootWarning, match=r"at 20 of 20 ridges \(ridge 0, 1, 2, …, 19\), at most"):
        overshoot.warn_overshoots(fc.RidgePath(tuple(path)))


def test_an_explanation_warns_once_of_the_fit_that_it_explains():
    why, message = warned(fc.explain, X, FAR, relative_ridge=1e-5)
    assert why.fit.overshoots
    assert message.endswith("the linear fit that is explained overshoots. Use a larger ridge.")
    fc.explain(X, FAR, relative_ridge=10.0)


def test_an_estimator_of_scikit_learn_warns_its_own_caller():
    pytest.importorskip("sklearn")
    model = fc.sklearn.GainModel(relative_ridge=1e-5, target="precomputed")
    _, message = warned(model.fit, X.T, FAR)
    assert "this fit overshoots" in message


def test_as_an_error_it_ends_the_fit():
    with pytest.raises(fc.OvershootWarning):
        fc.fit(X, FAR, relative_ridge=1e-5)


@pytest.mark.slow
def test_without_filters_python_shows_it():
    run_python(
        "import warnings\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    import fastcov as fc\n"
        "    sim = fc.datasets.simulate(30, 5)\n"
        "    fc.fit(sim.X, 30 * sim.S, relative_ridge=1e-5)\n"
        "assert [each.category for each in caught] == [fc.OvershootWarning], caught\n"
    )
