"""write(): the report of a fit as one HTML page."""

from __future__ import annotations

import datetime
import importlib.resources
import os
import pathlib
import platform
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _doctor
from .._io import check_output, writing
from .._result import Fit, target_of_stack
from ._explanation import EXPLAINED, explanation_sections
from ._figures import pictures, study_picture
from ._sections import Part, Row, Section, Table
from ._words import (
    GLOSSARY,
    certificate_rows,
    decimals,
    fit_rows,
    headline,
    lead,
    number,
    plural,
    score,
    share,
    span,
    verdict,
)

# Channels that are named at either end of the gains.
LISTED = 10
# A name in a table breaks behind _, and elsewhere only within a word of more letters.
_PIECE, _LONG = re.compile(r"[^_ ]*(?:[_ ]+|$)"), 14
# What the numbers of a fit rest on.
_SHOWN = {"fastcov": "fastcov", "python": "Python", "numpy": "NumPy", "scipy": "SciPy", "numba": "Numba"}


def require() -> Any:
    """The module jinja2, or an ImportError that says how to get what a report needs."""
    try:
        import jinja2
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ImportError(
            'Reports need jinja2 and matplotlib: pip install "fastcov-gains[report]"'
        ) from error
    return jinja2


def write(
    fit: Fit,
    path: str | os.PathLike[str],
    *,
    explanation: Any = None,
    channel: Any = None,
    title: str | None = None,
) -> pathlib.Path:
    """Write the report of a fit, see `Fit.report`."""
    if title is not None and not isinstance(title, str):
        raise TypeError(f"Argument 'title' must be text, not {type(title).__name__}: pass a str.")
    require()
    target = check_output(path, (".html",))
    text = page(fit, explanation=explanation, channel=channel, title=title)
    with writing(target) as draft:
        draft.write_text(text, encoding="utf-8", errors="replace")  # names may hold what UTF-8 cannot
    return target


def page(fit: Fit, *, explanation: Any = None, channel: Any = None, title: str | None = None) -> str:
    """The page."""
    N, D = fit.stats["shape"]
    source = importlib.resources.files(__package__).joinpath("page.html.j2").read_text(encoding="utf-8")
    jinja2 = require()
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["pieces"] = _PIECE.findall
    environment.tests["long"] = lambda piece: len(piece) > _LONG
    fits = [fit] if fit.delta.ndim == 1 else [target_of_stack(fit, k) for k in range(len(fit.delta))]
    several = len(fits) > 1
    explained = explanation_sections(explanation, fit, channel)
    text: str = environment.from_string(source).render(
        title=title or f"Gains of {plural(N, 'channel')} over {plural(D, 'condition')}",
        lead=lead(fit),
        overview=[_overview(fits)] if several else [],
        parts=[
            Part(f"Target {k} of {len(fits)}" if several else "", headline(one), _sections(one))
            for k, one in enumerate(fits, 1)
        ],
        after=[
            *explained,
            _made(fit),
            Section("What the words mean", rows=[*GLOSSARY, *(EXPLAINED if explained else ())]),
        ],
        version=_doctor.versions()["fastcov"],
    )
    return text


def _overview(fits: list[Fit]) -> Section:
    """All targets of a stack, one a row."""
    rows = []
    for k, fit in enumerate(fits, 1):
        word = verdict(fit)[0].partition(":")[0]
        rows.append((str(k), word, share(fit), score(fit.r2), span(fit.gains)))
    caption = "Fits of all targets; the loss is compared to that with all gains at one"
    head = ("Target", "Verdict", "Loss", "R²", "Gains")
    return Section("All targets", tables=[Table(caption, head, rows)])


def _sections(fit: Fit) -> list[Section]:
    """All about the fit of one target, below its headline."""
    sections = [Section("What the gains do", pictures=pictures(fit))]
    if "cv" in fit.stats:
        sections.append(Section("Do the gains predict?", pictures=[study_picture(fit)]))
    return [
        *sections,
        _channels(fit),
        Section("The fit in numbers", rows=fit_rows(fit)),
        Section(
            "Certificate",
            ["What the fit can prove of itself. It is computed from the responses, apart from the solver."],
            rows=certificate_rows(fit),
        ),
    ]


def _channels(fit: Fit) -> Section:
    """Channels with the largest and the smallest gains, by name; all of them where they are few."""
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


def _made(fit: Fit) -> Section:
    """How the numbers came about: solver, time, versions, date."""
    stats = fit.stats
    rows = [Row("Solver", stats["solver"], stats.get("reason") or "")] if stats["solver"] else []
    rows += [Row("Precision of the responses", stats["dtype"])]
    if "products" in stats:
        rows.append(Row("Products with the curvature", str(stats["products"])))
    versions = _doctor.versions()
    pools = [f"{pool['internal_api']} {pool['version'] or ''}".strip() for pool in _doctor.blas_pools()]
    rows += [
        Row("Time of the fit", f"{number(stats['seconds'])} seconds", "The first of a process is slower."),
        *(Row(words, versions[name] or "not installed") for name, words in _SHOWN.items()),
        Row("BLAS", ", ".join(dict.fromkeys(pools)) or "not found"),
        Row("Platform", platform.platform()),
        Row("Page made", datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %z")),
    ]  # fmt: skip
    return Section("How it was made", rows=rows)
