"""write() and write_study(): the report of a fit, or of a study, as one HTML page."""

from __future__ import annotations

import datetime
import importlib.resources
import os
import pathlib
import platform
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._compute import system
from .._inputs.files import check_output, writing
from .._results.comparison import Comparison
from .._results.connectivity import Connectivity
from .._results.cross_validation import CrossValidation
from .._results.fit import Fit, target_of_stack
from .._results.nouns import CONNECTIVITY, GAINS, nouns_of
from .._results.permutation_test import PermutationTest
from .._results.study import Study
from . import _comparison, _connectivity, _whole_study
from ._evidence import STUDIED, study_of
from ._evidence import sections as evidence_sections
from ._explanation import EXPLAINED, explanation_sections
from ._figures import pictures
from ._headline import headline, study_headline, verdict
from ._sections import Part, Row, Section, Table
from ._words import (
    GLOSSARY,
    certificate_rows,
    decimals,
    fit_rows,
    lead,
    number,
    plural,
    score,
    share,
    span,
)

_CERTIFIED = "What the fit can prove of itself. It is computed from the responses, apart from the solver."
# A study and its test, if there is one.
Found = tuple[CrossValidation, PermutationTest | None]
# Number of channels that are named at each end of the gains.
LISTED = 10
# A name in a table breaks after _; a word breaks elsewhere only if it has more letters than _LONG.
_PIECE, _LONG = re.compile(r"[^_ ]*(?:[_ ]+|$)"), 14
# Packages whose versions a page shows, because they determine the numbers of a fit.
_SHOWN = {"fastcov": "fastcov", "python": "Python", "numpy": "NumPy", "scipy": "SciPy", "numba": "Numba"}


def require() -> Any:
    """Return the module jinja2, or raise an ImportError that says how to install the needs of a report."""
    try:
        import jinja2
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ImportError(
            'Reports need jinja2 and matplotlib: pip install "fastcov-gains[report]"'
        ) from error
    return jinja2


def write(
    fit: Fit | Connectivity,
    path: str | os.PathLike[str],
    *,
    cv: Any = None,
    explanation: Any = None,
    channel: Any = None,
    title: str | None = None,
) -> pathlib.Path:
    """Write the report of a fit; see `Fit.report` and `Connectivity.report`."""
    if isinstance(fit, Connectivity):
        return _written(path, title, lambda: connected_page(fit, cv=cv, title=title))
    return _written(
        path, title, lambda: page(fit, cv=cv, explanation=explanation, channel=channel, title=title)
    )


def write_study(
    study: CrossValidation | PermutationTest | Study | Comparison,
    path: str | os.PathLike[str],
    *,
    title: str | None = None,
) -> pathlib.Path:
    """Write the report of a study; see `CrossValidation.report`."""
    if isinstance(study, Comparison):
        return _written(path, title, lambda: comparison_page(study, title=title))
    if isinstance(study, Study):
        return _written(path, title, lambda: whole_page(study, title=title))
    return _written(path, title, lambda: study_page(study, title=title))


def _written(path: str | os.PathLike[str], title: str | None, made: Callable[[], str]) -> pathlib.Path:
    if title is not None and not isinstance(title, str):
        raise TypeError(f"Argument 'title' must be text, not {type(title).__name__}: pass a str.")
    require()
    target = check_output(path, (".html",))
    text = made()
    with writing(target) as draft:
        draft.write_text(text, encoding="utf-8", errors="replace")  # for names that UTF-8 cannot encode
    return target


def _rendered(**what: Any) -> str:
    source = importlib.resources.files(__package__).joinpath("page.html.j2").read_text(encoding="utf-8")
    jinja2 = require()
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["pieces"] = _PIECE.findall
    environment.tests["long"] = lambda piece: len(piece) > _LONG
    text: str = environment.from_string(source).render(version=system.versions()["fastcov"], **what)
    return text


def page(
    fit: Fit, *, cv: Any = None, explanation: Any = None, channel: Any = None, title: str | None = None
) -> str:
    """Make the page of a fit."""
    N, D = fit.stats["shape"]
    found = study_of(cv, fit)
    study = None if found is None else found[0]
    fits = [fit] if fit.delta.ndim == 1 else [target_of_stack(fit, k) for k in range(len(fit.delta))]
    several = len(fits) > 1
    explained = explanation_sections(explanation, fit, channel)
    return _rendered(
        title=title or f"Gains of {plural(N, 'channel')} over {plural(D, 'condition')}",
        lead=lead(fit),
        overview=[_overview(fits)] if several else [],
        parts=[
            Part(f"Target {k} of {len(fits)}" if several else "", headline(one, study), _sections(one, found))
            for k, one in enumerate(fits, 1)
        ],
        after=[
            *explained,
            _made(fit),
            Section(
                "What the words mean",
                rows=[*GLOSSARY, *(STUDIED if found else ()), *(EXPLAINED if explained else ())],
            ),
        ],
    )


