"""What is confounded already, in one figure."""

import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sourcematters.audit.data.attributes import THE_LABEL
from sourcematters.audit.data.shortcuts import ATTRIBUTE, IMAGE, ORDER
from sourcematters.results.style import (
    CHANCE,
    FULL,
    NATURAL,
    RADIOLOGY,
    SOFT,
    TEXT,
    UNTRAINED,
    frame,
    head,
    letters,
    literal,
    page,
)

LOOKS = {IMAGE: NATURAL, ATTRIBUTE: RADIOLOGY, ORDER: UNTRAINED}
CALLED = {IMAGE: "statistics of the image", ATTRIBUTE: "what is known of it", ORDER: "names of patients and files"}
LETTERS = 30  # of a name
VALUES = 8  # of the strongest attribute
ROW = 4.9  # mm


def already_confounded(
    associations: pd.DataFrame,
    counts: pd.DataFrame,
    shortcuts: pd.DataFrame,
    *,
    anatomy: str = "the anatomy",
    note: str = "",
) -> Figure:
    """Left, with which AUC each thing that is no `anatomy` tells the label; right, the strongest attribute's counts.

    The tables are those of `attributes.associations`, `attributes.counts` and `shortcuts.shortcuts`. Intervals are 95 %
    over patients; what was not measured is left out. `note`, what must be said of the data, stands on both.
    """
    drawn = shortcuts[shortcuts["auc"].notna()].sort_values(["auc", "what"], ascending=[True, False])
    figure = Figure(figsize=page(FULL, 36 + ROW * max(len(drawn), 8)), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
    _points(left, drawn)
    a, b = letters(2)
    head(left, f"What tells the label without reading {anatomy}", letter=a, caution=note)
    head(right, _bars(right, associations, counts), letter=b, caution=note)
    handles = [handle for axes in (left, right) for handle in axes.get_legend_handles_labels()[0]]
    figure.legend(
        handles=handles, ncols=5, loc="outside lower left", frameon=False, fontsize=TEXT,
        handletextpad=0.4, columnspacing=1.2, handlelength=1.6,
    )  # fmt: skip
    return figure


def _points(axes: Axes, drawn: pd.DataFrame) -> None:
    axes.axvline(0.5, zorder=0, **CHANCE)
    places = np.arange(len(drawn))
    for of, look in LOOKS.items():
        there = (drawn["of"] == of).to_numpy()
        if there.any():
            rows = drawn[there]
            low = (rows["auc"] - rows["ci_low"].fillna(rows["auc"])).clip(lower=0)
            high = (rows["ci_high"].fillna(rows["auc"]) - rows["auc"]).clip(lower=0)
            axes.errorbar(
                rows["auc"], places[there], xerr=[low, high], label=CALLED[of], color=look.color, marker=look.marker,
                linestyle="", markersize=4, markeredgecolor="white", markeredgewidth=0.5, elinewidth=0.9, capsize=1.8,
                clip_on=False, zorder=3,
            )  # fmt: skip
    lowest = min(drawn["ci_low"].min(), drawn["auc"].min(), 0.4) if len(drawn) else 0.4
    axes.set_yticks(places, [literal(cut(what)) for what in drawn["what"]])
    axes.set(xlim=(max(lowest - 0.02, 0), 1.01), ylim=(-1.3, max(len(drawn), 1) - 0.3))
    axes.text(0.5, -1.2, " chance", fontsize=TEXT, color=SOFT)
    axes.set_xlabel("AUC alone, for others' patients (95 % interval)", fontsize=TEXT)
    axes.grid(axis="x", color="#EBEBEB", linewidth=0.6)
    axes.set_axisbelow(True)
    frame(axes)
    axes.tick_params(axis="y", length=0)
    if drawn.empty:
        axes.text(0.7, 0, "nothing could be measured", ha="center", fontsize=TEXT, color=SOFT)


def _bars(axes: Axes, associations: pd.DataFrame, counts: pd.DataFrame) -> str:
    """Draw them, and return a title."""
    name = strongest(associations, counts)
    if not name:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "no attribute could be measured", ha="center", fontsize=TEXT, color=SOFT)
        return ""
    own = counts[counts["attribute"] == name]
    shown = own.iloc[:VALUES]
    places = np.arange(len(shown), dtype=float)[::-1]
    for k, (column, color, label) in enumerate(
        (("negatives", "#C8C8C8", "label 0"), ("positives", "#606060", "label 1"))
    ):
        bars = axes.barh(places + 0.2 - 0.4 * k, shown[column], height=0.36, color=color, label=label)
        axes.bar_label(bars, fontsize=TEXT, padding=1.5)
    axes.set_yticks(places, [literal(cut(value, 18)) for value in shown["value"]])
    more = f" (the {VALUES} largest of {len(own)} values)" if len(own) > VALUES else ""
    axes.set_xlabel(f"images{more}", fontsize=TEXT)
    axes.set(xlim=(0, 1.15 * max(shown[["negatives", "positives"]].to_numpy().max(), 1)))
    axes.set_ylim(min(-0.6, len(shown) / 2 - 2.5), max(len(shown) - 0.4, len(shown) / 2 + 1.5))
    frame(axes)
    axes.tick_params(axis="y", length=0)
    return literal(textwrap.fill(f"How {cut(name)} goes with the label", 34))


def strongest(associations: pd.DataFrame, counts: pd.DataFrame) -> str:
    """The attribute that tells the label best, of those that are not the label in other words; "" if there is none."""
    there = associations[associations["auc"].notna() & associations["attribute"].isin(counts["attribute"])]
    there = there.sort_values(["auc", "attribute"], ascending=[False, True])
    others = there[there["auc"] <= THE_LABEL]
    return "" if there.empty else str((others if len(others) else there)["attribute"].iloc[0])


def cut(name: str, letters: int = LETTERS) -> str:
    """A name on one line of at most so many letters."""
    line = " ".join(str(name).split())
    return line if len(line) <= letters else line[: letters - 1] + "…"
