"""The report: one page that needs nothing else, legible on a screen, a phone and paper; notebooks."""

import base64
import dataclasses
import html.parser
import itertools
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from matplotlib.backends.backend_agg import FigureCanvasAgg
from test_plot import assert_legible

import fastcov as fc
from fastcov import cli
from fastcov.plot._style import new_figure
from fastcov.report import _page, _sections, _words

compiled = pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="slow without compiling")
VOID = {"meta", "link", "img", "br", "hr"}


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
        "Helps: closer to the target",
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


def test_channels_without_names_have_their_numbers(sim):
    fit = fc.fit(sim.X, sim.S, relative_ridge=0.1)
    text = read(fit).text
    assert f"Largest gains Channel Gain {np.argmax(fit.gains)} {fit.gains.max():.3f}" in text
    assert "Channels are numbered by their row in the responses; the first is 0." in text


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


def test_held_out_scores_that_chose_the_ridge_are_told_and_drawn(chosen):
    cv = chosen.stats["cv"]
    mean = cv.summary("exact")[0].max()
    page = read(chosen)
    assert "Do the gains predict?" in page.text
    assert f"reached an R² of {mean:.2f} ±" in page.text
    assert f"gains of one {cv.r2_at_one.mean():.2f}".replace("-", "−") in page.text
    assert any("against the ridge" in image["alt"] for image in page.all("img"))


def test_a_fit_that_overshoots_warns_before_anything_is_shown(sim):
    fit = fc.fit(sim.X, 30 * sim.S, relative_ridge=1e-4)
    assert fit.overshoots
    text = read(fit).text
    assert "Overshoots: worse than with all gains at one" in text
    assert text.index("this fit overshoots") < text.index("What the gains do")
    assert "times that of X's covariance" in text  # the trace, too


def test_a_fit_that_stopped_short_says_so_first(sim):
    with pytest.warns(fc.ConvergenceWarning):
        fit = fc.fit(sim.X, sim.S, relative_ridge=1e-4, method="exact", max_iterations=1)
    text = read(fit).text
    assert "Stopped short" in text
    assert text.index("The fit stopped short (max-iterations)") < text.index("What the gains do")


@pytest.mark.filterwarnings("ignore::fastcov.ConvergenceWarning")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ridge": 0}, "minimum-norm (rank"),
        ({"relative_ridge": 1e-4, "method": "diagonal"}, "what it ignores"),
        ({"relative_ridge": 1e-3, "method": "line-search"}, "of the linear fit"),
        ({"relative_ridge": 1e-3, "bounds": (0, 1.5)}, "gains Gains that would go further"),
        ({"relative_ridge": 0.1, "center": False}, "Their mean over channels is kept."),
        ({"relative_ridge": 1e6}, "Hardly helps"),
        ({"S": "input", "relative_ridge": 0.1}, "there is nothing to fit"),
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


@pytest.mark.parametrize(("N", "D"), [(1, 2), (2, 1), (3, 2)])
def test_the_smallest_fits_can_be_reported(N, D):
    X = np.random.default_rng(0).normal(size=(N, D))
    fit = fc.fit(X, np.eye(D), relative_ridge=0.1, center=False)
    assert f"each of {N} channel" in read(fit).text


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
    wide, narrow = (round(w * _sections.DPI) for w in (_sections.WIDE, _sections.NARROW))
    assert widths == [wide, narrow] * (len(widths) // 2)


def test_page_is_small(written):
    assert written.stat().st_size < 0.6e6


@pytest.mark.parametrize("which", ["named", "chosen"])
def test_figures_are_legible_at_both_widths(which, request):
    fit = request.getfixturevalue(which)
    pictures = [picture for section in _page._sections(fit) for picture in section.pictures]
    assert len(pictures) == 2 + (which == "chosen")
    for picture in pictures:
        for width, height in zip((_sections.WIDE, _sections.NARROW), picture.heights, strict=True):
            figure = new_figure(width, height)
            FigureCanvasAgg(figure)
            picture.draw(figure)
            assert_legible(figure)


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


def test_names_that_utf8_cannot_write_are_no_obstacle(named, tmp_path):
    odd = dataclasses.replace(named, channels=tuple(f"\ud800{i}" for i in range(60)), conditions=None)
    assert "?5" in odd.report(tmp_path / "x.html").read_text(encoding="utf-8")


def test_what_is_no_explanation_is_refused(named):
    with pytest.raises(TypeError, match="Argument 'explanation' must be None, not dict"):
        read(named, explanation={})


def test_sections_are_rendered_whatever_they_hold(named, monkeypatch):
    picture = _sections.Picture("Head", "an alternative", "A caption.", lambda figure: figure.subplots())
    section = _sections.Section(
        "Explained", ["A <sentence>."], [picture], [_sections.Row("name", "value")],
        [_sections.Table("numbers", ("a", "b", "c"), [("1", "2", "3")])], ["A note."],
    )  # fmt: skip
    monkeypatch.setattr(_page, "explanation_sections", lambda explanation: [section] * explanation)
    page = read(named, explanation=1)
    for words in ("Explained", "A <sentence>.", "Head. A caption.", "name value", "a b c 1 2 3", "A note."):
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


def test_report_command_names_the_files_it_read(run):
    result = run("data.npz:X", "--responses", "data.npz:Y", "--output", "page.html")
    assert result.exit_code == 0
    with open("page.html", encoding="utf-8") as file:
        assert "<title>Gains from data.npz:X to data.npz:Y</title>" in file.read()


def test_report_command_refuses_before_it_computes(run, monkeypatch):
    monkeypatch.setattr("fastcov._fit.fit", None)
    for arguments, words in (
        (["--output", "x.png"], "'--output' must end in .html"),
        (["--target", "data.npz:S"], "Give one of --responses and --target, not both."),
        (["--n-starts", 2], "--n-starts is for --method exact"),
    ):
        result = run("data.npz:X", "--responses", "data.npz:Y", *arguments)
        assert result.exit_code == 2
        assert result.stderr.count("\n") == 1
        assert words in result.stderr
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
        assert len(shown.all("table")) == len(shown.all("caption")) == 1
        assert "color" not in result._repr_html_()
        assert "background" not in result._repr_html_()
    assert "overshoots" in fit._repr_html_()


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

    driver = shutil.which("chromedriver")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not (driver and found):
        pytest.skip("there is no chromedriver, or no Chromium, to open the page in")
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


@compiled
@pytest.mark.skipif(not os.environ.get("FASTCOV_REAL_DATA"), reason="FASTCOV_REAL_DATA is not set")
@pytest.mark.parametrize("method", ["exact", "linear"])
def test_report_of_real_recordings_is_below_two_megabytes_and_says_which_fit_helps(tmp_path, method):
    with np.load(os.environ["FASTCOV_REAL_DATA"]) as file:
        fit = fc.fit(file["glomeruli"], responses=file["mitral"], relative_ridge=0.01, method=method)
    path = fit.report(tmp_path / "real.html")
    assert path.stat().st_size < 2e6
    words = {"exact": "Helps: closer to the target", "linear": "Overshoots: worse than with all gains at one"}
    assert words[method] in Page(path.read_text(encoding="utf-8")).text


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
