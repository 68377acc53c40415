"""The paper's figures: a tidy table (or an image) in, a matplotlib Figure out.

House style: colours of Okabe and Ito (https://jfly.uni-koeln.de/color/), told apart by the colour-blind, and
for each source a marker and a line style of its own, so that a grey print can be read too. Nothing here
touches pyplot or any global setting.
"""

import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from sourcematters import files, metrics, published
from sourcematters.confounders import ORIGINAL, Confounder, Pixels, apply, key_for
from sourcematters.errors import StudyError
from sourcematters.sources import MATCHED


class Style(NamedTuple):
    """How one source is drawn in every figure."""

    color: str
    marker: str
    linestyle: str | tuple[int, tuple[float, ...]]
    hollow: bool = False


NATURAL = Style("#D55E00", "o", "-")
RADIOLOGY = Style("#0072B2", "s", (0, (4, 1.5)))
UNTRAINED = Style("#000000", "^", (0, (4, 1.5, 1, 1.5)))
# A stand-in wears the colours of the source that it stands for, and the releases of one source share theirs. A matched
# source is drawn in the colour of the plain one, with hollow markers and a dotted line.
SOURCES = {
    "imagenet": NATURAL,
    "natural-standin": NATURAL,
    "radimagenet": RADIOLOGY,
    "radimagenet-keras": RADIOLOGY,
    "radiology-standin": RADIOLOGY,
    "random": UNTRAINED,
}
OTHERS = (
    Style("#009E73", "D", (0, (6, 1, 1, 1, 1, 1))),
    Style("#CC79A7", "v", (0, (2, 1))),
    Style("#56B4E9", "P", (0, (8, 2))),
    Style("#E69F00", "X", (0, (3, 1, 1, 1))),
)
BASELINE = {"color": "#808080", "linestyle": ":", "linewidth": 1.4}
PUBLISHED = "published state of the art"
CHANCE = {"color": "#B0B0B0", "linestyle": "-", "linewidth": 0.7}

TITLES = {"noise": "noise vs none", "noise_high_vs_low": "noise, high vs low"}
ROWS = {"ood": "o.o.d. test", "iid": "i.i.d. test"}
SMALL, NORMAL = 7, 8.5  # points, at the size of a journal page


def styles(sources: Iterable[str]) -> dict[str, Style]:
    """A distinct style for each source, the known ones first in `SOURCES`' order, the others by name.

    Raises StudyError for more sources than can be told apart.
    """
    names = set(sources)
    plain = {name.removesuffix(MATCHED) for name in names}
    chosen: dict[str, Style] = {}
    for name in sorted(plain, key=lambda name: (list(SOURCES).index(name) if name in SOURCES else 99, name)):
        free = [style for style in (SOURCES.get(name), *OTHERS) if style and style not in chosen.values()]
        if not free:
            raise StudyError(f"figure: {len(plain)} sources are more than can be told apart: draw fewer at once.")
        chosen[name] = free[0]
    looks = {}
    for name, style in chosen.items():
        looks |= {name: style, name + MATCHED: style._replace(linestyle=(0, (1, 1)), hollow=True)}
    return {name: look for name, look in looks.items() if name in names}


def caption(*, data: Iterable[str], sources: Iterable[str] = ()) -> str:
    """What a figure must say of where it comes from: phantoms are not patients, a stand-in is not ImageNet.

    `data` and `sources` are names, as in the results table. Empty for real images and published weights.
    """
    said = []
    if "phantoms" in set(data):
        said.append("phantoms, not patients")
    if any(source.removesuffix(MATCHED).endswith("-standin") for source in sources):
        said.append("stand-ins, not ImageNet or RadImageNet")
    return "; ".join(said)


