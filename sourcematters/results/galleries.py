"""Pictures of pictures: what an artefact does to an image (Fig. 2), and what a cohort looks like."""

import textwrap
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from sourcematters.confounders import ORIGINAL, Confounder, Pixels, key_for
from sourcematters.errors import StudyError
from sourcematters.results.style import NORMAL, OTHERS, SMALL, literal, picture, title_of
from sourcematters.training.image_bank import altered_grey, at_input
from sourcematters.training.reach import Reach
from sourcematters.training.recipe import Preprocessing

ZOOM = 8
PER_CLASS = 8


class Effect(NamedTuple):
    """An image as the others have it and as a carrier has it, grey uint8 (H, W); the artefact's mask; what differs."""

    confounder: Confounder
    without: Pixels
    carrying: Pixels
    mask: NDArray[np.bool_]
    difference: NDArray[np.int64]


def effects(
    *, image: NDArray, confounders: Iterable[Confounder], seed: int, image_id: str, window: tuple[float, float]
) -> list[Effect]:
    """What each drawn confounder does to `image`, at native size, with the noise that `image_id` gets in the study.

    `image` is grey uint8 (H, W), or a CT slice in HU (int16), shown in `window` (centre and width in HU). Raises
    StudyError for a sampled confounder.
    """
    made = []
    for confounder in confounders:
        if confounder.sampled:
            raise StudyError(f"gallery: {confounder.name} is sampled, it changes no pixel. Leave it out.")
        without, _ = altered_grey(image, confounder.base, key_for(seed, image_id, confounder.base), window)
        carrying, mask = altered_grey(image, confounder.carrier, key_for(seed, image_id, confounder.carrier), window)
        made.append(Effect(confounder, without, carrying, mask, carrying.astype(np.int64) - without))
    return made


def gallery_table(*, effects: Iterable[Effect], reaches: Sequence[Reach] = ()) -> pd.DataFrame:
    """What the gallery shows: one row a confounder, changes absolute in grey levels, their mean over all pixels.

    With `reaches`, one a confounder, also how far it reaches the network: columns input_* (`reach.Reach`).
    """
    rows = []
    for confounder, _, _, mask, difference in effects:
        change = np.abs(difference)
        labels = (confounder.name, confounder.base.label, confounder.carrier.label)
        rows.append((*labels, mask.sum(), np.count_nonzero(change), change.mean(), change.max()))
    changes = ["masked_pixels", "changed_pixels", "mean_change", "largest_change"]
    table = pd.DataFrame(rows, columns=["confounder", "others", "carriers", *changes])
    return table.join(pd.DataFrame(list(reaches), columns=Reach._fields).add_prefix("input_")) if reaches else table


def gallery(
    *, effects: Sequence[Effect], reaches: Sequence[Reach] = (), how: Preprocessing | None = None, note: str = ""
) -> Figure:
    """Fig. 2: a row a drawn confounder; without it, with it, the difference, and both magnified.

    With `how`, a last column is what the network sees of it; with `reaches`, one a row, it says what of it is left.

    The difference is signed, amplified by the factor printed under it. The magnified detail is the part, 1/`ZOOM` of
    the shorter side, that changes most; its contrast is stretched, alike on both sides.
    """
    titles = ["without", "with", "difference", f"without, \u00d7 {ZOOM}", f"with, \u00d7 {ZOOM}"]
    titles += [f"network sees\n({how.size} px)"] if how else []
    figure = Figure(figsize=(7.2, 0.4 + 1.5 * len(effects)), layout="constrained")
    grid = figure.subplots(len(effects), len(titles), squeeze=False)
    for axes, text in zip(grid[0], titles, strict=True):
        axes.set_title(text, fontsize=NORMAL, weight="bold")
    for (without, carrying, difference, *others), effect in zip(grid, effects, strict=True):
        change = np.abs(effect.difference)
        strong = np.percentile(change[change > 0], 95) if change.any() else 0
        factor = max(f for f in (1, 2, 4, 8, 16, 32) if f == 1 or f * strong <= 127)
        picture(difference, 128 + factor * effect.difference)
        difference.set_xlabel(f"\u00d7 {factor} (mid-grey: no change)", fontsize=SMALL)

        side = max(1, round(min(change.shape) / ZOOM))
        top, left = _strongest_part(change, side)
        both = np.stack([effect.without, effect.carrying])
        part = both[:, top : top + side, left : left + side]
        for whole, detail, image, zoomed in zip((without, carrying), others, both, part, strict=False):
            picture(whole, image)
            whole.add_patch(Rectangle((left, top), side, side, fill=False, edgecolor=OTHERS[3].color, linewidth=0.9))
            picture(detail, zoomed, low=part.min(), high=part.max(), interpolation="nearest")

        carrier, base = effect.confounder.carrier, effect.confounder.base
        drawn = carrier.label if base == ORIGINAL else f"{carrier.label} against {base.label}"
        without.set_ylabel(
            f"{title_of(effect.confounder.name)}\n{literal(textwrap.fill(drawn, 27))}", fontsize=SMALL - 1
        )
        if how:
            picture(others[-1], at_input(effect.carrying, how), interpolation="nearest")
    for (*_, seen), found in zip(grid, reaches, strict=False):
        share = 100 * found.changed_pixels
        text = f"{share:.{0 if share >= 10 else 1}f} % of pixels,\nup to {found.largest_change:g} grey levels"
        seen.set_xlabel(text if found.enough else "the confounder is\nNOT SEEN", fontsize=SMALL - 0.5)
    figure.suptitle(literal(note), fontsize=NORMAL, weight="bold")
    return figure


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


def sheet_table(*, cohort: pd.DataFrame) -> pd.DataFrame:
    """The images that `sheet` shows: of each class the first of `PER_CLASS` patients, and their `row`."""
    table = cohort.assign(row=np.arange(len(cohort)))
    first = table.sort_values(["label", "image_id"]).drop_duplicates(["label", "patient_id"])
    return first.groupby("label").head(PER_CLASS).drop(columns="path")


def sheet(*, cohort: pd.DataFrame, bank: NDArray[np.uint8], note: str = "") -> Figure:
    """The cohort as the network sees it, `bank` (N, size, size) in its order: a row a class, a column a patient."""
    shown = sheet_table(cohort=cohort)
    figure = Figure(figsize=(0.3 + 0.9 * PER_CLASS, 2.3), layout="constrained")
    for label, (name, grid) in enumerate(zip(("negative", "positive"), figure.subplots(2, PER_CLASS), strict=True)):
        grid[0].set_ylabel(name, fontsize=NORMAL)
        for axes, row in zip(grid, shown.loc[shown["label"] == label, "row"], strict=False):
            picture(axes, bank[row])
    for axes in figure.axes:
        axes.set(xticks=[], yticks=[], frame_on=False)
    figure.suptitle(literal(note), fontsize=NORMAL, weight="bold")
    return figure