def connected_page(found: Connectivity, *, cv: Any = None, title: str | None = None) -> str:
    """Make the page of a connectivity."""
    N, D = found.stats["shape"]
    studied = study_of(cv, found)
    study = None if studied is None else studied[0]
    each = [found] if found.phi.ndim == 2 else [found.select(k) for k in range(len(found.phi))]
    several = len(each) > 1
    return _rendered(
        title=title or f"Connectivity of {plural(N, 'channel')} over {plural(D, 'condition')}",
        lead=_connectivity.lead(found),
        overview=[_overview(each)] if several else [],
        parts=[
            Part(
                f"Target {k} of {len(each)}" if several else "", headline(one, study),
                _connected_sections(one, studied),
            )
            for k, one in enumerate(each, 1)
        ],
        after=[
            _made(found),
            Section("What the words mean", rows=[*_connectivity.CONNECTED, *(STUDIED if studied else ())]),
        ],
    )  # fmt: skip


def _connected_sections(found: Connectivity, studied: Found | None) -> list[Section]:
    """Make all sections about a connectivity of one target, below its headline."""
    first, details = [Section("What the connectivity does", pictures=_connectivity.pictures(found))], []
    if studied is not None:
        study, test = studied
        figure, *details = evidence_sections(study, (found.method,), test, found)
        first = [figure, *first]
    return [
        *first,
        *_connectivity.tables(found),
        *details,
        Section("The fit in numbers", rows=_connectivity.fit_rows(found)),
        Section("Certificate", [_CERTIFIED], rows=_connectivity.certificate_rows(found)),
    ]


def _glossary(*methods: str) -> list[Row]:
    """The words that these methods need; each once."""
    found = {nouns_of(method) for method in methods}
    gains, connected = found - {CONNECTIVITY}, found - {GAINS}
    rows = [*(GLOSSARY if gains else ()), *(_connectivity.CONNECTED if connected else ())]
    return list({row.name: row for row in reversed(rows)}.values())[::-1]


def study_page(study: CrossValidation | PermutationTest, *, title: str | None = None) -> str:
    """Make the page of a study or of a test: a verdict for each method, and then the evidence for it."""
    found = study_of(study)
    assert found is not None
    cv, test = found
    N, D = cv.stats["shape"]
    nouns = nouns_of(*cv.methods)
    return _rendered(
        title=title or f"Prediction of held-out conditions: {plural(N, 'channel')}, {plural(D, 'condition')}",
        lead=(
            f"{nouns.lead.format(channels=plural(N, 'channel'))}, on some of {plural(D, 'condition')}, so "
            f"that the covariance of their responses comes close to a target. The {nouns.subject} then "
            "predicted the covariances of the conditions that were held out."
        ),
        overview=[],
        parts=[
            Part(name if len(cv.methods) > 1 else "", study_headline(cv, name), []) for name in cv.methods
        ],
        after=[
            *evidence_sections(cv, cv.methods, test),
            Section("How it was made", rows=[
                Row("Methods", ", ".join(cv.methods)),
                Row("Nuisance terms", ", ".join(cv.stats.get("nuisance", ())) or "none"),
                Row("Time of the study", f"{number(cv.stats['seconds'])} seconds"),
                *_versions(),
            ]),
            Section("What the words mean", rows=[*_glossary(*cv.methods), *STUDIED]),
        ],
    )  # fmt: skip


def whole_page(study: Study, *, title: str | None = None) -> str:
    """Make the page of a whole study: prediction and channels of each population, groups, differences."""
    return _rendered(
        title=title or _whole_study.title(study),
        lead=_whole_study.lead(study),
        overview=_whole_study.overview(study),
        parts=_whole_study.parts(study),
        after=[
            *_whole_study.after(study),
            Section("How it was made", rows=[
                Row("Shuffles", str(study.stats["shuffles"])),
                Row("Time of the study", f"{number(study.stats['seconds'])} seconds"),
                *_versions(),
            ]),
            Section("What the words mean", rows=[*_glossary(study.method), *_whole_study.glossary(study)]),
        ],
    )  # fmt: skip