def robustness(
    *,
    data: pd.DataFrame,
    confounders: Iterable[str] | None = None,
    baseline: float | Mapping[str, float] | None = None,
    note: str = "",
) -> Figure:
    """Fig. 3: AUC against the confounder's strength, o.o.d. row over i.i.d. row, a column a confounder.

    `data` is the table of `metrics.summarise` for one backbone: mean over folds, with the 95 % interval as
    error bars (cut at 0 and 1, shifted sideways by source so that they do not hide each other). `confounders`
    picks and orders the columns: `["noise", "noise_high_vs_low"]` draws the X-ray half of Fig. 4. `baseline`
    is the published state of the art, for all columns or by task. `note` is printed on top, e.g. "phantoms,
    not patients". A panel says so where the cohort has no such test. Raises StudyError for a missing column, a mean
    outside 0..1, an unknown confounder, or a panel that would mix tasks or backbones.
    """
    metrics.check(data, metrics.SUMMARY, "figure")
    if not (proper := data["mean"].between(0, 1)).all():
        raise StudyError(f"figure: a mean AUC of {data['mean'][~proper].iloc[0]} is outside 0..1. Summarise again.")
    names = list(dict.fromkeys(data["confounder"] if confounders is None else confounders))
    data = data[data["confounder"].isin(names) & data["test_set"].isin(list(ROWS))]
    tasks = {name: _task(data, name) for name in names}
    style = styles(data["source"])

    figure = Figure(figsize=(1.0 + 1.75 * max(len(names), 2), 4.6), layout="constrained")
    grid = figure.subplots(len(ROWS), len(names), sharex="col", sharey=True, squeeze=False)
    titles = []
    for column, name in enumerate(names):
        level = baseline.get(tasks[name]) if isinstance(baseline, Mapping) else baseline
        in_column = data[data["confounder"] == name]
        for row, test_set in enumerate(ROWS):
            grid[row, column].axhline(0.5, zorder=0, label="chance", **CHANCE)
            if level is not None:
                grid[row, column].axhline(level, zorder=0, label=PUBLISHED, **BASELINE)
            panel = in_column[in_column["test_set"] == test_set]
            _curves(grid[row, column], panel, style)
            if panel.empty:
                grid[row, column].text(
                    0.5, 0.7, "the cohort has no such test", ha="center", fontsize=SMALL, color="#707070"
                )
        strengths = sorted(in_column["p_art"].unique())
        grid[-1, column].set_xticks(strengths, [f"{p:.2g}".replace("0.", ".") for p in strengths])
        title = TITLES.get(name, name.replace("_", " "))
        titles.append(f"{title}\n{tasks[name]}" if len(set(tasks.values())) > 1 else title)
    _label(figure, grid, titles=titles, measure="AUC", folds=_folds(data))
    _legend(figure, note)
    return figure


def against(*, data: pd.DataFrame, note: str = "") -> Figure:
    """Our curves on the published ones: o.o.d. row over i.i.d. row, a column a panel of Figs. 3 and 4.

    `data` is the table of `published.compare`. Ours as in `robustness`; the published means are hollow markers,
    their bars the error of reading them off the paper's figures. `note` is printed on top: what the comparison is
    worth. Raises StudyError for a missing column.
    """
    metrics.check(data, published.COMPARISON, "figure")
    names = list(dict.fromkeys(data["panel"]))
    style = styles(data["source"])
    figure = Figure(figsize=(1.0 + 1.75 * max(len(names), 2), 5.0), layout="constrained")
    grid = figure.subplots(len(ROWS), len(names), sharex="col", sharey=True, squeeze=False)
    for column, name in enumerate(names):
        in_column = data[data["panel"] == name]
        for row, test_set in enumerate(ROWS):
            panel, axes = in_column[in_column["test_set"] == test_set], grid[row, column]
            _curves(axes, panel.rename(columns={"ours": "mean"}), style)
            _published(axes, panel, style)
            if panel.empty:
                axes.text(0.5, 0.25, "not published", ha="center", fontsize=SMALL, color="#707070")
        strengths = sorted(in_column["p_art"].unique())
        grid[-1, column].set_xticks(strengths, [f"{p:.2g}".replace("0.", ".") for p in strengths])
    titles = [published.PANELS[name].title for name in names]
    _label(figure, grid, titles=titles, measure="AUC as published", folds=f"ours: {_folds(data)}")
    _legend(figure, textwrap.fill(note, 26 * max(len(names), 2)))
    return figure


