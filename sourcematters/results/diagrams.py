"""Figures that explain, drawn without any run: the taxonomy (Fig. 1), and what calibration does to two AUCs."""

import textwrap
from collections.abc import Iterable

import numpy as np
import pandas as pd
import scipy.special
from matplotlib.figure import Figure
from scipy.special import ndtri

from sourcematters import confounders

from sourcematters import metrics

from sourcematters.confounders import taxonomy
from sourcematters.results.style import CHANCE, NATURAL, NORMAL, RADIOLOGY, SMALL

NOT_YET = "not yet"
_EDGE = {"color": "#B8BEC4", "linewidth": 1.0, "solid_capstyle": "round", "zorder": 1}
_BOX = {"boxstyle": "round,pad=0.45,rounding_size=0.3", "linewidth": 0}
# The two levels in the house's two colours, lightened; branches lighter still.
_TINTS = {taxonomy.PATIENT: ("#CFE3F1", "#EAF3F9"), taxonomy.ENVIRONMENT: ("#F8DCC9", "#FCF0E8")}


def miccat_table() -> pd.DataFrame:
    """One row a leaf of MICCAT: level, branch, leaf, tested, confounder (names in this package, or "not yet")."""
    table = taxonomy.as_table()
    return table.assign(confounder=[", ".join(confounders.implemented().get(n, [])) or NOT_YET for n in table["leaf"]])


def miccat() -> Figure:
    """Fig. 1: the taxonomy from left to right, root, level, branch, leaf, and the confounder that implements it.

    Leaves of which the paper tests an instance are bold.
    """
    table = miccat_table()
    # A gap between branches and a wider one between levels, so that the groups are seen before they are read.
    new_branch = table["branch"].ne(table["branch"].shift()) & (table.index > 0)
    new_level = table["level"].ne(table["level"].shift()) & (table.index > 0)
    table["y"] = -(np.arange(len(table)) + 0.5 * new_branch.cumsum() + 0.5 * new_level.cumsum())
    x_root, x_level, x_branch, x_leaf, x_confounder = 0.0, 1.6, 3.25, 4.85, 7.0

    figure = Figure(figsize=(7.8, 5.0))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-0.65, 9.3), ylim=(table["y"].min() - 0.8, 2.0))
    axes.axis("off")

    def node(x: float, y: float, text: str, color: str, size: float = NORMAL) -> None:
        box = _BOX | {"facecolor": color}
        axes.text(x, y, text, ha="center", va="center", fontsize=size, weight="bold", bbox=box, zorder=3)

    def edges(x: float, y: float, to_x: float, to_ys: Iterable[float]) -> None:
        middle = to_x - 0.4 if to_x == x_leaf - 0.1 else (x + to_x) / 2
        for to_y in to_ys:
            axes.plot([x, middle, middle, to_x], [y, y, to_y, to_y], **_EDGE)

    levels = table.groupby("level", sort=False)["y"].agg(lambda y: (y.max() + y.min()) / 2)
    branches = table.groupby(["level", "branch"], sort=False)["y"].agg(lambda y: (y.max() + y.min()) / 2)
    root = levels.mean()
    edges(x_root, root, x_level, levels)
    node(x_root, root, "MICCAT", "#E4E7EA")
    for level, y in levels.items():
        edges(x_level, y, x_branch, branches[level])
        node(x_level, y, level.replace(" ", "\n"), _TINTS[level][0])
    for (level, branch), y in branches.items():
        edges(x_branch, y, x_leaf - 0.1, table.loc[(table["level"] == level) & (table["branch"] == branch), "y"])
        node(x_branch, y, branch, _TINTS[level][1])
    for leaf in table.itertuples():
        ready = leaf.confounder != NOT_YET
        said = textwrap.fill(leaf.confounder.replace(", ", " \u00b7 ").replace("_", " "), 34)
        axes.text(x_leaf, leaf.y, leaf.leaf, va="center", fontsize=NORMAL, weight="bold" if leaf.tested else "normal")
        look = {"color": "#1D2329"} if ready else {"color": "#9AA1A8", "style": "italic"}
        axes.text(x_confounder, leaf.y, said, va="center", fontsize=SMALL + 0.5, **look)
    for x, said in ((x_leaf, "confounder"), (x_confounder, "implemented here as")):
        axes.text(x, 1.15, said, va="center", fontsize=SMALL + 0.5, color="#5D6873")
    axes.plot([x_leaf, 9.15], [0.7, 0.7], color="#DDE2E6", linewidth=0.8)
    axes.text(-0.5, 1.15, "bold: tested in the paper", va="center", fontsize=SMALL + 0.5, color="#5D6873")
    return figure


