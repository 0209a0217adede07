"""What is printed, drawn and written about a connectivity, against W formed."""

import re
import warnings

import naive
import naive_free
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from test_plot import assert_legible

import fastcov as fc
from fastcov import plot
from fastcov._inputs.labels import Labelled
from fastcov._results.nouns import BOTH, CONNECTIVITY, FITS, GAINS, nouns_of
from fastcov.plot._connectivity import draw_modes
from fastcov.plot._style import new_figure
from fastcov.report import _page, _sections

METHODS = ("free", "free-linear", "symmetric", "psd")
N, D = 40, 12
SIM = fc.datasets.simulate(N, D, rng=0)
ODOURS = [f"odour <b>{i}</b>" for i in range(D)]
NAMED = Labelled(SIM.X, [f"glomerulus & {i}" for i in range(N)], ODOURS)
STUDY = {"shuffles": 19, "folds": 4, "relative_ridges": [0.01, 0.1], "nested": False}
# Where a text about a connectivity may speak of gains.
ALLOWED = (
    "one gain a group", "One gain for each of the", "One gain",
    "Gain over", "gain over baselines", "With gains, W would",
    "a gain does", "numbers than gains", "as a gain would", "gains could make",
)  # fmt: skip


@pytest.fixture(autouse=True)
def quick(request, monkeypatch):
    """Pages without figures, or with few dots, where a test is not about them: most of the time is theirs."""
    monkeypatch.setattr(_sections, "DPI", 30)
    if "drawn" not in request.node.name:
        monkeypatch.setattr(_sections.Picture, "_source", lambda *_: "data:image/png;base64,")


@pytest.fixture(scope="module")
def found():
    return fc.fit(NAMED, SIM.S, relative_ridge=0.05, method="free")


@pytest.fixture(scope="module")
def study():
    return fc.study(SIM.X, SIM.Y, method="free", groups=["a"] * 20 + ["b"] * 20, **STUDY)


def formed(found):
    return found.W.left @ found.W.right.T


def spoken(text):
    """A text without where it may speak of gains."""
    text = " ".join(text.replace("\u00a0", " ").split())
    for words in ALLOWED:
        text = text.replace(words, "")
    return text


def assert_of_a_connectivity(text):
    assert not re.search(r"\bgains?\b", spoken(text), re.IGNORECASE), re.findall(
        r".{0,60}\bgains?\b.{0,30}", spoken(text), re.IGNORECASE
    )