def _published(axes: Axes, panel: pd.DataFrame, style: dict[str, Style]) -> None:
    """The published means of one panel, each curve once, beside our first source that is laid on it."""
    for source, curve in panel.drop_duplicates(["published_source", "p_art"]).groupby("source", sort=False):
        curve, look = curve.sort_values("p_art"), style[source]
        axes.errorbar(
            curve["p_art"] + _aside(panel, source, style), curve["published"], yerr=curve["read_error"],
            label=f"{curve['published_source'].iloc[0]}, published", color=look.color, marker=look.marker,
            linestyle=(0, (1, 2)), linewidth=0.8, markersize=4.5, markerfacecolor="white", markeredgewidth=0.9,
            elinewidth=2.5, clip_on=False, zorder=4,
        )  # fmt: skip


def _label(figure: Figure, grid: NDArray[np.object_], *, titles: list[str], measure: str, folds: str) -> None:
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, fontsize=NORMAL, weight="bold")
    for axes, label in zip(grid[:, 0], ROWS.values(), strict=True):
        axes.set_ylabel(f"{label}\n{measure}", fontsize=NORMAL)
    figure.supxlabel(f"strength of the correlation, $p_\\mathrm{{art}}$\n{folds}", fontsize=SMALL + 0.5)


def _task(data: pd.DataFrame, confounder: str) -> str:
    part = data[data["confounder"] == confounder]
    if part.empty:
        raise StudyError(f"figure: the table has no o.o.d. or i.i.d. row for confounder {confounder!r}.")
    for column in ("task", "backbone"):
        if len(found := sorted(part[column].unique())) > 1:
            raise StudyError(
                f"figure: {confounder} has more than one {column} ({', '.join(found)}). Draw one at a time: "
                f"data[data.{column} == {found[0]!r}]."
            )
    return str(part["task"].iloc[0])


