"""Pictures of pictures: what an artefact does to an image (Fig. 2), and what a cohort looks like."""

import textwrap
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from sourcematters.confounders import ORIGINAL, Confounder, Hounsfield, Pixels, key_for
from sourcematters.errors import StudyError
from sourcematters.training.image_bank import LUNG, altered_grey
from sourcematters.results.style import NORMAL, OTHERS, SMALL, title_of


class _Pair(NamedTuple):
    confounder: Confounder
    without: Pixels
    carrying: Pixels
    mask: NDArray[np.bool_]

    @property
    def difference(self) -> NDArray[np.int64]:
        return self.carrying.astype(int) - self.without


def _pairs(
    image: Pixels | Hounsfield,
    confounders: Iterable[Confounder],
    seed: int,
    image_id: str,
    window: tuple[float, float],
) -> list[_Pair]:
    """The image as the others have it and as a carrier has it, for each drawn confounder."""
    pairs = []
    for confounder in confounders:
        if confounder.sampled:
            raise StudyError(f"gallery: {confounder.name} is sampled, it changes no pixel. Leave it out.")
        without, _ = altered_grey(image, confounder.base, key_for(seed, image_id, confounder.base), window)
        carrying, mask = altered_grey(image, confounder.carrier, key_for(seed, image_id, confounder.carrier), window)
        pairs.append(_Pair(confounder, without, carrying, mask))
    if not pairs:
        raise StudyError("gallery: no confounder to draw.")
    return pairs


def gallery_table(
    *,
    image: Pixels | Hounsfield,
    confounders: Iterable[Confounder],
    seed: int,
    image_id: str,
    window: tuple[float, float] = LUNG,
) -> pd.DataFrame:
    """What the gallery shows, in grey levels: one row a confounder.

    Columns `confounder, others, carriers, masked_pixels, changed_pixels, mean_change, largest_change`; the
    changes are absolute, the mean is over all pixels.
    """
    rows = []
    for pair in _pairs(image, confounders, seed, image_id, window):
        change = np.abs(pair.difference)
        drawn = (pair.confounder.name, pair.confounder.base.label, pair.confounder.carrier.label)
        rows.append((*drawn, pair.mask.sum(), np.count_nonzero(change), change.mean(), change.max()))
    changes = ["masked_pixels", "changed_pixels", "mean_change", "largest_change"]
    return pd.DataFrame(rows, columns=["confounder", "others", "carriers", *changes])


def gallery(
    *,
    image: Pixels | Hounsfield,
    confounders: Iterable[Confounder],
    seed: int,
    image_id: str,
    window: tuple[float, float] = LUNG,
    zoom: float = 8,
    note: str = "",
) -> Figure:
    """Fig. 2: a row a drawn confounder; without it, with it, the difference, and both magnified.

    `image` is grey uint8 (H, W), or a CT slice in HU (int16), shown in `window`, at native size; the noise is what
    `image_id` gets in the study. The difference is signed, amplified by the factor printed under it (mid-grey is no
    change). The magnified
    detail is the part, 1/`zoom` of the shorter side, that changes most; its contrast is stretched, alike on
    both sides. The paper's Fig. 2 uses diameter 200 and n0 2e6 to make the effects visible. Raises StudyError
    for a sampled confounder, for none, or for a zoom below 1.
    """
    if not zoom >= 1:
        raise StudyError(f"gallery: zoom={zoom!r} must be 1 or more.")
    pairs = _pairs(image, confounders, seed, image_id, window)
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

    title = title_of(pair.confounder.name)
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
