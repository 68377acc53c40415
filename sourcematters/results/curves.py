"""One panel of curves: AUC against strength, a curve a source, what was published, the clean test, and whose test.

Lines join at the true strength; markers and intervals stand side by side there, so that none hides another.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from sourcematters.results.style import BASELINE, CHANCE, SOFT, TEXT, Style, beyond, frame, title_of, written

PUBLISHED = "published state of the art"
CLEAN = "clean test: nobody carries it"
UNLEARNED = "did not learn in some fold"
CHANCE_AUC = 0.5
ROUNDING = 1e-3  # Keras's AUC of a perfect ranking can exceed 1 by as much: no bar may be negative


def panel(axes: Axes, data: pd.DataFrame, style: Mapping[str, Style], *, empty: str, level: float | None) -> None:
    """Draw the rows of one panel; without any it says `empty`. `level` is a published AUC.

    Beside what was published (column `published`) chance has no line: it is another AUC, with chance elsewhere.
    """
    theirs = "published" in data
    axes.set(xlim=(-0.06, 1.06), ylim=(-0.02, 1.02), yticks=np.linspace(0, 1, 6))
    if not theirs:
        axes.axhline(CHANCE_AUC, zorder=0, label="chance", **CHANCE)
    if level is not None:
        axes.axhline(level, zorder=0, label=PUBLISHED, **BASELINE)
    step = min(0.025, 0.25 * min(np.diff(np.sort(data["p_art"].unique())), default=0.1))
    aside = {source: (k - (len(style) - 1) / 2) * step for k, source in enumerate(style)}
    for source, look in style.items():
        curve = data[data["source"] == source].sort_values("p_art")
        if len(curve):
            _curve(axes, curve, look, aside[source])
    if theirs:
        for source, curve in data.drop_duplicates(["published_source", "p_art"]).groupby("source", sort=False):
            _published(axes, curve.sort_values("p_art"), style[str(source)], aside[str(source)])
    if data.empty:
        axes.text(0.5, 0.25 if theirs else 0.7, empty, ha="center", fontsize=TEXT, color=SOFT)
    axes.grid(axis="y", color="#EBEBEB", linewidth=0.6)
    axes.set_axisbelow(True)
    frame(axes)


def _curve(axes: Axes, curve: pd.DataFrame, look: Style, aside: float) -> None:
    """The line at the true strengths, and beside them the means with their intervals, or with their two folds."""
    two = (curve["folds"] == 2).to_numpy()
    at, mean = (curve["p_art"] + aside).to_numpy(), curve["mean"].to_numpy()
    low, high = (np.where(two, np.nan, curve[end]) for end in ("ci_low", "ci_high"))
    bottom, top = axes.get_ylim()
    bars = [(mean - low.clip(min=bottom)).clip(min=0), (high.clip(max=top) - mean).clip(min=0)]
    axes.plot(curve["p_art"], mean, color=look.color, linestyle=look.linestyle, linewidth=1.2, zorder=2)
    axes.errorbar(
        at, mean, yerr=bars, label=written(title_of(str(curve["source"].iloc[0]), "source")), color=look.color,
        marker=look.marker, linestyle="", markersize=4, markerfacecolor="white" if look.hollow else look.color,
        markeredgecolor=look.color if look.hollow else "white", markeredgewidth=0.8 if look.hollow else 0.5,
        elinewidth=0.9, capsize=1.8, clip_on=False, zorder=3,
    )  # fmt: skip
    beyond(axes, at, low, np.where(high <= 1 + ROUNDING, high.clip(max=1), high), look.color)
    for end in ("lowest", "highest") if two.any() else ():
        axes.plot(
            at[two], curve.loc[two, end], color=look.color, marker="_", markersize=6, markeredgewidth=1.1,
            linestyle="", clip_on=False, zorder=3,
        )  # fmt: skip
    if (weak := (curve.get("unlearned", curve["mean"] * 0) > 0).to_numpy()).any():
        axes.plot(
            at[weak], mean[weak], label=UNLEARNED, color="#707070", marker="x", markersize=6, linestyle="",
            clip_on=False, zorder=5,
        )  # fmt: skip


def _published(axes: Axes, curve: pd.DataFrame, look: Style, aside: float) -> None:
    """A published curve, with the error of reading it off the figure as a broad bar."""
    axes.plot(curve["p_art"], curve["published"], color=look.color, linestyle=(0, (1, 2)), linewidth=0.8, zorder=2)
    axes.errorbar(
        curve["p_art"] + aside, curve["published"], yerr=curve["read_error"], color=look.color, marker=look.marker,
        label=f"{curve['published_source'].iloc[0]}, published", linestyle="", markersize=4.5, elinewidth=2.5,
        markerfacecolor="white", markeredgewidth=0.9, clip_on=False, zorder=4,
    )  # fmt: skip


def tell_chance(axes: Axes) -> None:
    """At the right end of its line."""
    axes.text(
        1.01, CHANCE_AUC, "chance", transform=axes.get_yaxis_transform(), fontsize=TEXT, color=SOFT, rotation=270,
        va="center",
    )  # fmt: skip


def thin(axes: Axes, clean: pd.DataFrame, style: Mapping[str, Style]) -> None:
    """The clean test of each source, as a thin line without bars."""
    for source, curve in clean.groupby("source"):
        curve = curve.sort_values("p_art")
        axes.plot(curve["p_art"], curve["mean"], color=style[str(source)].color, linewidth=0.6, zorder=1.5)


def legend(data: pd.DataFrame, style: Mapping[str, Style], *, levels: bool, clean: bool) -> list[Line2D]:
    """What the signs of these panels mean: the sources first, then what was published, and the other lines."""
    there = {str(source) for source in data["source"]}
    made = [_sign(title_of(name, "source"), look, look.linestyle) for name, look in style.items() if name in there]
    if "published" in data:
        first = data.drop_duplicates("published_source")
        for source, published in zip(first["source"], first["published_source"], strict=True):
            look = style[source]._replace(hollow=True)
            made.append(_sign(f"{published}, published", look, (0, (1, 2)), linewidth=0.8))
    if levels:
        made.append(Line2D([], [], label=PUBLISHED, **BASELINE))
    if clean:
        made.append(Line2D([], [], label=CLEAN, color=SOFT, linewidth=0.6))
    if (data.get("unlearned", data["mean"] * 0) > 0).any():
        made.append(Line2D([], [], label=UNLEARNED, color="#707070", marker="x", markersize=6, linestyle=""))
    return made


def _sign(name: str, look: Style, linestyle: Any, linewidth: float = 1.2) -> Line2D:
    return Line2D(
        [], [], label=written(name), color=look.color, linestyle=linestyle, linewidth=linewidth, marker=look.marker,
        markersize=4, markerfacecolor="white" if look.hollow else look.color,
        markeredgecolor=look.color if look.hollow else "white", markeredgewidth=0.8 if look.hollow else 0.5,
    )  # fmt: skip


def folds_in_words(folds: Iterable[int], theirs: bool = False) -> str:
    """What the marks of these panels are: means of how many folds, and what their intervals cover."""
    fewest, most = min(folds), max(folds)
    counted = f"{most}" if fewest == most else f"{fewest} to {most}"
    if most == 1:
        said = "one fold, 95 % interval: test patients only"
    elif most == 2:
        said = f"mean of {counted} folds; dashes: the two folds"
    else:
        said = f"mean of {counted} folds, 95 % interval: folds and test patients"
        said += "; of two folds, dashes: both" * (fewest <= 2)
    return "ours: " * theirs + said