def _curves(axes: Axes, panel: pd.DataFrame, style: dict[str, Style]) -> None:
    """One panel: a curve a source."""
    for source, look in style.items():
        curve = panel[panel["source"] == source].sort_values("p_art")
        if curve.empty:
            continue
        # Keras's AUC of a perfect ranking can exceed 1 by a rounding error: no bar may be negative.
        low = (curve["mean"] - curve["ci_low"].clip(0, 1)).clip(lower=0)
        high = (curve["ci_high"].clip(0, 1) - curve["mean"]).clip(lower=0)
        axes.errorbar(
            curve["p_art"] + _aside(panel, source, style), curve["mean"], yerr=[low, high],
            label=source, color=look.color, marker=look.marker, linestyle=look.linestyle, linewidth=1.3,
            markersize=4, markerfacecolor="white" if look.hollow else look.color,
            markeredgecolor=look.color if look.hollow else "white", markeredgewidth=0.8 if look.hollow else 0.5,
            elinewidth=0.9, capsize=1.8, clip_on=False, zorder=3,
        )  # fmt: skip
    axes.set(xlim=(-0.06, 1.06), ylim=(-0.02, 1.02), yticks=np.linspace(0, 1, 6))
    axes.tick_params(labelsize=SMALL, length=2.5)
    axes.grid(axis="y", color="#EBEBEB", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _aside(panel: pd.DataFrame, source: str, style: dict[str, Style]) -> float:
    """How far a source stands beside its strength, so that error bars do not hide each other."""
    step = min(0.025, 0.25 * min(np.diff(np.sort(panel["p_art"].unique())), default=0.1))
    return (list(style).index(source) - (len(style) - 1) / 2) * step


def _legend(figure: Figure, note: str) -> None:
    """One legend above all panels, under the note: the sources first, then the reference lines."""
    handles = {h.get_label(): h for axes in figure.axes for h in axes.get_legend_handles_labels()[0]}
    ordered = sorted(handles.values(), key=lambda handle: handle.get_label() in ("chance", PUBLISHED))
    across = 3
    by_column = [ordered[k] for first in range(across) for k in range(first, len(ordered), across)]
    figure.legend(
        handles=by_column, ncols=across, loc="outside upper center", frameon=False, handlelength=3.2,
        fontsize=SMALL + 0.5, title=note, title_fontproperties={"weight": "bold", "size": NORMAL},
    )  # fmt: skip


def _folds(data: pd.DataFrame) -> str:
    fewest, most = int(data["folds"].min()), int(data["folds"].max())
    if most == 1:
        return "one fold: no confidence interval"
    return f"mean of {most if fewest == most else f'{fewest} to {most}'} folds, 95 % confidence interval"


class _Pair(NamedTuple):
    confounder: Confounder
    without: Pixels
    carrying: Pixels
    mask: NDArray[np.bool_]

    @property
    def difference(self) -> NDArray[np.int64]:
        return self.carrying.astype(int) - self.without


def _pairs(image: Pixels, confounders: Iterable[Confounder], seed: int, image_id: str) -> list[_Pair]:
    """The image as the others have it and as a carrier has it, for each drawn confounder."""
    pairs = []
    for confounder in confounders:
        if confounder.sampled:
            raise StudyError(f"gallery: {confounder.name} is sampled, it changes no pixel. Leave it out.")
        without, _ = apply(confounder.base, image, key_for(seed, image_id, confounder.base))
        carrying, mask = apply(confounder.carrier, image, key_for(seed, image_id, confounder.carrier))
        pairs.append(_Pair(confounder, without, carrying, mask))
    if not pairs:
        raise StudyError("gallery: no confounder to draw.")
    return pairs


def gallery_table(*, image: Pixels, confounders: Iterable[Confounder], seed: int, image_id: str) -> pd.DataFrame:
    """What the gallery shows, in grey levels: one row a confounder.

    Columns `confounder, others, carriers, masked_pixels, changed_pixels, mean_change, largest_change`; the
    changes are absolute, the mean is over all pixels.
    """
    rows = []
    for pair in _pairs(image, confounders, seed, image_id):
        change = np.abs(pair.difference)
        drawn = (pair.confounder.name, pair.confounder.base.label, pair.confounder.carrier.label)
        rows.append((*drawn, pair.mask.sum(), np.count_nonzero(change), change.mean(), change.max()))
    changes = ["masked_pixels", "changed_pixels", "mean_change", "largest_change"]
    return pd.DataFrame(rows, columns=["confounder", "others", "carriers", *changes])


def gallery(
    *,
    image: Pixels,
    confounders: Iterable[Confounder],
    seed: int,
    image_id: str,
    zoom: float = 8,
    note: str = "",
) -> Figure:
    """Fig. 2: a row a drawn confounder; without it, with it, the difference, and both magnified.

    `image` is grey uint8 (H, W) at native size; the noise is what `image_id` gets in the study. The
    difference is signed, amplified by the factor printed under it (mid-grey is no change). The magnified
    detail is the part, 1/`zoom` of the shorter side, that changes most; its contrast is stretched, alike on
    both sides. The paper's Fig. 2 uses diameter 200 and n0 2e6 to make the effects visible. Raises StudyError
    for a sampled confounder, for none, or for a zoom below 1.
    """
    if not zoom >= 1:
        raise StudyError(f"gallery: zoom={zoom!r} must be 1 or more.")
    pairs = _pairs(image, confounders, seed, image_id)
    side = max(1, round(min(image.shape) / zoom))
    titles = ["without", "with", "difference", f"without, \u00d7 {zoom:g}", f"with, \u00d7 {zoom:g}"]
    figure = Figure(figsize=(7.2, 0.4 + 1.5 * len(pairs)), layout="constrained")
    grid = figure.subplots(len(pairs), len(titles), squeeze=False)
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, fontsize=NORMAL, weight="bold")
    for row, pair in zip(grid, pairs, strict=True):
        _gallery_row(row, pair, side)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    if note:
        figure.suptitle(note, fontsize=NORMAL, weight="bold")
    return figure


