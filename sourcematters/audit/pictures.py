"""Figures of an audit: how far each confounder alone moves a finished model's AUC, and how that goes with strength."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sourcematters.results.style import FULL, NATURAL, RADIOLOGY, TEXT, frame, head, letters, literal, page, title_of
from sourcematters.results.verdicts import LEANS, NO_SIGN, NOT_VISIBLE, TOO_LITTLE, rounded
from sourcematters.results.verdicts import SMALL as WITHIN

LOOKS: dict[str, dict[str, Any]] = {
    LEANS: {"color": NATURAL.color, "marker": "o"},
    NO_SIGN: {"color": RADIOLOGY.color, "marker": "s"},
    NOT_VISIBLE: {"color": "#808080", "marker": "x"},
    TOO_LITTLE: {"color": "#808080", "marker": "D"},
}
ROW, HEAD = 6, 36  # mm


def leaning(findings: pd.DataFrame, effects: pd.DataFrame, strengths: pd.DataFrame | None, note: str = "") -> Figure:
    """A row a confounder, strongest first: its lean with interval and verdict, the AUC without and where it misleads.

    `findings` is `verdicts.as_table`, `effects` and `strengths` are `effects.effects`; strengths has `rung` and `given`
    besides, and makes a second panel of the lean at each strength. `note`, what must be said of the data, is on both.
    """
    table = findings.assign(size=findings["effect"].abs().fillna(-1)).sort_values("size", kind="stable")
    measured = effects.set_index("confounder")
    several = strengths is not None and not strengths.empty
    figure = Figure(figsize=page(FULL, HEAD + ROW * len(table)), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True, width_ratios=[5, 2.2]) if several else [figure.subplots()]
    axes = panels[0]
    axes.axvspan(-WITHIN, WITHIN, color="#EEEEEE", linewidth=0)
    axes.axvline(0, color="#808080", linewidth=0.7)
    for place, row in enumerate(table.itertuples()):
        look = LOOKS[row.verdict]
        if np.isfinite(row.effect):
            axes.plot([row.low, row.high], [place, place], color=look["color"], linewidth=1.3)
            axes.plot(row.effect, place, markersize=4.5, linestyle="", **look)
            of = measured.loc[row.confounder]
            misled = of["auc_aligned" if row.effect < 0 else "auc_reversed"]
            text = f"{of['auc_without']:.2f} \N{RIGHTWARDS ARROW} {misled:.2f}"
        else:
            axes.plot(0, place, markersize=4.5, linestyle="", **look)
            text = "not scored"
        axes.text(1.01, place, text, transform=axes.get_yaxis_transform(), va="center", fontsize=TEXT)
    names = [literal(title_of(name)) for name in table["confounder"]]
    axes.set_yticks(range(len(table)), names, fontsize=TEXT)
    axes.set(ylim=(-0.7, len(table) - 0.3))
    axes.set_xlabel(
        "lean: what the confounder alone moves the AUC by\n(right: taken for disease, left: for health)", fontsize=TEXT
    )
    axes.text(
        1.01,
        1.0,
        "AUC without it \N{RIGHTWARDS ARROW}\nwhere it misleads",
        transform=axes.transAxes,
        fontsize=TEXT,
        va="bottom",
    )
    frame(axes)
    axes.tick_params(axis="y", length=0)
    there = [verdict for verdict in LOOKS if verdict in set(table["verdict"])]
    handles = [
        Line2D([], [], linestyle="-" if verdict != NOT_VISIBLE else "", markersize=4.5, **LOOKS[verdict])
        for verdict in there
    ]
    figure.legend(handles, there, loc="outside lower center", ncols=len(there), fontsize=TEXT, frameon=False)
    if several:
        _strengths(panels[1], table["confounder"].tolist(), strengths)
    titles = ("How far each confounder alone moves the AUC", "At other strengths")
    for panel, title, letter in zip(panels, titles, letters(len(panels)), strict=False):
        head(panel, title, letter=letter, caution=note, width=90 if panel is axes else 45)
    return figure


def _strengths(axes: Axes, names: list[str], strengths: pd.DataFrame) -> None:
    """The lean of each confounder weaker, as given and stronger: a number in a cell, coloured by its size."""
    cells = np.full((len(names), 3), np.nan)
    for place, name in enumerate(names):
        part = strengths[strengths["confounder"] == name].sort_values("rung")
        if part["given"].any():
            cells[place, 1 + np.arange(len(part)) - part["given"].to_numpy().argmax()] = part["lean"]
    axes.imshow(cells, cmap="PuOr_r", vmin=-0.5, vmax=0.5, aspect="auto", origin="lower")
    for place, column in zip(*np.nonzero(np.isfinite(cells)), strict=True):
        value = cells[place, column]
        color = "white" if abs(value) > 0.35 else "black"
        axes.text(
            column,
            place,
            rounded(value).replace("-", "\N{MINUS SIGN}"),
            ha="center",
            va="center",
            fontsize=TEXT,
            color=color,
        )
    axes.set_xticks(range(3), ["weaker", "as given", "stronger"], fontsize=TEXT)
    axes.tick_params(length=0)
    axes.tick_params(axis="y", labelleft=False)
    axes.spines[:].set_visible(False)
    axes.set_xlabel(f"lean\n({int(strengths['n'].max())} images)", fontsize=TEXT)
