"""The report: one page that needs nothing else, legible on a screen, a phone and paper; notebooks."""

import base64
import dataclasses
import html.parser
import itertools
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from cases import slow_but
from click.testing import CliRunner
from matplotlib.backends.backend_agg import FigureCanvasAgg
from optional import absent, browser_paths
from test_plot import assert_legible

import fastcov as fc
from fastcov import cli
from fastcov._results.score import SCORES
from fastcov.plot._held_out import WORDS
from fastcov.plot._style import new_figure
from fastcov.report import _evidence, _headline, _page, _sections, _words
from fastcov.report._evidence import study_of
from fastcov.report._explanation import explanation_sections

DPI = _sections.DPI
compiled = pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="slow without compiling")
VOID = {"meta", "link", "img", "br", "hr", "wbr"}


class Page(html.parser.HTMLParser):
    """Elements in their order as (tag, attributes), their nesting checked, and the text that is read."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.words, self.comments = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []
        self.text = " ".join(" ".join(self.words).replace("\u00a0", " ").split())

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    def all(self, *tags):
        return [attributes for tag, attributes in self.elements if tag in tags]


@pytest.fixture(autouse=True)
def quick(request, monkeypatch):
    """Figures of few dots where a test is not about them: most of the time of a page is theirs."""
    if "megabytes" not in request.node.name:
        monkeypatch.setattr(_sections, "DPI", 30)


@pytest.fixture(scope="module")
def sim():
    return fc.datasets.simulate(60, 12)


@pytest.fixture(scope="module")
def named(sim):
    """A fit whose names are hostile."""
    fit = fc.fit(sim.X, sim.S, relative_ridge=0.1, method="exact")
    channels = [f"glomerulus {i}" for i in range(60)]
    channels[np.argmax(fit.gains)] = "<script>alert('most')</script>"
    channels[np.argmin(fit.gains)] = "a & b</td>"
    conditions = tuple(f"odour <b>{i}</b>" for i in range(12))
    return dataclasses.replace(fit, channels=tuple(channels), conditions=conditions)


@pytest.fixture(scope="module")
def chosen(sim):
    """A fit whose ridge was chosen on held-out conditions."""
    return fc.fit(sim.X, responses=sim.Y, ridge="cv", method="exact")


@pytest.fixture(scope="module")
def written(named, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    assert named.report(path, title='A "title" <i>of mine</i>') == path
    return path


@pytest.fixture(scope="module")
def page(written):
    return Page(written.read_text(encoding="utf-8"))


def read(fit, **options):
    return Page(_page.page(fit, **options))


# ---- what the page says


def test_page_has_all_that_a_reader_needs(page, named):
    for words in (
        "One gain was fitted to each of 60 channels",
        "over 12 conditions",
        "Closer to the target on the conditions that were fitted; prediction is not known",
        "Held out not known",
        f"R² is {named.r2:.2f}, and was {named.stats['r2_at_one']:.2f} with all gains at one",
        f"{100 * named.loss / named.loss_at_one:.0f} %",
        "Largest gains", "Smallest gains", "glomerulus", "The fit in numbers", "Certificate", "converged",
        "It does not say", "How it was made", fc.__version__, np.__version__, "BLAS", "Page made",
        "What the words mean",
    ):  # fmt: skip
        assert words in page.text, words
    assert "Warning" not in page.text
    assert "held out" in page.text


def test_channels_at_either_end_are_named_with_their_gains(page, named):
    order = np.argsort(-named.gains)
    for i in (*order[:10], *order[-10:]):
        gain = f"{named.gains[i]:.3f}".replace("-", "−")
        assert f"{named.channels[i]} {gain}" in page.text
    assert "Channels are numbered" not in page.text


@pytest.mark.slow
def test_channels_without_names_have_their_numbers(sim):
    fit = fc.fit(sim.X, sim.S, relative_ridge=0.1)
    text = read(fit).text
    assert f"Largest gains Channel Gain {np.argmax(fit.gains)} {fit.gains.max():.3f}" in text
    assert "Channels are numbered by their row in the responses; the first is 0." in text


@pytest.mark.slow
def test_few_channels_are_listed_all(sim):
    text = read(fc.fit(sim.X[:20], sim.S, relative_ridge=1.0)).text
    assert "All gains" in text
    assert "Smallest gains" not in text


def test_every_row_of_the_table_of_a_fit_says_what_it_means(sim):
    bounded = fc.fit(sim.X, sim.S, relative_ridge=1e-3, method="exact", bounds=(0.9, 1.1), n_starts=2)
    stepped = fc.fit(sim.X, sim.S, relative_ridge=1e-3, method="line-search")
    names = {row.name for fit in (bounded, stepped) for row in _words.fit_rows(fit)}
    assert {"At a bound", "Losses of all starts", "Step", "R²", "Loss", "Gains", "Ridge λ"} <= names
    assert all(row.meaning.endswith(".") for fit in (bounded, stepped) for row in _words.fit_rows(fit))


def banner(page):
    """The words that a page begins with, and their colour."""
    kinds = [attributes["class"] for tag, attributes in page.elements
             if tag == "p" and "verdict" in attributes.get("class", "")]  # fmt: skip
    return kinds[0].removeprefix("verdict ")


@pytest.fixture(scope="module")
def noisy():
    """Gains of a simulation, which are there to be found, and noise, in which none are."""
    made, rng = fc.datasets.simulate(60, 20, noise=0.3, rng=1), np.random.default_rng(0)
    return {
        "gains": (made.X, made.Y),
        "permuted": (made.X, made.Y[:, np.roll(rng.permutation(20), 1)]),
        "noise": tuple(np.random.default_rng(3).standard_normal((2, 60, 20))),
    }


@pytest.fixture(scope="module")
def studies(noisy):
    ridges = [1e-2, 1e-1, 1.0]
    return {
        name: fc.cross_validate(X, Y, shuffles=19, folds=4, relative_ridges=ridges, rng=0)
        for name, (X, Y) in noisy.items()
    }


@pytest.mark.parametrize("name", slow_but({"gains"}, ["gains", "permuted", "noise"]))
def test_the_banner_is_the_verdict_on_held_out_conditions(studies, name):
    cv = studies[name]
    fit = read(cv.fit, cv=cv)
    for page in (fit, Page(_page.study_page(cv))):
        assert cv.verdict.words in page.text
        assert banner(page) == ("good" if name == "gains" else "bad")
        found = "yes, p = 0.05" if name == "gains" else "no, p = "
        assert f"better than without X: {found}" in page.text
        assert "Helps" not in page.text
        assert page.text.index(cv.verdict.words) < page.text.index("Do the gains predict?")
    assert fit.text.index("Do the gains predict?") < fit.text.index("What the gains do")


@pytest.mark.slow
def test_without_held_out_conditions_nothing_is_green(named, noisy):
    X, Y = noisy["permuted"]
    for fit in (named, fc.fit(X, responses=Y, relative_ridge=1e-3, method="exact")):
        page = read(fit)
        assert fit.loss < fit.loss_at_one
        assert banner(page) == "open"
        assert "prediction is not known" in page.text


@pytest.mark.slow
def test_without_shuffles_a_better_score_is_open(noisy):
    X, Y = noisy["gains"]
    cv = fc.cross_validate(X, Y, folds=4, relative_ridges=[1e-2, 1e-1])
    page = read(cv.fit, cv=cv)
    assert banner(page) == "open"
    assert "better than without X: not shown without shuffles" in page.text
    assert "No shuffles were made" in page.text


@pytest.mark.slow
def test_too_few_shuffles_leave_the_verdict_open(noisy):
    X, Y = noisy["gains"]
    cv = fc.cross_validate(X, Y, folds=4, relative_ridges=[1e-2, 1e-1], shuffles=3)
    page = read(cv.fit, cv=cv)
    assert banner(page) == "open"
    assert "not shown, p = 0.25, the least that 3 shuffles can give" in page.text


def test_overshoot_stays_first_whatever_is_held_out(studies, sim):
    fit = dataclasses.replace(fc.fit(sim.X, 30 * sim.S, relative_ridge=1e-4), method="exact")
    cv = studies["gains"]
    cv = dataclasses.replace(cv, stats=cv.stats | {"shape": (60, 12)})
    assert _headline.verdict(fit, cv) == ("Overshoots: worse than with all gains at one", "bad")


@pytest.mark.slow
def test_scores_stand_beside_baselines_with_p_values_and_meanings(studies):
    cv = studies["gains"]
    page = Page(_page.study_page(cv, title="Mine"))
    k = cv.place("exact")
    for score, (what, pairs) in WORDS.items():
        value = cv.scores["exact"].pooled(score)[k]
        number = f"{value:.2f}".replace("-0.00", "0.00").replace("-", "−")
        assert f"{what[0].upper()}{what[1:]}, {pairs} {number} " in page.text, score
        assert SCORES[score] in page.text
    for words in (
        "Mine", "without X", "gains of one", "aC+βI+γ11ᵀ",
        "p of each score, and of its gain over baselines, from 19 shuffles",
        "Nested folds not asked", "Agreement of gains", "Conditions that are predicted worst", "Folds",
        "How it was made", "Shuffled",
        f"{100 * np.nanmax(cv.condition_shares('exact')):.1f} %",
    ):  # fmt: skip
        assert words in page.text, words
    assert page.text.count("Held out: correlation") == 1


@pytest.mark.slow
def test_a_study_of_several_methods_has_a_verdict_for_each_and_nested_folds_are_told(noisy, tmp_path):
    X, Y = noisy["gains"]
    cv = fc.cross_validate(
        X, Y, folds=3, relative_ridges=[1e-2, 1e-1], method=["exact", "linear"], nested=True, refit=None
    )
    assert cv.report(tmp_path / "study.html") == tmp_path / "study.html"
    text = Page((tmp_path / "study.html").read_text(encoding="utf-8")).text
    for method in cv.methods:
        assert f"Held-out scores beside baselines: {method}" in text
    assert "The choice flatters the" in text
    assert text.count("Held-out covariances are predicted better than without X") >= 2


@pytest.mark.slow
def test_a_test_is_reported_with_its_channels_and_may_stand_for_its_study(noisy, tmp_path):
    X, Y = noisy["gains"]
    test = fc.permutation_test(X, Y, shuffles=19, relative_ridges=[1e-1, 1.0], folds=3)
    test.report(tmp_path / "test.html", title="A test")
    for text in (
        Page((tmp_path / "test.html").read_text(encoding="utf-8")).text,
        read(test.cv.fit, cv=test).text,
    ):
        assert f"{test.channels.different().sum()} of 60 gains" in text
        assert "Which gains differ from those of shuffled targets" in text


def test_a_study_of_something_else_is_refused(studies, sim, named):
    cv = studies["gains"]
    linear = fc.fit(np.zeros((60, 20)) + sim.X[:, :1], np.eye(20), ridge=1.0)
    stack = fc.fit(sim.X, np.stack([sim.S, sim.S]), relative_ridge=1.0)
    for fit, given, error, words in (
        (named, {}, TypeError, "'cv' must be a CrossValidation or a PermutationTest, not dict"),
        (named, cv, ValueError, "'cv' must be a study of the 60 channels x 12 conditions of the fit, not"),
        (linear, cv, ValueError, "'cv' must have the method of the fit, 'linear', not only exact"),
        (stack, cv, ValueError, "'cv' must be left out for a stack of targets, not given with 2"),
    ):
        with pytest.raises(error, match=words):
            _page.page(fit, cv=given)


@pytest.mark.slow
def test_held_out_scores_that_chose_the_ridge_are_told_and_drawn(chosen):
    cv = chosen.stats["cv"]
    page = read(chosen)
    assert "Do the gains predict?" in page.text
    assert cv.verdict.words in page.text
    assert f"Held out: correlation {cv.summary('exact')[0].max():.2f} ±" in page.text
    assert f"gains of one {cv.baseline('one')[0]:.2f}".replace("-", "−") in page.text
    assert any("against the ridge" in image["alt"] for image in page.all("img"))


@pytest.mark.slow
def test_a_fit_that_overshoots_warns_before_anything_is_shown(sim):
    fit = fc.fit(sim.X, 30 * sim.S, relative_ridge=1e-4)
    assert fit.overshoots
    text = read(fit).text
    assert "Overshoots: worse than with all gains at one" in text
    assert text.index("this fit overshoots") < text.index("What the gains do")
    assert "times that of X's covariance" in text  # the trace, too


@pytest.mark.slow
def test_a_fit_that_stopped_short_says_so_first(sim):
    with pytest.warns(fc.ConvergenceWarning):
        fit = fc.fit(sim.X, sim.S, relative_ridge=1e-4, method="exact", max_iterations=1)
    text = read(fit).text
    assert "Stopped short" in text
    assert text.index("The fit stopped short (max-iterations)") < text.index("What the gains do")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::fastcov.ConvergenceWarning")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ridge": 0}, "minimum-norm (rank"),
        pytest.param(
            {"relative_ridge": 1e-4, "method": "diagonal"}, "what it ignores", marks=pytest.mark.slow
        ),
        pytest.param(
            {"relative_ridge": 1e-3, "method": "line-search"}, "of the linear fit", marks=pytest.mark.slow
        ),
        ({"relative_ridge": 1e-3, "bounds": (0, 1.5)}, "gains Gains that would go further"),
        pytest.param(
            {"relative_ridge": 0.1, "center": False},
            "Their mean over channels is kept.",
            marks=pytest.mark.slow,
        ),
        pytest.param({"relative_ridge": 1e6}, "Hardly closer to the target", marks=pytest.mark.slow),
        pytest.param(
            {"S": "input", "relative_ridge": 0.1}, "there is nothing to fit", marks=pytest.mark.slow
        ),
        ({"S": "zero", "relative_ridge": 0.1}, "R² is not defined"),
        ({"X": "silent", "ridge": 1.0}, "Changes nothing"),
        ({"X": "huge", "S": "huge", "relative_ridge": 0.1}, "× 10²"),
    ],
)
def test_fits_of_every_kind_can_be_reported(sim, options, words):
    X, S = {"silent": 0 * sim.X, "huge": 1e50 * sim.X}.get(options.get("X"), sim.X), sim.S
    S = {"input": fc.covariance(X), "zero": 0 * S, "huge": 1e100 * S}.get(options.get("S"), S)
    fit = fc.fit(X, S, **{name: value for name, value in options.items() if name not in "XS"})
    text = read(fit).text
    assert words in text
    assert "nan" not in re.findall(r"\w+", text)


@pytest.mark.parametrize("shape", slow_but({(2, 1)}, [(1, 2), (2, 1), (3, 2)]), ids=str)
def test_the_smallest_fits_can_be_reported(shape):
    N, D = shape
    X = np.random.default_rng(0).normal(size=(N, D))
    fit = fc.fit(X, np.eye(D), relative_ridge=0.1, center=False)
    assert f"each of {N} channel" in read(fit).text


@pytest.mark.slow
def test_each_target_of_a_stack_has_its_part(sim):
    stack = fc.fit(sim.X, np.stack([sim.S, 30 * sim.S]), relative_ridge=1e-3, method="line-search")
    page = read(stack)
    for k, target in enumerate((sim.S, 30 * sim.S)):
        alone = fc.fit(sim.X, target, relative_ridge=1e-3, method="line-search")
        for row in _words.fit_rows(alone):
            assert row.value.replace("\u00a0", " ") in page.text
        assert f"Target {k + 1} of 2" in page.text
    assert "All targets" in page.text
    assert len(page.all("img")) == 8
    assert "All targets" not in read(fc.fit(sim.X, sim.S[None], relative_ridge=0.1)).text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1234.5, "1234"), (-0.5, "−0.5"), (1.5e-7, "1.50 × 10⁻⁷"), (-2e12, "−2.00 × 10¹²"),
     (float("nan"), "not defined"), (float("-inf"), "−∞"), (0.001, "0.001"), (999999, "999999")],
)  # fmt: skip
def test_numbers_are_short_and_written_as_people_write_them(value, text):
    assert _words.number(value) == text


# ---- what the page is


def test_page_loads_nothing_and_runs_nothing(page):
    assert page.all("script", "iframe", "object", "embed", "audio", "video", "form", "base") == []
    for attributes in page.all("img", "link"):
        assert (attributes.get("src") or attributes["href"]).startswith("data:")
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    (policy,) = [m["content"] for m in page.all("meta") if "http-equiv" in m]
    assert policy.split("; ")[:3] == ["default-src 'none'", "img-src data:", "style-src 'unsafe-inline'"]


def test_no_address_is_in_the_page(written):
    text = re.sub(r'"data:[^"]*"', "", written.read_text(encoding="utf-8"))
    assert not re.findall(r"(?i)https?:|//\w|@import|url\(", text)


def test_names_and_titles_are_text_whatever_they_hold(page):
    assert 'A "title" <i>of mine</i>' in page.text
    assert "<script>alert('most')</script>" in page.text
    assert "a & b</td>" in page.text
    assert not page.all("i", "b", "script")


def test_page_is_accessible(page):
    assert page.elements[0] == ("html", {"lang": "en"})
    assert {"charset": "utf-8"} in page.all("meta")
    assert any(m.get("name") == "viewport" and "width=device-width" in m["content"] for m in page.all("meta"))
    assert len(page.all("title")) == len(page.all("h1")) == len(page.all("main")) == 1
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))
    assert len(page.all("table")) == len(page.all("caption")) > 3
    assert all(th.get("scope") in ("row", "col") for th in page.all("th"))
    assert all(len(image["alt"]) > 40 for image in page.all("img"))
    assert len(page.all("figcaption")) == len(page.all("figure")) == len(page.all("img")) / 2


def test_images_are_png_of_both_widths(page):
    widths = []
    for image in page.all("img"):
        data = base64.b64decode(image["src"].removeprefix("data:image/png;base64,"), validate=True)
        assert data[:8] == b"\x89PNG\r\n\x1a\n"
        widths.append(int.from_bytes(data[16:20], "big"))
    wide, narrow = (round(w * DPI) for w in (_sections.WIDE, _sections.NARROW))
    assert widths == [wide, narrow] * (len(widths) // 2)


def test_page_is_small(written):
    assert written.stat().st_size < 0.6e6


@pytest.mark.slow
@pytest.mark.parametrize("which", ["named", "chosen"])
def test_figures_are_legible_at_both_widths(which, request):
    fit = request.getfixturevalue(which)
    found = study_of(None, fit)
    pictures = [picture for section in _page._sections(fit, found) for picture in section.pictures]
    assert len(pictures) == 2 + (which == "chosen")
    for picture in pictures:
        for width, height in zip((_sections.WIDE, _sections.NARROW), picture.heights, strict=True):
            figure = new_figure(width, height)
            FigureCanvasAgg(figure)
            picture.draw(figure)
            assert_legible(figure)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("modes", "conditions"),
    [
        (None, "named"),
        *(pytest.param(5, each, marks=pytest.mark.slow) for each in ("named", "bare", "short")),
    ],
)
def test_figures_of_an_explanation_are_legible_at_both_widths(named, sim, modes, conditions):
    why = fc.explain(sim.X, sim.S, named.ridge, modes=modes)
    if conditions != "named":
        names = None if conditions == "bare" else tuple("abcdefghijkl")
        named = dataclasses.replace(named, conditions=names)
    (section,) = explanation_sections(why, named)
    assert len(section.pictures) == 5
    for picture in section.pictures:
        for width, height in zip((_sections.WIDE, _sections.NARROW), picture.heights, strict=True):
            figure = new_figure(width, height)
            FigureCanvasAgg(figure)
            picture.draw(figure)
            assert_legible(figure)


def test_an_explanation_tells_who_changed_a_gain_most(named, sim):
    why = fc.explain(sim.X, sim.S, named.ridge)
    (section,) = explanation_sections(why, named)
    assert section.tables[0].head == ("Channel", "Gain", "Linear fit", "Alone", "Changed most by")
    (matters,) = (table for table in section.tables if table.head == ("Channel", "Importance"))
    A = fc.gram(sim.X) + named.ridge * np.eye(len(sim.X))
    lost = why.delta**2 / np.diagonal(np.linalg.inv(A)) / (why.delta @ why.overlaps)
    moved = np.argsort(-np.abs(named.delta))[:8]
    contributions = -fc.gram(sim.X) * why.delta
    np.fill_diagonal(contributions, 0.0)
    for i, row, own in zip(moved, section.tables[0].rows, matters.rows, strict=True):
        gains = (named.gains[i], 1 + why.delta[i], 1 + why.diagonal_delta[i])
        assert row[:4] == (named.channels[i], *(f"{gain:.2f}" for gain in gains))
        assert own == (named.channels[i], f"{lost[i]:.1%}")
        assert row[4].startswith(f"{named.channels[np.argmax(np.abs(contributions[i]))]} (")
    assert f"{why.unreachable / why.total:.1%}" in section.sentences[1]
    linear = fc.fit(sim.X, sim.S, ridge=named.ridge)
    (section,) = explanation_sections(why, linear)
    assert section.tables[0].head == ("Channel", "Gain", "Alone", "Changed most by")
    few = fc.explain(sim.X, sim.S, named.ridge, modes=3)  # an importance would take long where modes are few
    (section,) = explanation_sections(few, linear)
    assert section.tables[0].head == ("Channel", "Gain", "Alone", "Changed most by")
    assert all("Importance" not in table.head for table in section.tables)
    assert section.tables[0].rows[0][0] == str(np.argmax(np.abs(why.delta)))
    assert section.sentences[0].startswith("This part is of this fit.")


def test_an_explanation_has_the_modes_that_make_the_gains_and_what_permuted_targets_give(named, sim):
    why = fc.explain(sim.X, sim.S, named.ridge)
    (section,) = explanation_sections(why, named)
    shares, table = why.delta_shares, section.tables[-1]
    order = np.argsort(-shares)[:6]
    assert list(order) != list(range(6))  # or nothing is tested
    assert table.head == ("Mode", "Corrected", "Of the gains", "Of the loss removed")
    columns = why.shrinkage, shares, why.loss_shares
    assert table.rows == [(str(k + 1), *(f"{column[k]:.1%}" for column in columns)) for k in order]
    words = section.sentences[3]
    for share in (why.corrected_permuted.mean(), why.left_by_ridge_permuted.mean()):
        assert f" {share:.1%}" in words
    assert f"against {1 - (why.unreachable + why.left_by_ridge) / why.total:.1%}" in words
    (row,) = (row for row in section.rows if row.name == "Gains of permuted targets")
    assert row.value == f"correlation {why.delta_correlations.mean():.2f}"
    low = dataclasses.replace(why, dof=1.0, dof_upper=1.0)
    assert explanation_sections(low, named)[0].sentences[-1] == low.remark != ""
    bare = fc.explain(sim.X, sim.S, named.ridge, shuffles=0)
    (section,) = explanation_sections(bare, named)
    assert not any("permuted" in text for text in section.sentences[:3])
    assert not any("permuted" in row.name for row in section.rows)


def test_the_channel_taken_apart_is_the_one_that_moved_most_in_this_fit_or_the_one_asked_for():
    sim = fc.datasets.simulate(60, 12, rng=6)
    fit = fc.fit(sim.X, sim.S, relative_ridge=0.001, method="exact")
    why = fc.explain(sim.X, sim.S, fit.ridge)
    most = int(np.argmax(np.abs(fit.delta)))
    assert most != np.argmax(np.abs(why.delta))  # or nothing is tested
    names = dataclasses.replace(fit, channels=tuple(f"g_{i}" for i in range(60)))
    for given, channel, i in ((fit, None, most), (fit, 7, 7), (names, "g_9", 9), (names, 9, 9)):
        (section,) = explanation_sections(why, given, channel)
        name = f"g_{i}" if given is names else str(i)
        assert section.pictures[-1].heading == f"The gain of channel {name} in the linear fit"
        figure = new_figure(9.0, 4.4)
        section.pictures[-1].draw(figure)
        expected = f"gain {1 + why.delta[i]:.2f}; alone it would be {1 + why.diagonal_delta[i]:.2f}"
        assert expected.replace("-", "−") in figure.axes[0].get_title(loc="left")
        rest = why.delta[i] - why.diagonal_delta[i]
        assert section.sentences[2] == (
            f"Channel {name} has a gain of {_words.score(fit.gains[i])} in this fit and of "
            f"{_words.score(1 + why.delta[i])} in the linear fit; alone it would have one of "
            f"{_words.score(1 + why.diagonal_delta[i])}, and the other channels "
            f"{'add' if rest > 0 else 'take'} {_words.number(abs(rest))}."
        )
        assert f"channel {name}:" in section.tables[1].caption


@pytest.mark.parametrize("i", [0, 3, 41])
def test_pairs_of_conditions_behind_a_channel_are_named_with_their_shares(named, sim, i):
    why = fc.explain(sim.X, sim.S, named.ridge)
    (section,) = explanation_sections(why, named, i)
    rows = section.tables[1].rows
    Y, error = sim.X - sim.X.mean(axis=0), sim.S - fc.covariance(sim.X)
    outer = np.outer(sim.X[i], Y[i])
    pairs = (outer + outer.T) * error / why.overlaps[i]
    parts = {
        (a, b): pairs[a, b] * (1 if a == b else 2)
        for a, b in itertools.combinations_with_replacement(range(12), 2)
    }
    assert sum(parts.values()) == pytest.approx(1.0)
    largest = sorted(parts, key=lambda pair: -abs(parts[pair]))
    assert 3 <= len(rows) <= 5
    for (a, b), (name, share, word) in zip(largest, rows, strict=False):
        one, other = named.conditions[a], named.conditions[b]
        assert name == (f"{one} alone" if a == b else f"{one} and {other}")
        assert share == f"{100 * parts[a, b]:.1f}%".replace("-", "−")
        up, down = ("stronger", "weaker") if a == b else ("more alike", "less alike")
        assert word == (up if error[a, b] > 0 else down)
    assert bool(section.notes) == any(row[1].startswith("−") for row in rows)
    assert section.tables[1].caption.endswith("up" if why.overlaps[i] > 0 else "down")
    plain = dataclasses.replace(named, channels=None, conditions=None)
    (section,) = explanation_sections(why, plain, i)
    assert section.tables[1].rows[0][0].startswith(f"condition {largest[0][0]} ")


def test_a_channel_without_an_overlap_has_no_pairs(sim):
    X = sim.X.copy()
    X[5] = 0.0
    fit = fc.fit(X, sim.S, relative_ridge=0.1)
    (section,) = explanation_sections(fc.explain(X, sim.S, fit.ridge), fit, 5)
    assert [table.head[0] for table in section.tables] == ["Channel", "Channel", "Mode"]


@pytest.mark.slow
def test_an_explanation_that_overshoots_is_headed_by_a_warning(sim, tmp_path):
    exact = fc.fit(sim.X, 30 * sim.S, relative_ridge=1e-4, method="exact")
    why = fc.explain(sim.X, 30 * sim.S, exact.ridge)
    assert why.fit.overshoots
    (section,) = explanation_sections(why, exact)
    (warning,) = section.warnings
    ratio, scores = why.fit.loss / why.fit.loss_at_one, (why.fit.r2, why.fit.stats["r2_at_one"], exact.r2)
    assert f"its exact loss is {_words.number(ratio)} times that with all gains at one" in warning
    for value in scores:
        assert _words.score(value) in warning
    assert "of the fit that this page is about" in warning
    page = Page(exact.report(tmp_path / "x.html", explanation=why).read_text(encoding="utf-8"))
    head = page.text.index("Why these gains")
    assert page.text.index("Warning. The linear fit that is explained here overshoots") == head + 16
    linear = fc.fit(sim.X, 30 * sim.S, ridge=exact.ridge)
    assert explanation_sections(why, linear)[0].warnings[0].startswith("This fit overshoots: its exact loss")
    worse = fc.fit(sim.X, 30 * sim.S, ridge=exact.ridge, method="diagonal")
    assert worse.overshoots
    assert "the gains to use" not in explanation_sections(why, worse)[0].warnings[0]
    calm = fc.fit(sim.X, sim.S, relative_ridge=1.0, method="exact")
    (section,) = explanation_sections(fc.explain(sim.X, sim.S, calm.ridge), calm)
    assert section.warnings == []


@pytest.mark.slow
def test_words_of_an_explanation_are_in_the_glossary_where_there_is_one(named, sim):
    why = fc.explain(sim.X, sim.S, named.ridge)
    for text, there in ((read(named, explanation=why).text, True), (read(named).text, False)):
        glossary = text[text.index("What the words mean") :]
        for word in (
            "Atom What",
            "Mode A",
            "Overlap How",
            "Whitened After",
            "Effective degrees of freedom How",
        ):
            assert (word in glossary) == there


def test_an_explanation_of_something_else_is_refused(named, sim):
    ridge, X, S = named.ridge, sim.X, sim.S
    fits = {"ridge": named.ridge * (1 + 1e-12)}
    explanation_sections(fc.explain(X, S, **fits), named)
    scaled = X.copy()
    scaled[3] *= 1.01
    renamed = fc.explain(X, S, ridge)
    names = (*named.channels[:4], "other", *named.channels[5:])
    renamed = dataclasses.replace(renamed, fit=dataclasses.replace(renamed.fit, channels=names))
    for why, words in (
        (fc.explain(X[:-1], S, ridge), "of the responses that were fitted, (60, 12), not of (59, 12)"),
        (fc.explain(scaled, S, ridge), "of the responses that were fitted, not of others"),
        (fc.explain(X, S, ridge, center=False), "of the responses that were fitted, not of others"),
        (fc.explain(X, 1.001 * S, ridge), "of the target that was fitted, not of another"),
        (fc.explain(X, S, ridge * (1 + 1e-8)), "of the ridge that was fitted, "),
        (renamed, f"channel 4 is {named.channels[4]!r}, not 'other'"),
    ):
        with pytest.raises(ValueError, match=r"Argument 'explanation' must be .*" + re.escape(words)):
            read(named, explanation=why)


def test_an_explanation_of_any_ridge_goes_with_ridges_by_channel_and_says_which(sim):
    fit = fc.fit(sim.X, sim.S, ridge=np.linspace(50.0, 60.0, 60))
    (section,) = explanation_sections(fc.explain(sim.X, sim.S, 55.0), fit)
    assert "the linear fit without bounds, with a ridge of 55." in section.sentences[0]


def test_an_explanation_of_one_target_of_a_stack_says_which(sim):
    stack = fc.fit(sim.X, np.stack([sim.S, 2 * sim.S]), ridge=50.0)
    (section,) = explanation_sections(fc.explain(sim.X, 2 * sim.S, 50.0), stack)
    assert section.sentences[0].startswith("This part is of this fit to target 2.")
    with pytest.raises(ValueError, match="of the target that was fitted"):
        explanation_sections(fc.explain(sim.X, 3 * sim.S, 50.0), stack)


def test_a_channel_that_is_not_there_or_not_explained_is_refused(named, sim, tmp_path):
    why = fc.explain(sim.X, sim.S, named.ridge)
    with pytest.raises(ValueError, match="Argument 'channel' must be a number from 0 to 59 or a name"):
        named.report(tmp_path / "x.html", explanation=why, channel="nobody")
    with pytest.raises(ValueError, match="Argument 'channel' must be left out without an explanation, not 3"):
        named.report(tmp_path / "x.html", channel=3)
    assert list(tmp_path.iterdir()) == []


def test_captions_claim_no_more_than_figures_show(chosen, sim):
    picture = _evidence.picture(chosen.stats["cv"], ("exact",))
    assert "only shuffles tell, cross_validate(shuffles=…)" in picture.caption
    (section,) = explanation_sections(fc.explain(sim.X, chosen.target(), chosen.ridge), chosen)
    captions = " ".join(picture.caption for picture in section.pictures)
    assert "to first order; the exact loss may rise all the same" in captions
    assert not re.search(r"\b(Left|Right)\b", captions)


@pytest.mark.slow
def test_scores_with_long_entries_in_the_legend_keep_their_width_on_a_phone(sim):
    ridges = np.geomspace(1e-5, 1.0, 9)
    cv = fc.cross_validate(sim.X, sim.Y, method="linear", relative_ridges=ridges, score="r2", shuffles=2)
    picture = _evidence.picture(cv, cv.methods)
    figure = new_figure(_sections.NARROW, picture.heights[1])
    FigureCanvasAgg(figure)
    picture.draw(figure)
    assert_legible(figure)
    (ax,) = figure.axes
    assert any("2 shuffles: 5–95 %" in text.get_text() for text in ax.get_legend().get_texts())
    assert ax.get_window_extent().width > 0.7 * figure.bbox.width


@pytest.mark.slow
def test_names_of_many_conditions_are_legible_and_counted_at_both_widths():
    sim = fc.datasets.simulate(80, 52)
    names = tuple(f"ethyl something-or-other acetate {j}" for j in range(52))
    fit = dataclasses.replace(fc.fit(sim.X, sim.S, relative_ridge=0.1), conditions=names)
    (section,) = explanation_sections(fc.explain(sim.X, sim.S, fit.ridge), fit)
    for picture in (_page.pictures(fit)[0], section.pictures[2]):
        for width, height in zip((_sections.WIDE, _sections.NARROW), picture.heights, strict=True):
            figure = new_figure(width, height)
            FigureCanvasAgg(figure)
            picture.draw(figure)
            assert_legible(figure)
            shown = len(figure.axes[0].get_yticks())
            (step,) = re.findall(r"^condition, clustered\n\(1 in (\d+) named\)$", figure.axes[0].get_ylabel())
            assert shown == -(-52 // int(step))


def test_covariances_are_drawn_from_the_fit_alone(named, sim):
    figure = new_figure(9.0, 3.4)
    _page.pictures(named)[0].draw(figure)
    shown = [np.sort(np.asarray(ax.images[0].get_array()), axis=None) for ax in figure.axes[:3]]
    for image, matrix in zip(shown, (fc.covariance(sim.X), sim.S, named.covariance()), strict=True):
        np.testing.assert_allclose(image, np.sort(matrix, axis=None), rtol=1e-9, atol=1e-9)
    assert {label.get_text() for label in figure.axes[0].get_yticklabels()} <= set(named.conditions)


# ---- writing it


def test_without_jinja2_or_matplotlib_the_error_says_what_to_install(named, tmp_path, monkeypatch):
    for module in ("jinja2", "matplotlib.figure"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, module, None)
            with pytest.raises(ImportError, match=r'pip install "fastcov-gains\[report\]"'):
                named.report(tmp_path / "x.html")
    assert list(tmp_path.iterdir()) == []


def test_bad_arguments_are_refused_before_anything_is_drawn(named, tmp_path, monkeypatch):
    monkeypatch.setattr(_page, "page", None)
    for error, words, path, options in (
        (ValueError, r"Argument 'path' must end in \.html", "x.pdf", {}),
        (FileNotFoundError, "Argument 'path' must lie in a folder that exists", "no/x.html", {}),
        (TypeError, "Argument 'title' must be text, not int: pass a str.", "x.html", {"title": 3}),
    ):
        with pytest.raises(error, match=words):
            named.report(tmp_path / path, **options)


def test_a_page_that_fails_leaves_the_old_one(named, tmp_path, monkeypatch):
    path = tmp_path / "x.html"
    path.write_text("old")

    def fail(*_, **__):
        raise RuntimeError("no ink")

    monkeypatch.setattr(_sections.Picture, "sources", fail)
    with pytest.raises(RuntimeError, match="no ink"):
        named.report(path)
    assert [p.name for p in tmp_path.iterdir()] == ["x.html"]
    assert path.read_text() == "old"


@pytest.mark.slow
def test_names_that_utf8_cannot_write_are_no_obstacle(named, tmp_path):
    odd = dataclasses.replace(named, channels=tuple(f"\ud800{i}" for i in range(60)), conditions=None)
    assert "?5" in odd.report(tmp_path / "x.html").read_text(encoding="utf-8")


def test_what_is_no_explanation_is_refused(named):
    with pytest.raises(TypeError, match="Argument 'explanation' must be an Explanation, not dict"):
        read(named, explanation={})


@pytest.mark.slow
def test_sections_are_rendered_whatever_they_hold(named, monkeypatch):
    picture = _sections.Picture("Head", "an alternative", "A caption.", lambda figure: figure.subplots())
    section = _sections.Section(
        "Explained", ["A <sentence>."], [picture], [_sections.Row("name", "value")],
        [_sections.Table("numbers", ("a", "b", "c"), [("1", "2", "3")])], ["A note."], ["A warning."],
    )  # fmt: skip
    monkeypatch.setattr(_page, "explanation_sections", lambda explanation, *_: [section] * explanation)
    page = read(named, explanation=1)
    for words in (
        "Explained",
        "A <sentence>.",
        "Head. A caption.",
        "name value",
        "a b c 1 2 3",
        "A note.",
        "A warning.",
    ):
        assert words in page.text
    assert "Explained" not in read(named, explanation=0).text
    assert page.text.index("Certificate") < page.text.index("Explained") < page.text.index("How it was made")


# ---- the command line


@pytest.fixture
def run(sim, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("data.npz", X=sim.X, Y=sim.Y, S=sim.S)

    def call(*arguments):
        return CliRunner().invoke(cli.main, ["report", *map(str, arguments)], prog_name="fastcov")

    return call


@pytest.mark.slow
def test_report_command_fits_as_fit_does_and_writes_the_page(run, sim):
    options = ("data.npz:X", "--target", "data.npz:S", "--method", "exact", "--relative-ridge", 0.01)
    result = run(*options, "--lower", 0, "--title", "Mine & yours")
    assert result.exit_code == 0
    assert result.stderr == "Saved the report to report.html\n"
    fit = fc.fit(sim.X, sim.S, relative_ridge=0.01, method="exact", bounds=(0, None))
    assert result.stdout == f"{fit}\n"
    with open("report.html", encoding="utf-8") as file:
        page = Page(file.read())
    assert "Mine & yours" in page.text
    assert f"R² is {fit.r2:.2f}" in page.text


@pytest.mark.slow
def test_report_command_explains_the_channel_that_is_asked_for(run, tmp_path):
    (tmp_path / "names.txt").write_text("".join(f"g_{i}\n" for i in range(59)) + "7\n")
    options = ("data.npz:X", "--responses", "data.npz:Y")
    for named, channel, name in (
        (True, "g_12", "g_12"),
        (True, "7", "7"),
        (True, "12", "g_12"),
        (False, "12", "12"),
    ):
        names = ("--channels", "names.txt") if named else ()
        result = run(*options, *names, "--channel", channel)
        assert result.exit_code == 0, result.stderr
        with open("report.html", encoding="utf-8") as file:
            assert f"The gain of channel {name}." in Page(file.read()).text


@pytest.mark.slow
def test_report_command_names_the_files_it_read(run):
    result = run("data.npz:X", "--responses", "data.npz:Y", "--output", "page.html")
    assert result.exit_code == 0
    with open("page.html", encoding="utf-8") as file:
        assert "<title>Gains from data.npz:X to data.npz:Y</title>" in file.read()


@pytest.mark.slow
@pytest.mark.parametrize(
    "ridge", slow_but({("--ridge", "cv")}, [("--ridge", "cv"), ("--ridge", 5.0), ("--relative-ridge", 0.1)])
)
def test_report_command_holds_out_conditions_and_shuffles(run, sim, ridge):
    options = ("--method", "exact", "--repeats", 2, "--shuffles", 1, "--nested", "--no-explain")
    result = run("data.npz:X", "--responses", "data.npz:Y", *ridge, *options)
    assert result.exit_code == 0, result.stderr
    name, value = ridge
    grid = {} if value == "cv" else {f"{name[2:].replace('-', '_')}s": [value]}
    cv = fc.cross_validate(sim.X, sim.Y, **grid, repeats=2, shuffles=1, nested=True, refit=None)
    with open("report.html", encoding="utf-8") as file:
        assert cv.verdict.words in Page(file.read()).text
    assert result.stdout.endswith(f"\n\n{cv}\n")


@pytest.mark.slow
def test_report_command_says_in_its_banner_what_permuted_conditions_are(run, sim):
    """The page once was green of permuted conditions: "Helps", and "R², held out 0.31"."""
    rng = np.random.default_rng(5)
    np.savez("permuted.npz", Y=sim.Y[:, rng.permutation(12)])
    result = run(
        "data.npz:X", "--responses", "permuted.npz:Y", "--method", "exact", "--ridge", "cv", "--no-explain"
    )
    assert result.exit_code == 0, result.stderr
    with open("report.html", encoding="utf-8") as file:
        page = Page(file.read())
    assert banner(page) != "good"
    assert "Helps" not in page.text


def test_report_command_refuses_before_it_computes(run, monkeypatch):
    monkeypatch.setattr("fastcov._fit.fit", None)
    for arguments, words in (
        (["--output", "x.png"], "'--output' must end in .html"),
        (["--target", "data.npz:S"], "Give one of --responses and --target, not both."),
        (["--n-starts", 2], "--n-starts is for --method exact"),
        (["--channel", "60"], "--channel must be a number from 0 to 59, not '60'."),
        (["--channel", "3", "--no-explain"], "--no-explain leaves that out"),
    ):
        result = run("data.npz:X", "--responses", "data.npz:Y", *arguments)
        assert result.exit_code == 2
        assert result.stderr.count("\n") == 1
        assert words in result.stderr
    np.save("stack.npy", np.stack([np.eye(12)] * 2))
    result = run("data.npz:X", "--target", "stack.npy", "--channel", "3")
    assert "--channel is for one target" in result.stderr
    result = run("data.npz:X", "--target", "stack.npy", "--shuffles", "3")
    assert "--shuffles is for one target" in result.stderr
    monkeypatch.setitem(sys.modules, "jinja2", None)
    result = run("data.npz:X", "--responses", "data.npz:Y")
    assert result.exit_code == 2
    assert result.stderr == 'Error: Reports need jinja2 and matplotlib: pip install "fastcov-gains[report]"\n'


# ---- notebooks


def test_results_show_themselves_in_notebooks_with_the_rows_they_print(sim):
    fit = fc.fit(sim.X, 30 * sim.S, relative_ridge=1e-4)
    path = fc.ridge_path(sim.X, sim.S, relative_ridges=[0.1, 1.0])
    cv = fc.cross_validate(sim.X, sim.Y, relative_ridges=[0.1, 1.0], method=["exact", "linear"], shuffles=1)
    for result in (fit, path, cv):
        shown, printed = Page(result._repr_html_()), " ".join(repr(result).split())
        assert shown.text.replace(" ", "") == printed.replace(" ", "")
        assert len(shown.all("table")) == len(shown.all("caption")) == (3 if result is cv else 1)
        assert "color" not in result._repr_html_()
        assert "background" not in result._repr_html_()
    assert "overshoots" in fit._repr_html_()


@pytest.mark.slow
def test_notebooks_need_neither_jinja2_nor_matplotlib():
    code = (
        "import sys, fastcov as fc; sim = fc.datasets.simulate(10, 4);"
        "fc.fit(sim.X, sim.S, ridge=1.0)._repr_html_();"
        "assert not {'jinja2', 'matplotlib', 'fastcov.report'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- in a browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Chromium without a window."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    from selenium.webdriver.chrome.service import Service

    if reason := absent("chromium"):
        pytest.skip(reason)
    found, driver = browser_paths()
    options = webdriver.ChromeOptions()
    options.binary_location = found
    for argument in (
        "headless", "no-sandbox", "disable-dev-shm-usage", "disable-gpu", "disable-quic", "no-first-run",
        "disable-sync", "disable-background-networking", "disable-component-update",
        f"user-data-dir={tmp_path_factory.mktemp('browser')}",
    ):  # fmt: skip
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chromium = webdriver.Chrome(options=options, service=Service(driver))
    chromium.get("about:blank")  # away from the page that the browser opens by itself
    yield chromium
    chromium.quit()


def opened(browser, path, width):
    """Open a page in a window of some width, and return what it asked the network for."""
    browser.get_log("performance")
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 740, "deviceScaleFactor": 2, "mobile": width < 600},
    )
    browser.get(path.as_uri())
    log = "".join(entry["message"] for entry in browser.get_log("performance"))
    return re.findall(r'"Network\.requestWillBeSent".*?"url":"((?!data:|chrome:)[^"]{0,200})', log)


@pytest.mark.parametrize("width", [360, 1200])
def test_page_in_a_browser_is_whole_and_fits_the_screen(browser, written, width):
    requested = opened(browser, written, width)
    assert set(requested) <= {written.as_uri()}
    assert browser.title == 'A "title" <i>of mine</i>'
    assert browser.get_log("browser") == []
    images = browser.execute_script(
        "return [...document.images].map(i => [i.complete, i.naturalWidth, i.offsetWidth, i.className])"
    )
    assert len(images) == 4
    assert all(complete and natural > 0 for complete, natural, _, _ in images)
    assert {name for _, _, shown, name in images if shown} == {"narrow" if width < 600 else "wide"}
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    cut = browser.execute_script(
        "return [...document.querySelectorAll('main *')].filter(e => e.getClientRects().length && "
        "!e.closest('.scroll, caption, .unseen') && e.getBoundingClientRect().right > innerWidth)"
        ".map(e => e.outerHTML.slice(0, 200))"
    )
    assert cut == []


def test_letters_in_a_browser_are_dark_and_large_enough(browser, written):
    opened(browser, written, 360)
    sizes = browser.execute_script(
        "return [...document.querySelectorAll('p, td, th, figcaption, dt, dd')]"
        ".map(e => parseFloat(getComputedStyle(e).fontSize))"
    )
    assert min(sizes) >= 14
    colours = browser.execute_script(
        "return [...document.querySelectorAll('p, td, th, figcaption, dt, dd, h1, h2')]"
        ".map(e => getComputedStyle(e).color)"
    )
    assert all(max(map(int, re.findall(r"\d+", colour)[:3])) <= 0x55 for colour in colours)


def test_page_can_be_printed(browser, written):
    opened(browser, written, 1200)
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    paper = {"paperWidth": 8.27, "paperHeight": 11.69, "preferCSSPageSize": True}
    pdf = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", paper)["data"])
    assert pdf.startswith(b"%PDF")
    assert 2 <= len(re.findall(rb"/Type */Page\b", pdf)) <= 6
    assert len(pdf) < 1e6
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        shown = browser.execute_script(
            "return [...document.images].filter(i => i.offsetWidth).map(i => i.className)"
        )
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert shown == ["wide", "wide"]


@pytest.fixture(scope="module")
def explained(sim, chosen, tmp_path_factory):
    """Pages with an explanation, of names that break into pieces, and of names that do not."""
    folder = tmp_path_factory.mktemp("explained")
    why = fc.explain(sim.X, chosen.target(), chosen.ridge)
    names = {"short": "animal1_g{:03}", "long": f"a_long_name_{'x' * 60}_{{}}"}
    return {
        name: dataclasses.replace(chosen, channels=tuple(form.format(i) for i in range(60))).report(
            folder / f"{name}.html", explanation=why
        )
        for name, form in names.items()
    }


@pytest.mark.parametrize("width", [360, 400, 500, 640, 1200])
@pytest.mark.parametrize("names", ["short", "long"])
def test_a_page_with_an_explanation_fits_the_screen_and_breaks_names_only_where_it_must(
    browser, explained, names, width
):
    opened(browser, explained[names], width)
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    hidden = browser.execute_script(
        "return [...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth)"
        ".map(e => e.innerText)"
    )
    assert hidden == []
    if names == "long":
        return
    assert browser.execute_script("return document.querySelectorAll('.cells .long').length") == 0
    lines = browser.execute_script(  # tops of the boxes that names take up
        "return [...document.querySelectorAll('.broad table:has(th:nth-child(5)) th[scope=row]')]"
        ".filter(e => e.innerText.startsWith('animal')).map(e => "
        "{const r = document.createRange(); r.selectNodeContents(e); "
        "return new Set([...r.getClientRects()].filter(b => b.width).map(b => b.top)).size})"
    )
    assert len(lines) == 8
    assert max(lines) <= (2 if width <= 500 else 1)


@pytest.mark.parametrize("width", [360, 1200])
def test_every_kind_of_page_fits_the_screen(browser, sim, chosen, tmp_path, width):
    long = tuple(f"a_long_name_without_a_space_{'x' * 60}_{i}" for i in range(60))
    stack = fc.fit(sim.X, np.stack([sim.S, 30 * sim.S]), relative_ridge=1e-3)
    named = dataclasses.replace(fc.fit(sim.X, sim.S, ridge=0), channels=long, conditions=long[:12])
    for fit in (chosen, stack, named):
        opened(browser, fit.report(tmp_path / "x.html", title="title" * 30), width)
        assert browser.get_log("browser") == []
        assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        hidden = browser.execute_script(
            "return [...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth)"
            ".map(e => e.innerText)"
        )
        assert hidden == []


@pytest.mark.slow
@compiled
@pytest.mark.skipif(not os.environ.get("FASTCOV_REAL_DATA"), reason="FASTCOV_REAL_DATA is not set")
@pytest.mark.parametrize("method", ["exact", "linear"])
def test_report_of_real_recordings_is_below_two_megabytes_and_says_which_fit_overshoots(tmp_path, method):
    with np.load(os.environ["FASTCOV_REAL_DATA"]) as file:
        fit = fc.fit(file["glomeruli"], responses=file["mitral"], relative_ridge=0.01, method=method)
        why = fc.explain(file["glomeruli"], fit.target(), fit.ridge)
    path = fit.report(tmp_path / "real.html", explanation=why)
    assert path.stat().st_size < 2e6
    words = {"exact": "Closer to the target on", "linear": "Overshoots: worse than with all gains at one"}
    assert words[method] in Page(path.read_text(encoding="utf-8")).text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ridge", "expected"),
    [
        (np.linspace(1.0, 2.0, 30), "1 to 2, one for each channel"),
        (np.eye(30)[:20] + 0.1 * np.eye(20, 30, 3), "a matrix, 20 × 30"),
    ],
    ids=["by channel", "matrix"],
)
def test_other_ridges_than_one_number_are_described(tmp_path, ridge, expected):
    X = np.random.default_rng(0).standard_normal((30, 12))
    fit = fc.fit(X, fc.covariance(1.1 * X), ridge=ridge)
    assert expected in fit.report(tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_what_cannot_be_explained_is_reported_without(tmp_path, monkeypatch, sim):
    np.savez(tmp_path / "data.npz", X=sim.X, S=sim.S)
    monkeypatch.setattr(
        "fastcov._explaining.explain.ALL_MODES", 3
    )  # ridge=0 takes all modes, which are too many then
    monkeypatch.setattr("fastcov._explaining.explain.FIRST_MODES", 2)
    page = tmp_path / "report.html"
    arguments = ["report", f"{tmp_path}/data.npz:X", "--target", f"{tmp_path}/data.npz:S", "--ridge", "0"]
    result = CliRunner().invoke(cli.main, [*arguments, "--output", str(page)])
    assert result.exit_code == 0
    assert "Warning: No explanation: Argument 'ridge' must be larger" in result.stderr
    assert "Why these gains" not in page.read_text(encoding="utf-8")
