"""Colours, formats of numbers, and helpers that all figures share."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from .._explaining.explanation import Explanation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

T = TypeVar("T")

# From Wong, Nature Methods 8:441 (2011): distinguishable with any colour vision, and in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
MARKERS = ("o", "s", "D", "^")
# matplotlib's carets with their tips at the marked point.
CARET_UP, CARET_DOWN = 6, 7
# Width of a figure in inches below which two columns of a legend overlap.
NARROW = 6.0


def require_matplotlib() -> type[Figure]:
    """Return matplotlib's Figure, or raise an ImportError that says how to install it."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('Figures need matplotlib: pip install "fastcov-gains[plot]"') from error
    return Figure


def new_figure(width: float, height: float) -> Figure:
    """Return a figure unknown to pyplot, which therefore never has to be closed."""
    return require_matplotlib()(figsize=(width, height), layout="constrained")


def look(k: int) -> tuple[str, str]:
    """Return the colour and marker of the k-th item of a comparison."""
    return COLOURS[k % len(COLOURS)], MARKERS[k % len(MARKERS)]


def by_name(argument: str, given: Any, kind: type[T], name: str, source: str) -> dict[str, T]:
    """Return one `kind` as a mapping under its own name, or a mapping of at least one `kind` as it is."""
    found = {name: given} if isinstance(given, kind) else given
    article = f"a {kind.__name__}"
    if not isinstance(found, Mapping) or not all(isinstance(value, kind) for value in found.values()):
        raise TypeError(
            f"Argument '{argument}' must be {article} or a mapping of names to {kind.__name__}s, not "
            f"{type(given).__name__}: pass {source}."
        )
    if not found:
        raise ValueError(
            f"Argument '{argument}' must hold at least one {kind.__name__}, not be empty: pass {source}."
        )
    return dict(found)


def checked(explanation: Any) -> None:
    """Raise an error if matplotlib is missing, or else if the argument is not an Explanation."""
    require_matplotlib()
    if not isinstance(explanation, Explanation):
        raise TypeError(
            f"Argument 'explanation' must be an Explanation, not {type(explanation).__name__}: pass what "
            "fastcov.explain returns."
        )


def r2_text(r2: float) -> str:
    return f"R² = {number(r2)}"


def number(value: float) -> str:
    """Write two decimals, or an exponent for large numbers, with a true minus sign; never −0."""
    text = f"{value:{'.2f' if abs(value) < 100 else '.2e'}}"
    return "0.00" if text == "-0.00" else text.replace("-", "−")


def decimals(value: float, places: int | None) -> str:
    """Write `places` decimals, or three digits and the sign if None, with a true minus sign; never −0."""
    text = f"{value:+#.3g}".rstrip(".") if places is None else f"{value:.{places}f}"
    if float(text) == 0:
        text = "0" if places is None else text.lstrip("-")
    return text.replace("-", "−")


def shorten(text: str, most: int) -> str:
    """Shorten a text to `most` letters by omitting its middle, because names differ at their ends."""
    tail = most // 2
    return text if len(text) <= most else f"{text[: most - tail - 1]}…{text[-tail:]}"


def finish(ax: Axes) -> None:
    """Give axes the frame that all curves have."""
    ax.tick_params(labelsize=8)
    ax.spines[["top", "right"]].set_visible(False)


def is_narrow(figure: Figure | SubFigure) -> bool:
    """Return whether a figure is as narrow as a phone, and has no room for columns."""
    return bool(figure.bbox.width / figure.dpi < NARROW)


def legend_above(ax: Axes, columns: int, *, letters: int | None = None, **options: Any) -> None:
    """Draw a legend on top; in a narrow figure in one column, with lines of at most `letters` letters."""
    if letters is not None and is_narrow(ax.figure):
        options["labels"] = [textwrap.fill(label, letters) for label in options["labels"]]
    ax.legend(
        loc="lower left", bbox_to_anchor=(0.0, 1.04), borderaxespad=0,
        ncols=1 if is_narrow(ax.figure) else columns,
        frameon=False, fontsize=9, handletextpad=0.4, columnspacing=1.5, **options,
    )  # fmt: skip
