"""What the model of `cluster_model` predicts for a real cluster: a table, and docs/cluster.png."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import numpy as np

import cluster_model as model
from cluster_simulation import simulated_iteration
from fastcov.plot._style import COLOURS, finish, new_figure

CHANNELS, LINK, MEMORY, THREADS = 10**9, 1e9, 64e9, 16
WORKERS = (10, 100, 1000)
PARTS = {
    "compute": ("threads: products with X", COLOURS[0]),
    "vectors": ("client: vectors over channels", COLOURS[1]),
    "tasks": ("scheduler: tasks", COLOURS[2]),
    "network": ("network: sums up the tree", COLOURS[3]),
}


def size(kept: dict[str, Any], channels: int) -> model.Fit:
    """A fit of so many channels that takes the rank and the iterations of the largest that was measured."""
    found = [one["fit"] for one in kept["fits"] + kept.get("table", {}).get("checks", [])]
    return dataclasses.replace(
        model.Fit(**max(found, key=lambda one: float(one["channels"]))), channels=channels
    )


def on(fit: model.Fit, workers: int, threads: int, rates: model.Rates) -> model.Cluster:
    """So many workers, with as many chunks as is best."""
    return model.Cluster(workers, model.best_chunks(fit, workers, threads, rates, LINK), threads, LINK)


def predictions(kept: dict[str, Any], rates: model.Rates) -> None:
    """Rates, and seconds on clusters that are not here."""
    print(
        f"\nRates: {1e-9 / rates.single:.1f} GFLOP/s float32, {1e-9 / rates.double:.1f} float64, "
        f"{1e9 * rates.element:.2f} ns an element, a thread; "
        f"{1e3 * rates.start:.1f} ms a map, {1e3 * rates.task:.2f} ms a task, {1e3 * rates.level:.1f} ms a "
        f"level; vectors {1e-9 / max(rates.byte, 1e-15):.2f} GB/s, {1e9 * rates.channel:.0f} ns a channel.\n"
    )
    print(
        "| channels | workers | threads | chunks | GB a worker | iteration, s | simulated | fit, s | "
        "threads, s | scheduler, s | network, s | client, s |\n|" + "---|" * 12
    )
    for channels in (CHANNELS, CHANNELS // 10):
        fit = size(kept, channels)
        for threads in (1, THREADS):
            for workers in WORKERS:
                at = on(fit, workers, threads, rates)
                step, whole = (of(fit, at, rates) for of in (model.iteration_seconds, model.fit_seconds))
                memory = model.worker_bytes(fit, min(workers, at.chunks)) / 1e9
                print(
                    f"| {channels:.0e} | {workers} | {threads} | {at.chunks} | {memory:.1f} "
                    f"| {step.total:.2f} | {simulated_iteration(fit, at, rates):.2f} "
                    f"| {whole.total:.0f} | {whole.compute:.0f} | "
                    f"{whole.tasks:.0f} | {whole.network:.1f} | {whole.vectors:.0f} |"
                )
    fit = size(kept, CHANNELS)
    bare, full = (model.least_workers(fit, MEMORY, factor=factor) for factor in (False, True))
    print(
        f"\n{fit.rank} pivots, {fit.iterations} iterations; links of {LINK / 1e9:g} GB/s. Workers of "
        f"{MEMORY / 1e9:g} GB: {bare} hold X, {full} the preconditioner as well. Vectors over channels: "
        f"{model.vector_bytes(fit) / 1e9:.0f} GB, {model.vector_bytes(fit) / LINK:.0f} s a link, twice."
    )


def draw(kept: dict[str, Any], rates: model.Rates, path: pathlib.Path) -> None:
    """Seconds over workers and what they are spent on; and what was measured beside the model."""
    figure = new_figure(12, 4.8)
    *predicted, check = figure.subplots(1, 3)
    fit, small = size(kept, CHANNELS), size(kept, CHANNELS // 10)
    workers = np.unique(np.geomspace(5, 1000, 80).round().astype(int))
    least = model.least_workers(fit, MEMORY, factor=False)
    for axes, of, title in zip(
        predicted, (model.iteration_seconds, model.fit_seconds), ("One iteration", "A whole fit"), strict=True
    ):
        took = [of(fit, on(fit, int(W), THREADS, rates), rates) for W in workers]
        lines = {name: np.array([getattr(each, name) for each in took]) for name in PARTS}
        for name, (label, colour) in PARTS.items():
            if (lines[name] > 0).any():
                axes.plot(workers, lines[name], color=colour, lw=1.8, label=label)
        axes.plot(workers, [each.total for each in took], color="k", lw=2.8, label="total, 10⁹ channels")
        totals = [of(small, on(small, int(W), THREADS, rates), rates).total for W in workers]
        axes.plot(workers, totals, color="0.5", lw=1.8, ls="--", label="total, 10⁸ channels")
        axes.axvspan(workers[0], least, color="0.92", lw=0)
        axes.set(xscale="log", yscale="log", xlim=(workers[0], workers[-1]))
        axes.set_title(f"{title} (model)", fontsize=11)
        axes.set(xlabel=f"Workers of {THREADS} threads, {MEMORY / 1e9:.0f} GB", ylabel="Seconds")
        axes.annotate(
            "10⁹ do\nnot fit\nmemory", (np.sqrt(workers[0] * least), 0.18),
            xycoords=axes.get_xaxis_transform(), ha="center", va="center", fontsize=8, color="0.3",
        )  # fmt: skip
        busy = model.best_chunks(fit, int(workers[-1]), THREADS, rates, LINK)
        axes.axvline(busy / THREADS, color="0.5", lw=1.0, ls=":")
        axes.annotate(
            f"{busy} threads: more\nwait for the scheduler", (1.1 * busy / THREADS, 0.985),
            xycoords=axes.get_xaxis_transform(), va="top", fontsize=8, color="0.3",
        )  # fmt: skip
        plain(axes)
    against(check, kept, rates)
    plain(check)
    handles, labels = predicted[1].get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda i: not labels[i].startswith("total"))
    figure.legend(
        [handles[i] for i in order], [labels[i] for i in order], loc="outside upper center", ncols=3,
        frameon=False, fontsize=9,
    )  # fmt: skip
    figure.savefig(path, dpi=200)


def against(axes: Any, kept: dict[str, Any], rates: model.Rates) -> None:
    """Seconds of fits here beside what the model says of them."""
    fits = [(one, one["check"]) for one in kept["fits"]]
    fits += [(one, True) for one in kept.get("table", {}).get("checks", [])]
    ends = []
    for check, label in ((False, "fitted to"), (True, "not fitted to")):
        for W, marker in ((1, "o"), (2, "s")):
            chosen = [one for one, use in fits if use == check and one["workers"] == W]
            seen = [one["seconds"] for one in chosen]
            said = [
                model.fit_seconds(model.Fit(**one["fit"]), model.Cluster(W, one["chunks"]), rates).total
                for one in chosen
            ]
            ends += seen + said
            axes.loglog(
                said, seen, marker, ms=6.5, color=COLOURS[1] if check else COLOURS[0], mew=1.6,
                mfc="none" if check else None, label=f"{label}, {W} worker{'s' * (W > 1)}",
            )  # fmt: skip
    line = np.array([0.6 * min(ends), 1.6 * max(ends)])
    axes.plot(line, line, color="0.6", lw=1.0, zorder=0)
    axes.set(xlim=line, ylim=line, xlabel="Seconds, model", ylabel="Seconds, measured")
    axes.set_title("Fits measured on two cores", fontsize=11)
    axes.legend(frameon=False, fontsize=8, loc="lower right", handletextpad=0.2)


def plain(axes: Any) -> None:
    """Seconds as they are written, without powers, and no more labels than there is room for."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        marks = (1, 3) if high / low < 1500 else (1,)
        axis.set_major_locator(LogLocator(subs=marks))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    finish(axes)