def read(text):
    """The words of a page."""
    text = re.sub(r"<style.*?</style>|data:image[^\"]*", " ", text, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", text).replace("&nbsp;", " ").replace("\u00a0", " ").split())


def lines(figure):
    return {line.get_label(): line for ax in figure.axes for line in ax.lines}


# ---- words


def test_nouns_follow_what_is_fitted():
    assert nouns_of("exact") is nouns_of("linear", "exact") is GAINS
    assert all(nouns_of(method) is CONNECTIVITY for method in METHODS)
    assert nouns_of("exact", "free") is nouns_of("mixed", "free") is FITS
    assert nouns_of("mixed") is BOTH
    assert [CONNECTIVITY.do(verb) for verb in ("predict", "are", "reach", "do")] == [
        "predicts", "is", "reaches", "does",
    ]  # fmt: skip
    assert GAINS.do("are") == "are"


def test_a_study_speaks_of_the_connectivity(study):
    text = repr(study)
    assert "connectivity  " in text
    assert "W = 0  " in text
    assert "The connectivity predicts conditions that it was not fitted to." in study.verdict
    assert f"{study.cv.baseline('one')[0]:.2f} with W = 0" in study.verdict
    assert "a connectivity scores" in study.verdict  # of the groups
    assert "rotations of the outputs" in study.verdict
    assert_of_a_connectivity(text)
    assert_of_a_connectivity(study._repr_html_())
    assert "Channels" not in dict(fc._results.study_words.paragraphs(study))


@pytest.mark.parametrize("method", METHODS)
def test_every_verdict_has_its_words(method):
    rng = np.random.default_rng(1)
    none = fc.study(SIM.X, SIM.Y, method=method, **STUDY | {"shuffles": 0})
    assert "Whether the connectivity predicts conditions that it was not fitted to was not tested." in (
        none.verdict
    )
    noise = fc.study(SIM.X, rng.standard_normal((30, D)), method=method, **STUDY)
    assert noise.cv.verdicts()[method].better is False
    assert "That the connectivity predicts conditions that it was not fitted to is not shown." in (
        noise.verdict
    )
    for each in (none, noise):
        assert_of_a_connectivity(repr(each))


def test_a_study_of_gains_still_speaks_of_them():
    found = fc.study(SIM.X, SIM.Y, **STUDY)
    assert "gains by channel" in repr(found)
    assert "The gains predict conditions that they were not fitted to." in found.verdict
    assert "with all gains at one" in found.verdict
    assert "connectivity" not in repr(found)


def test_tests_and_cross_validations_speak_of_the_connectivity(study):
    test = fc.permutation_test(SIM.X, SIM.Y, method="free", **{k: STUDY[k] for k in ("shuffles", "folds")})
    assert "over W = 0" in repr(test)
    assert "Better than W = 0" in repr(test)
    cv = study.cv
    assert "  W = 0" in repr(cv)
    for each in (test, cv):
        assert_of_a_connectivity(repr(each))
        assert_of_a_connectivity(each._repr_html_())
    both = fc.cross_validate(SIM.X, SIM.Y, method=["exact", "free"], folds=4, relative_ridges=[0.1])
    assert "  gains of one" in repr(both)  # a baseline of both has the name that it has for gains


def test_an_overshoot_says_what_helps():
    for found in (
        lambda: fc.fit(SIM.X, 9 * SIM.S, relative_ridge=1e-4, method="free-linear"),
        lambda: fc.ridge_path(SIM.X, 9 * SIM.S, relative_ridges=[1e-4], method="free-linear"),
    ):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result = found()
        (message,) = (str(each.message) for each in caught if each.category is fc.OvershootWarning)
        assert "W = 0" in message
        assert "or method='free'." in message
        assert_of_a_connectivity(message)
        assert "line-search" not in message
    assert "Use a larger ridge, or method='free'." in " ".join(repr(result[0]).split())


def test_applied_names_its_baseline(found):
    assert "at W = 0), " in repr(found.apply(SIM.X, SIM.S))
    gains = fc.fit(SIM.X, SIM.S, relative_ridge=0.1).apply(SIM.X, SIM.S)
    assert "at gains of one), " in repr(gains)


# ---- what a study predicts


@pytest.mark.parametrize("nuisance", [None, "constant"])
@pytest.mark.parametrize("method", ["free", "free-linear", "mixed"])
def test_predicted_covariances_are_those_of_fits_without_the_fold(method, nuisance):
    tol = 1e-6 if method == "mixed" else 1e-9
    options = {"tol": tol, "nuisance": nuisance, **STUDY, "shuffles": 0}
    found = fc.study(SIM.X, SIM.Y, method=method, **options)
    one = next(iter(found.populations.values()))
    T = naive.covariance(SIM.Y)
    total, times = np.zeros((D, D)), np.zeros((D, D))
    for train, test in found.cv.folds:
        fit = fc.fit(
            SIM.X[:, train], responses=SIM.Y[:, train], relative_ridge=found.cv.best_ridge, method=method,
            tol=tol, nuisance=nuisance,
        )  # fmt: skip
        P = fit.apply(SIM.X, X=SIM.X[:, train]).covariance / fit.stats["target_scale"]
        for i in range(D):
            for j in range(D):
                if i in test or j in test:
                    total[i, j] += P[i, j]
                    times[i, j] += 1
    np.testing.assert_allclose(one.predicted, total / times, rtol=1e-5, atol=10 * tol * np.abs(T).max())


# ---- figures


def test_shares_are_those_of_w(found):
    values = np.linalg.svd(formed(found), compute_uv=False)
    figure = plot.connectivity(found)
    shares, wtw = (
        lines(figure)[name].get_ydata() for name in ("the first modes together", "the same of WᵀW")
    )
    np.testing.assert_allclose(shares, 100 * np.cumsum(values**2)[: len(shares)] / np.sum(values**2))
    np.testing.assert_allclose(wtw, 100 * np.cumsum(values**4)[: len(wtw)] / np.sum(values**4))
    bars = [bar.get_height() for ax in figure.axes for bar in ax.patches if hasattr(bar, "get_height")]
    np.testing.assert_allclose(bars, (100 * values**2 / np.sum(values**2))[: len(bars)], atol=1e-9)


def test_variances_are_along_the_modes_of_x(found):
    G, S, C = naive.covariance(SIM.X), SIM.S, naive_free.changed(SIM.X, formed(found))
    C = C.T @ C
    _, V = np.linalg.eigh(G)
    drawn = lines(plot.connectivity(found))
    for name, M in (("X", G), ("target", S), ("fit", C)):
        along = np.einsum("dk,de,ek->k", V, M, V)[::-1] / np.trace(G)
        y = drawn[name].get_ydata()
        np.testing.assert_allclose(y, 100 * along[: len(y)], rtol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_modes_show_what_was_there_and_what_w_adds(method):
    found = fc.fit(SIM.X, SIM.S, relative_ridge=0.05, method=method)
    U, values, Vt = np.linalg.svd(formed(found))
    X = SIM.X - SIM.X.mean(axis=0)
    axes = plot.modes(found, 2)
    assert len(axes) == 2
    for k, ax in enumerate(axes):
        before, added = U[:, k] @ X, values[k] * Vt[k] @ SIM.X
        sign = np.sign(added[np.abs(added).argmax()])
        order = np.argsort(-sign * added, kind="stable")
        drawn = {line.get_label(): line.get_ydata() for line in ax.lines}
        scale = np.abs(before).max()
        np.testing.assert_allclose(drawn["before W"], sign * before[order], atol=1e-6 * scale)
        np.testing.assert_allclose(drawn["added by W"], sign * added[order], atol=1e-6 * scale)
        assert [text.get_text() for text in ax.get_xticklabels()] == [str(i) for i in order]
        assert ax.get_title().startswith(f"Mode {k + 1}: ")


@pytest.mark.parametrize("order", ["input", "cluster"])
def test_the_figure_is_legible(found, order):
    assert_legible(plot.connectivity(found, order=order))
    short = fc.fit(SIM.X, SIM.S, relative_ridge=0.05, method="psd")
    assert_legible(plot.connectivity(short, order=order))
    many = fc.datasets.simulate(60, 40, rng=0)
    names = [f"a rather long name of odour {i}" for i in range(40)]
    assert_legible(plot.connectivity(fc.fit(many.X, many.S, ridge=1.0, method="free"), labels=names))


def test_modes_are_legible_on_a_phone(found):
    figure = new_figure(4.2, 8.0)
    draw_modes(figure, found.modes(), 3)
    assert_legible(figure)


def test_w_of_zero_is_drawn_and_reported(tmp_path):
    found = fc.fit(SIM.X, fc.covariance(SIM.X), relative_ridge=0.1, method="free")
    assert found.norm() == 0
    assert "it has no modes" in str([t.get_text() for ax in plot.connectivity(found).axes for t in ax.texts])
    assert "it has no modes" in plot.modes(found)[0].texts[0].get_text()
    text = read(_page.connected_page(found))
    assert "With W = 0 the covariance is the target: there is nothing to fit." in text


def test_covariances_and_paths_take_connectivities(found):
    axes = plot.covariances(SIM.X, SIM.S, found)
    np.testing.assert_array_equal(axes[2].images[0].get_array(), found.covariance())
    assert axes[2].get_title() == f"Fitted\nfree connectivity: R² = {found.r2:.2f}"
    assert axes[0].get_title().startswith("Input\nW = 0: R² = ")
    paths = {
        method: fc.ridge_path(SIM.X, SIM.S, relative_ridges=[1, 0.1, 0.3], method=method)
        for method in ("free", "psd")
    }
    losses, norms = plot.ridge_path(paths)
    assert losses.get_ylabel() == "exact loss / loss at W = 0"
    assert norms.get_ylabel() == "norm of W"
    medians = [line.get_ydata() for line in norms.lines if line.get_linewidth() == 2]
    for path, drawn in zip(paths.values(), medians, strict=True):
        np.testing.assert_allclose(drawn, [path[k].norm() for k in (1, 2, 0)])
        W = formed(path[1])
        np.testing.assert_allclose(drawn[0], np.linalg.norm(W), rtol=1e-8)
    assert norms.get_ylim()[0] > -0.1 * norms.get_ylim()[1]
    assert_legible(losses.figure)


def test_a_study_is_drawn_with_the_modes_of_w(study):
    figure = plot.study(study)
    FigureCanvasAgg(figure).draw()
    texts = " ".join(t.get_text() for ax in figure.axes for t in (ax.title, ax._left_title, *ax.texts))
    assert "A connectivity predicts held-out conditions" in figure.get_suptitle()
    assert "Modes of W" in texts
    assert f"W = 0: {study.cv.baseline('one')[0]:.2f}" in texts
    assert_of_a_connectivity(texts.replace("one gain a group", ""))
    assert_legible(figure)
    assert "W closer to 0" in plot.cross_validation(study.cv).get_xlabel()


def test_figures_refuse_what_they_cannot_draw(found):
    gains, stack = (fc.fit(SIM.X, S, relative_ridge=0.1) for S in (SIM.S, np.stack([SIM.S, SIM.S])))
    with pytest.raises(
        TypeError, match=r"Argument 'fits' must be of gains, not a Connectivity.*connectivity"
    ):
        plot.gains(found)
    with pytest.raises(TypeError, match=r"Argument 'fits' must be of gains, not a Connectivity"):
        plot.summary(SIM.X, SIM.S, {"exact": gains, "free": found})
    with pytest.raises(TypeError, match=r"Argument 'found' must be a Connectivity, not Fit"):
        plot.connectivity(gains)
    both = fc.fit(SIM.X, np.stack([SIM.S, 2 * SIM.S]), relative_ridge=0.1, method="free")
    for draw in (plot.connectivity, plot.modes):
        with pytest.raises(
            ValueError, match=r"Argument 'found' must be a connectivity of one target, not of 2"
        ):
            draw(both)
    for fit in (both, stack):
        with pytest.raises(ValueError, match=r"Argument 'fit' must be a fit of one target, not of 2"):
            plot.covariances(SIM.X, SIM.S, fit)
    with pytest.raises(ValueError, match=r"Argument 'labels' must name the 12 conditions, not 1"):
        plot.modes(found, labels=["one"])
    with pytest.raises(ValueError, match=r"Argument 'n_modes' must be from 1 to "):
        plot.modes(found, 0)
    path = fc.ridge_path(SIM.X, SIM.S, relative_ridges=[0.1])
    free = fc.ridge_path(SIM.X, SIM.S, relative_ridges=[0.1], method="free")
    with pytest.raises(
        ValueError, match=r"Argument 'path' must be of gains or of connectivities, not of both"
    ):
        plot.ridge_path({"linear": path, "free": free})
    twice = fc.ridge_path(SIM.X, np.stack([SIM.S, SIM.S]), relative_ridges=[0.1], method="free")
    with pytest.raises(ValueError, match=r"must be a path to one target, not to 2"):
        plot.ridge_path(twice)


# ---- pages


def test_the_page_is_drawn_with_all_that_a_reader_needs(found, tmp_path):
    assert found.report(tmp_path / "free.html", title="A <title>") == tmp_path / "free.html"
    page = (tmp_path / "free.html").read_text(encoding="utf-8")
    text = read(page)
    assert page.count("data:image/png") == 6  # three figures, each for a screen and a phone
    W = formed(found)
    values = np.linalg.svd(W, compute_uv=False)
    first = np.argmax(np.linalg.norm(W, axis=1))
    for words in (
        "A &lt;title&gt;",
        "A connectivity W among 40 channels was fitted",
        "Closer to the target on the conditions that were fitted; prediction is not known",
        f"{100 * found.loss / found.loss_at_one:.0f} % of that with W = 0",
        f"R² is {found.r2:.2f}, and was {found.stats['r2_at_one']:.2f} with W = 0",
        f"Norm of W {np.linalg.norm(W):.3g} ",
        f"{found.degrees_of_freedom:.0f} of {D * (D + 1) // 2}",
        f"1 {values[0]:.3g} {100 * values[0] ** 2 / np.sum(values**2):.0f} % ",
        f"glomerulus &amp; {first} {W[first, first]:.3g} {np.linalg.norm(W[first]):.3g} "
        f"{np.linalg.norm(W[:, first]):.3g}".replace("-", "−"),
        f"{np.sum(np.diagonal(W) ** 2) / np.sum(W**2):.1%} of ‖W‖²",
        "odour &lt;b&gt;", "Certificate", "converged", "Newton", "It does not say", "Mode of W", "Shrinkage",
    ):  # fmt: skip
        assert words in text, words
    assert "<b>" not in page
    assert_of_a_connectivity(text)
    rows = re.search(r"What W makes of the modes of X.*?Scaled by: ", text)[0]
    scaling = found.explain()
    for k in range(3):
        assert f" {scaling.scaled[k]:.2f} {100 * scaling.left[k, k]:.2g} %" in rows


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("options", [{}, {"nuisance": ("diagonal", "constant"), "pairs": "off-diagonal"}])
def test_every_connectivity_has_a_page(method, options):
    found = fc.fit(SIM.X, SIM.S, relative_ridge=0.3, method=method, center=not options, **options)
    text = read(_page.connected_page(found))
    assert f"Method {method} " in text
    assert ("Nuisance terms" in text) == bool(options)
    assert ("Pairs that count off-diagonal" in text) == bool(options)
    assert "Channels are numbered" in text
    assert_of_a_connectivity(text)


def test_a_page_of_several_targets_has_a_part_for_each():
    found = fc.fit(SIM.X, np.stack([SIM.S, 3 * SIM.S]), relative_ridge=0.3, method="free")
    text = read(_page.connected_page(found))
    assert "comes close to each of 2 targets" in text
    assert "All targets" in text
    for k in range(2):
        assert f"Target {k + 1} of 2" in text
        assert f" {np.linalg.norm(formed(found.select(k))):.3g} " in text


def test_a_page_of_shared_targets_has_r2_of_each():
    stack = np.stack([SIM.S, 3 * SIM.S])
    for method in ("free", "exact"):
        found = fc.fit(SIM.X, stack, relative_ridge=0.3, method=method, shared=True)
        page = _page.connected_page(found) if method == "free" else _page.page(found)
        C = found.covariance()
        each = [1 - np.sum((C - S) ** 2) / np.sum(S**2) for S in stack]
        assert f"R² of each target {min(each):.2f} to {max(each):.2f}; ".replace("-", "−") in read(page)


def test_a_page_claims_one_minimum_only_where_there_is_one():
    X = SIM.X.copy()
    X[:, 0] = 3.0  # a condition to which all channels respond alike
    found = fc.fit(X, SIM.S, relative_ridge=0.1, method="free")
    assert found.stats["solver"] == "trust region"
    assert "there may be others" in read(_page.connected_page(found))
    found = fc.fit(SIM.X, SIM.S, relative_ridge=0.1, method="free")
    assert "there is no lower one" in read(_page.connected_page(found))


def test_a_page_without_the_responses_leaves_out_channels(found, tmp_path):
    found.save(tmp_path / "found.npz")
    text = read(_page.connected_page(fc.load(tmp_path / "found.npz")))
    assert "Channels that W changes most" in read(_page.connected_page(found))
    assert "Channels that W changes most" not in text
    assert "Modes of W" in text


def test_pages_of_studies_speak_of_the_connectivity(study):
    text = read(_page.whole_page(study))
    assert "Does a connectivity predict: 40 channels" in text
    assert "A connectivity W, which turns responses X into (I + W)X, was fitted to 40 channels" in text
    assert "What the connectivity does" in text
    assert "Does the connectivity predict?" in text
    assert "Which gains change" not in text
    assert_of_a_connectivity(text)
    fit = fc.fit(SIM.X, responses=SIM.Y, ridge="cv", method="free")
    text = read(_page.connected_page(fit))  # with the study behind the ridge
    assert "Does the connectivity predict?" in text
    assert "Held out: correlation" in text
    assert_of_a_connectivity(text)
    both = fc.cross_validate(SIM.X, SIM.Y, method=["exact", "free"], folds=4, relative_ridges=[0.1])
    text = read(_page.study_page(both))
    assert "Gains, and connectivities W" in text
    assert "Do the fits predict?" in text
    assert text.count("One column of the responses") == 1  # words that both have are told once
    assert text.count(" Gain The factor") == text.count(" Connectivity A matrix W") == 1


def test_a_study_of_something_else_is_refused(found, study):
    with pytest.raises(ValueError, match=r"Argument 'cv' must have the method of the fit, 'psd'"):
        _page.connected_page(fc.fit(SIM.X, SIM.S, relative_ridge=0.1, method="psd"), cv=study.cv)
    with pytest.raises(TypeError, match=r"Argument 'cv' must be a CrossValidation or a PermutationTest"):
        _page.connected_page(found, cv=3)
    twice = fc.fit(SIM.X, np.stack([SIM.S, SIM.S]), relative_ridge=0.1, method="free")
    with pytest.raises(ValueError, match=r"Argument 'cv' must be left out for a stack of targets"):
        _page.connected_page(twice, cv=study.cv)


# ---- a study as plain values


def test_a_study_of_a_connectivity_has_no_table(study, tmp_path):
    with pytest.raises(ValueError, match=r"There is no table of channels: method='free' fits a connectivity"):
        study.to_csv(tmp_path / "study.csv")
    with pytest.raises(ValueError, match=r"There is no table of channels"):
        study.to_frame()
    assert '"table": null' in study.to_json()
    study.save(tmp_path / "study.npz")
    with np.load(tmp_path / "study.npz") as file:
        np.testing.assert_array_equal(file["singular_values.Y"], study.fit.singular_values)
    assert repr(fc.load(tmp_path / "study.npz")) == repr(study)


@pytest.mark.parametrize("shape", [(1, 1), (5, 1), (2, 2)])
def test_few_channels_and_conditions_are_drawn(shape):
    rng = np.random.default_rng(0)
    Y = rng.standard_normal((7, shape[1]))
    found = fc.fit(rng.standard_normal(shape), responses=Y, ridge=0.1, method="free", center=False)
    for order in ("input", "cluster"):
        FigureCanvasAgg(plot.connectivity(found, order=order)).draw()
    assert len(plot.modes(found)) == max(1, len(found.modes()))
    assert "Overshoots" not in read(_page.connected_page(found))  # by rounding alone
