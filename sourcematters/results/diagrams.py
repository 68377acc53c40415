"""Figures that explain, drawn without any run: the taxonomy (Fig. 1), and what calibration does to two AUCs."""

import textwrap
from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.special import expit, logit, ndtri

from sourcematters import confounders, metrics
from sourcematters.confounders import taxonomy
from sourcematters.results.style import CHANCE, FULL, NATURAL, ONE, RADIOLOGY, SOFT, TEXT, frame, page, title_of

NOT_YET = "not yet"
# The two levels in the house's two colours, lightened; branches lighter still.
_TINTS = {taxonomy.PATIENT: ("#CFE3F1", "#EAF3F9"), taxonomy.ENVIRONMENT: ("#F8DCC9", "#FCF0E8")}
# Where lines start, bend and end: from the root, from a level, and from a branch.
_LINES = ((0.0, 0.8, 1.6), (1.6, 2.425, 3.25), (3.25, 4.35, 4.75))


def miccat_table() -> pd.DataFrame:
    """One row a leaf of MICCAT: level, branch, leaf, tested, confounder (names in this package, or "not yet")."""
    table = taxonomy.as_table()
    return table.assign(confounder=[", ".join(confounders.implemented().get(n, [])) or NOT_YET for n in table["leaf"]])


def miccat() -> Figure:
    """Fig. 1: the taxonomy from left to right, root, level, branch, leaf, and the confounder that implements it."""
    table = miccat_table()
    called = [" \u00b7 ".join(map(title_of, names.split(", "))) for names in table["confounder"]]
    table["text"] = [textwrap.fill(names, 34) for names in called]
    # A row is as high as its text. A gap between branches and a wider one between levels, so that the groups are seen
    # before they are read.
    heights = np.maximum(1, 0.6 * table["text"].str.count("\n") + 0.8)
    gaps = sum(table[of].ne(table[of].shift()).cumsum() - 1 for of in ("level", "branch"))
    table["y"] = 0.5 - (heights.cumsum() - heights / 2 + 0.5 * gaps)
    x_leaf, x_confounder = 4.85, 7.0

    low = (table["y"] - heights / 2).min() - 0.3
    figure = Figure(figsize=page(FULL, 5.6 * (2.0 - low)))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-0.65, 9.3), ylim=(low, 2.0))
    axes.axis("off")

    def node(depth: int, text: str, color: str, leaves: pd.Series, next_ys: Iterable[float]) -> float:
        """A box before the middle of its leaves, with a line to each node of the next depth; return its height."""
        y = (leaves.max() + leaves.min()) / 2
        x, bend, next_x = _LINES[depth]
        for next_y in next_ys:
            bent = [x, bend, bend, next_x], [y, y, next_y, next_y]
            axes.plot(*bent, color="#B8BEC4", linewidth=1.0, solid_capstyle="round", zorder=1)
        box = {"boxstyle": "round,pad=0.45,rounding_size=0.3", "linewidth": 0, "facecolor": color}
        axes.text(x, y, text, ha="center", va="center", fontsize=TEXT, weight="bold", bbox=box, zorder=3)
        return y

    levels = []
    for level, leaves in table.groupby("level", sort=False)["y"]:
        strong, weak = _TINTS[level]
        branches = leaves.groupby(table["branch"], sort=False)
        ys = [node(2, branch, weak, below, below) for branch, below in branches]
        levels.append(node(1, level.replace(" ", "\n"), strong, leaves, ys))
    node(0, "MICCAT", "#E4E7EA", pd.Series(levels), levels)
    for leaf in table.itertuples():
        axes.text(x_leaf, leaf.y, leaf.leaf, va="center", fontsize=TEXT, weight="bold" if leaf.tested else "normal")
        color, style = ("#9AA1A8", "italic") if leaf.confounder == NOT_YET else ("#1D2329", "normal")
        axes.text(x_confounder, leaf.y, leaf.text, va="center", fontsize=TEXT, color=color, style=style)
    for x, text in ((x_leaf, "confounder"), (x_confounder, "implemented here as"), (-0.5, "bold: tested in the paper")):
        axes.text(x, 1.15, text, va="center", fontsize=TEXT, color=SOFT)
    axes.plot([x_leaf, 9.15], [0.7, 0.7], color="#DDE2E6", linewidth=0.8)
    return figure


def binormal(*, negatives: int, positives: int, auc: float) -> pd.DataFrame:
    """Predictions of an idealised, calibrated network: `label, score`, with the binary AUC `auc`.

    Logits are quantiles of N(-m, 2m) and N(m, 2m) (variances), Phi(sqrt m) = auc, plus the classes' log odds (Bayes).
    """
    prior, mean = np.log(positives / negatives), ndtri(auc) ** 2
    sides = ((negatives, -mean), (positives, mean))
    logits = np.concatenate([m + np.sqrt(2 * mean) * ndtri((np.arange(n) + 0.5) / n) for n, m in sides])
    return pd.DataFrame({"label": np.repeat([0, 1], (negatives, positives)), "score": expit(logits + prior)})


def calibration_table(*, predictions: pd.DataFrame, shifts: Iterable[float]) -> pd.DataFrame:
    """Both AUCs of `predictions` (label, score) with every logit moved by each of `shifts`: shift, auc, auc_keras."""
    logits = logit(predictions["score"].to_numpy(float))
    moved = [(shift, predictions.assign(score=expit(logits + shift))) for shift in shifts]
    rows = [(shift, metrics.auc(table), metrics.auc_keras(table)) for shift, table in moved]
    return pd.DataFrame(rows, columns=["shift", *metrics.METRICS])


def calibration_shift(*, data: pd.DataFrame, majority: float) -> Figure:
    """How the two AUCs of `calibration_table` part ways as all logits shift; `majority`: the negatives' share, 0..1."""
    figure = Figure(figsize=page(ONE, 66), layout="constrained")
    axes = figure.subplots()
    low, high = data["shift"].iloc[[0, -1]]
    for level, called, side, x in ((majority, "negative", "left", low), (1 - majority, "positive", "right", high)):
        axes.axhline(level, zorder=0, **CHANCE | {"linestyle": ":"})
        text = f" all called {called}: share of {called}s "
        axes.text(x, level - 0.012, text, fontsize=TEXT, color=SOFT, ha=side, va="top")
    for metric, look, label, shift, offset, side in (
        ("auc", NATURAL, "binary ROC AUC", high, (-2, 5), "right"),
        ("auc_keras", RADIOLOGY, "Keras's AUC over both\ncolumns, as published", 2, (8, 0), "left"),
    ):
        axes.plot(data["shift"], data[metric], color=look.color, linestyle=look.linestyle, linewidth=1.8)
        at = data.iloc[(data["shift"] - shift).abs().argmin()]
        axes.annotate(
            label, (at["shift"], at[metric]), xytext=offset, textcoords="offset points", ha=side, color=look.color,
            fontsize=TEXT, weight="bold",
        )  # fmt: skip
    axes.set(ylim=(0.3, 1.0), xlim=(low, high))
    axes.set_xlabel("shift of all logits (0: calibrated)", fontsize=TEXT)
    axes.set_ylabel("AUC of the same ranking", fontsize=TEXT)
    frame(axes)
    return figure