def comparison_page(found: Comparison, *, title: str | None = None) -> str:
    """Make the page of a comparison of models."""
    N, D = found.stats["shape"]
    return _rendered(
        title=title or f"Which model predicts: {plural(N, 'channel')}, {plural(D, 'condition')}",
        lead=_comparison.lead(found),
        overview=[],
        parts=_comparison.parts(found),
        after=[
            Section("How it was made", rows=[
                Row("Folds", f"{found.stats['folds']} in {plural(found.stats['repeats'], 'repeat')}"),
                Row("Shuffles", str(found.stats["shuffles"])),
                Row("Time of the comparison", f"{number(found.stats['seconds'])} seconds"),
                *_versions(),
            ]),
            Section("What the words mean", rows=[*GLOSSARY, *_comparison.glossary()]),
        ],
    )  # fmt: skip


def _overview(fits: Sequence[Fit | Connectivity]) -> Section:
    """Tabulate all targets of a stack, one per row."""
    rows = []
    for k, fit in enumerate(fits, 1):
        word = verdict(fit)[0].partition(":")[0]
        size = number(fit.norm()) if isinstance(fit, Connectivity) else span(fit.gains)
        rows.append((str(k), word, share(fit), score(fit.r2), size))
    nouns = nouns_of(fits[0].method)
    caption = f"Fits of all targets; the loss is compared to that with {nouns.with_one}"
    head = ("Target", "Verdict", "Loss", "R²", "Gains" if nouns is GAINS else "Norm of W")
    return Section("All targets", tables=[Table(caption, head, rows)])


def _sections(fit: Fit, found: Found | None = None) -> list[Section]:
    """Make all sections about the fit of one target, below its headline."""
    sections, details = [Section("What the gains do", pictures=pictures(fit))], []
    if found is not None:
        study, test = found
        figure, *details = evidence_sections(study, (fit.method,), test, fit)
        sections = [figure, *sections]
    return [
        *sections,
        _channels(fit),
        *details,
        Section("The fit in numbers", rows=fit_rows(fit)),
        Section(
            "Certificate",
            [_CERTIFIED],
            rows=certificate_rows(fit),
        ),
    ]


def _channels(fit: Fit) -> Section:
    """Tabulate the channels with the largest and smallest gains by name; all of them if there are few."""
    gains = fit.gains
    order = np.argsort(-gains, kind="stable")
    names = fit.channels if fit.channels is not None else range(len(gains))

    def listed(caption: str, places: NDArray[np.intp]) -> Table:
        return Table(caption, ("Channel", "Gain"), [(str(names[i]), decimals(gains[i])) for i in places])

    if len(order) <= 2 * LISTED:
        tables = [listed("All gains", order)]
    else:
        tables = [
            listed("Largest gains", order[:LISTED]),
            listed("Smallest gains", order[: -LISTED - 1 : -1]),
        ]
    notes = (
        []
        if fit.channels is not None
        else ["Channels are numbered by their row in the responses; the first is 0."]
    )
    notes.append("A single gain is not a measurement of its channel: other gains may do nearly as well.")
    return Section("Which channels change most", tables=tables, notes=notes)


def _made(fit: Fit | Connectivity) -> Section:
    """Say how the numbers were computed: solver, time, versions, date."""
    stats = fit.stats
    rows = [Row("Solver", stats["solver"], stats.get("reason") or "")] if stats["solver"] else []
    rows += [Row("Precision of the responses", stats["dtype"])]
    if "products" in stats:
        rows.append(Row("Products with the curvature", str(stats["products"])))
    rows.append(
        Row("Time of the fit", f"{number(stats['seconds'])} seconds", "The first of a process is slower.")
    )
    return Section("How it was made", rows=[*rows, *_versions()])


def _versions() -> list[Row]:
    """List the versions and the platform behind the numbers, and when the page was made."""
    versions = system.versions()
    pools = [f"{pool['internal_api']} {pool['version'] or ''}".strip() for pool in system.blas_pools()]
    return [
        *(Row(words, versions[name] or "not installed") for name, words in _SHOWN.items()),
        Row("BLAS", ", ".join(dict.fromkeys(pools)) or "not found"),
        Row("Platform", platform.platform()),
        Row("Page made", datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %z")),
    ]