def _gallery_row(row: NDArray[np.object_], pair: _Pair, side: int) -> None:
    grey = {"cmap": "gray", "vmin": 0, "vmax": 255}
    row[0].imshow(pair.without, **grey)
    row[1].imshow(pair.carrying, **grey)

    change = np.abs(pair.difference)
    strong = np.percentile(change[change > 0], 95) if change.any() else 0
    factor = max(f for f in (1, 2, 4, 8, 16, 32) if f == 1 or f * strong <= 127)
    row[2].imshow(128 + factor * pair.difference, **grey)
    row[2].set_xlabel(f"\u00d7 {factor} (mid-grey: no change)", fontsize=SMALL)

    top, left = _strongest_part(change, side)
    part = np.s_[top : top + side, left : left + side]
    both = np.concatenate([pair.without[part], pair.carrying[part]])
    stretched = {"cmap": "gray", "vmin": both.min(), "vmax": both.max(), "interpolation": "nearest"}
    row[3].imshow(pair.without[part], **stretched)
    row[4].imshow(pair.carrying[part], **stretched)
    for axes in row[:2]:
        axes.add_patch(Rectangle((left, top), side, side, fill=False, edgecolor=OTHERS[3].color, linewidth=0.9))

    title = TITLES.get(pair.confounder.name, pair.confounder.name)
    carrier, base = pair.confounder.carrier, pair.confounder.base
    drawn = carrier.label if base == ORIGINAL else f"{carrier.label} against {base.label}"
    row[0].set_ylabel(f"{title}\n{textwrap.fill(drawn, 32)}", fontsize=SMALL - 0.5)


def _strongest_part(change: NDArray[np.int64], side: int) -> tuple[int, int]:
    """Top and left of the square of `side` px, wholly in the image, around where most pixels change.

    Strong changes are capped, for else the edge of a collimator would always win over the anatomy; the filter
    runs twice, so that its peak stands in the middle of a small artefact.
    """
    capped = np.minimum(change, 3 * np.median(change[change > 0])) if change.any() else change
    weight = uniform_filter(uniform_filter(capped.astype(float), side, mode="constant"), side, mode="constant")
    centre = np.unravel_index(weight.argmax(), weight.shape)
    top, left = (min(max(c - side // 2, 0), n - side) for c, n in zip(centre, change.shape, strict=True))
    return int(top), int(left)


def sheet_table(*, cohort: pd.DataFrame, per_class: int = 8) -> pd.DataFrame:
    """The images that `sheet` shows: of each class the first of `per_class` patients, and their `row`."""
    table = cohort.assign(row=np.arange(len(cohort)))
    first = table.sort_values(["label", "image_id"]).drop_duplicates(["label", "patient_id"])
    return first.groupby("label").head(per_class).drop(columns="path")


def sheet(*, cohort: pd.DataFrame, bank: NDArray[np.uint8], per_class: int = 8, note: str = "") -> Figure:
    """A contact sheet of the cohort as the network sees it: a row a class, a column a patient.

    `bank` is uint8 (N, size, size) in the cohort's order.
    """
    shown = sheet_table(cohort=cohort, per_class=per_class)
    figure = Figure(figsize=(0.3 + 0.9 * per_class, 2.3), layout="constrained")
    grid = figure.subplots(2, per_class, squeeze=False)
    for label, axes_row in enumerate(grid):
        rows = shown.loc[shown["label"] == label, "row"]
        axes_row[0].set_ylabel(("negative", "positive")[label], fontsize=NORMAL)
        for axes in axes_row:
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        for axes, row in zip(axes_row, rows, strict=False):
            axes.imshow(bank[row], cmap="gray", vmin=0, vmax=255)
    if note:
        figure.suptitle(note, fontsize=NORMAL, weight="bold")
    return figure


def save(figure: Figure, path: str | Path, table: pd.DataFrame) -> list[Path]:
    """Write `path`.png (200 dpi), `path`.pdf and `path`.csv (the tidy table); return the three.

    `path` has no suffix. The same figure gives the same bytes: no date is written. Raises StudyError if the
    place cannot be written.
    """
    path = Path(path)
    png, pdf, csv = (path.with_name(f"{path.name}{suffix}") for suffix in (".png", ".pdf", ".csv"))
    with files.replacing(png) as beside:
        figure.savefig(beside, dpi=200)
    # Type 42 keeps the text as text, which journals ask for.
    with files.replacing(pdf) as beside, matplotlib.rc_context({"pdf.fonttype": 42}):
        figure.savefig(beside, dpi=200, metadata={"CreationDate": None})
    files.write_csv(csv, table)
    return [png, pdf, csv]
