"""The primary analysis in one figure: how much more one source relies on a confounder than another, a row a test."""

import textwrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from sourcematters.results.style import (
    FULL,
    SOFT,
    TEXT,
    beyond,
    frame,
    head,
    letters,
    literal,
    named,
    page,
    title_of,
)
from sourcematters.results.verdicts import ALPHA, p_in_words, rounded

ROW, HEAD, FOOT = 5, 19, 20  # mm
MOST = 1.0  # of an AUC: nothing larger can be, so no interval is drawn further
COLUMNS = (5, 88, 126)  # points, from the panel's right edge to the numbers beside it
BAND = "#E6E6E6"
LOOK: dict[str, Any] = {"color": "black", "marker": "o", "markersize": 4.5}
FOUND, NOT_FOUND = f"p below {ALPHA:g} after Holm", f"p {ALPHA:g} or more"
DETECTABLE = "too small to be found four times in five"


def forest(*, data: pd.DataFrame, caution: str = "") -> Figure:
    """A panel a pair of sources, a row a task and confounder: the difference in reliance with its 95 % interval.

    `data` is the table of `statistics.compare`. Right of 0 the first source of the pair relies more. Filled: p below
    0.05 after Holm's correction, which stands beside it; the grey band is what is too small to be found four times in
    five (`detectable`). An interval that leaves the frame ends in an arrow and its number; a row without a test says
    why. `caution`, what must be said of data and sources, stands on each panel.
    """
    pairs = list(data.groupby(["a", "b"], sort=False))
    heights = [ROW * len(rows) + HEAD for _, rows in pairs]
    figure = Figure(figsize=page(FULL, sum(heights) + FOOT), layout="constrained")
    grid = figure.subplots(len(pairs), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
    ends = data[["ci_low", "ci_high", "difference"]].abs().to_numpy(float)
    widest = min(MOST, 1.08 * np.nanmax(ends)) if np.isfinite(ends).any() else MOST
    widest = widest or MOST  # where all differences are 0
    caution = named(caution, {*data["a"], *data["b"]})
    several = [name for name in ("task", "backbone") if data[name].nunique() > 1]
    for axes, letter, ((a, b), rows) in zip(grid, letters(len(pairs)), pairs, strict=True):
        axes.set(xlim=(-widest, widest), ylim=(-1.5, len(rows) - 0.3))
        one, other = (literal(title_of(name, "source")) for name in (a, b))
        head(axes, f"{one} against {other}", letter=letter, caution=caution, width=95)
        for text, side in (
            (f"\N{LEFTWARDS ARROW} {other} relies more", "left"),
            (f"{one} relies more \N{RIGHTWARDS ARROW}", "right"),
        ):
            axes.text(
                side == "right", 0.01, text, transform=axes.transAxes, ha=side, va="bottom", fontsize=TEXT, color=SOFT
            )
        for offset, text in zip(COLUMNS, ("difference [95 %]", "p, Holm", "smallest to\nbe found"), strict=True):
            _beside(axes, (1, 1), offset, text, va="bottom", weight="bold")
        axes.axvline(0, color="#808080", linewidth=0.7, zorder=1)
        for place, row in enumerate(rows.iloc[::-1].itertuples()):
            _row(axes, place, row)
        names = [
            ", ".join([title_of(row["confounder"]), *(title_of(row[name], "task") for name in several)])
            for row in rows.iloc[::-1].to_dict("records")
        ]
        axes.set_yticks(range(len(names)), [literal(name) for name in names], fontsize=TEXT)
        frame(axes)
        axes.tick_params(axis="y", length=0)
    grid[-1].set_xlabel("difference in reliance, in AUC (95 % interval: folds and test patients)", fontsize=TEXT)
    signs: list[Artist] = [
        Line2D([], [], label=FOUND, **LOOK),
        Line2D([], [], label=NOT_FOUND, markerfacecolor="white", **LOOK),
        Patch(color=BAND, label=DETECTABLE),
    ]
    figure.legend(handles=signs, loc="outside lower center", ncols=3, frameon=False, fontsize=TEXT)
    return figure


def _row(axes: Axes, place: int, row: Any) -> None:
    """One test: band, interval, difference and numbers; or why there is none."""
    left, right = axes.get_xlim()
    tested, found = bool(np.isfinite(row.p)), bool(row.p_holm < ALPHA)
    if np.isfinite(row.difference):
        axes.plot(row.difference, place, zorder=3, **LOOK | {"markerfacecolor": "black" if found else "white"})
    if not tested:
        why = textwrap.shorten(f"no test: {row.problem}", 48, placeholder=" \u2026")
        _beside(axes, (1, place), COLUMNS[0], literal(why), color=SOFT)
        return
    band = min(row.detectable, right)
    axes.barh(place, 2 * band, left=-band, height=0.8, color=BAND, zorder=0)
    ends = np.clip([row.ci_low, row.ci_high], left, right)
    axes.plot(ends, [place, place], color=LOOK["color"], linewidth=1.2, zorder=2)
    beyond(axes, [place], [row.ci_low], [row.ci_high], LOOK["color"], along="x")
    sign = "+" if row.difference > 0 else ""
    measured = f"{sign}{rounded(row.difference)} [{rounded(row.ci_low)}, {rounded(row.ci_high)}]"
    for offset, text in zip(COLUMNS, (measured, p_in_words(row.p_holm), f"{row.detectable:.2f}"), strict=True):
        _beside(axes, (1, place), offset, text.replace("-", "\N{MINUS SIGN}"))


def _beside(axes: Axes, at: tuple[float, float], offset: float, text: str, va: str = "center", **how: Any) -> None:
    """Words right of a panel, `offset` points from its edge, at a row or above all of them."""
    of = axes.transAxes if va == "bottom" else axes.get_yaxis_transform()
    axes.annotate(
        text, at, xycoords=of, xytext=(offset, 2 * (va == "bottom")), textcoords="offset points", va=va,
        fontsize=TEXT, annotation_clip=False, **how,
    )  # fmt: skip