def binormal(*, negatives: int, positives: int, auc: float) -> pd.DataFrame:
    """Predictions of an idealised, calibrated network: `label, score`, logits from two normals a distance apart.

    Log-likelihood ratios are the quantiles of N(-m, 2m) and N(m, 2m) (variances), with m such that the binary AUC,
    Phi(sqrt m), is `auc`; the logit adds the log odds of the classes (Bayes).
    """
    prior = np.log(positives / negatives)
    mean = ndtri(auc) ** 2
    sizes, means = (negatives, positives), (-mean, mean)
    logits = [m + np.sqrt(2 * mean) * ndtri((np.arange(n) + 0.5) / n) for n, m in zip(sizes, means, strict=True)]
    return pd.DataFrame(
        {"label": np.repeat([0, 1], sizes), "score": scipy.special.expit(np.concatenate(logits) + prior)}
    )


def calibration_table(*, predictions: pd.DataFrame, shifts: Iterable[float]) -> pd.DataFrame:
    """Both AUCs of `predictions` (label, score) with every logit moved by each of `shifts`: shift, auc, auc_keras."""
    logits = scipy.special.logit(predictions["score"].to_numpy(float))
    moved = [(shift, predictions.assign(score=scipy.special.expit(logits + shift))) for shift in shifts]
    rows = [(shift, metrics.auc(table), metrics.auc_keras(table)) for shift, table in moved]
    return pd.DataFrame(rows, columns=["shift", *metrics.METRICS])


def calibration_shift(*, data: pd.DataFrame, majority: float, note: str = "") -> Figure:
    """How the two AUCs part ways when all logits shift: the ranking stays, the calibration goes.

    `data` is the table of `calibration_table`, `majority` the share of the negatives, 0..1: what Keras's AUC tends
    to when the network calls nobody ill; 1 - majority when it calls everybody ill.
    """
    figure = Figure(figsize=(5.4, 3.3), layout="constrained")
    axes = figure.subplots()
    for level, said, ha, x in (
        (majority, "all called negative: share of negatives", "left", data["shift"].min()),
        (1 - majority, "all called positive: share of positives", "right", data["shift"].max()),
    ):
        axes.axhline(level, zorder=0, **CHANCE | {"linestyle": ":"})
        axes.text(x, level - 0.012, f" {said} ", fontsize=SMALL, color="#5D6873", ha=ha, va="top")
    for metric, look in (("auc", NATURAL), ("auc_keras", RADIOLOGY)):
        axes.plot(data["shift"], data[metric], color=look.color, linestyle=look.linestyle, linewidth=1.8)
    bold = {"fontsize": NORMAL, "weight": "bold", "textcoords": "offset points"}
    last, beside = data.iloc[-1], data.iloc[(data["shift"] - 2).abs().argmin()]
    axes.annotate(
        "binary ROC AUC", (last["shift"], last["auc"]), xytext=(-2, 5), ha="right", color=NATURAL.color, **bold
    )
    axes.annotate(
        "Keras's AUC over both\ncolumns, as published", (beside["shift"], beside["auc_keras"]),
        xytext=(8, 0), color=RADIOLOGY.color, **bold,
    )  # fmt: skip
    axes.set(ylim=(0.3, 1.0), xlim=(data["shift"].min(), data["shift"].max()))
    axes.set_xlabel("shift of all logits (0: calibrated)", fontsize=NORMAL)
    axes.set_ylabel("AUC of the same ranking", fontsize=NORMAL)
    axes.tick_params(labelsize=SMALL, length=2.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(note, fontsize=NORMAL, weight="bold")
    return figure
