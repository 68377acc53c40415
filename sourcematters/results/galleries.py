"""Pictures of pictures: what an artefact does to an image (Fig. 2), and what a cohort looks like."""

import math
import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from sourcematters.confounders import Confounder, Pixels, key_for
from sourcematters.errors import StudyError
from sourcematters.results.style import (
    FINE,
    FULL,
    OTHERS,
    SOFT,
    TEXT,
    letters,
    literal,
    number,
    page,
    picture,
    title_of,
)
from sourcematters.training.image_bank import altered_grey, at_input
from sourcematters.training.reach import Reach
from sourcematters.training.recipe import Preprocessing

ZOOM = 8
DRAWN = 0.2
PER_CLASS = 8
UNITS = ("px", "mm", "HU", "photons", "bins", "French")  # with which the description of a parameter may begin
ROUND = (1000, 500, 200, 100, 50, 20, 10, 5, 2, 1)  # px, lengths of a size bar


class Effect(NamedTuple):
    """An image as the others have it and as a carrier has it, grey uint8 (H, W); the artefact's mask; what differs.

    `hu_per_level` is how many HU of a CT slice are one grey level of its window; 0 of other images.
    """

    confounder: Confounder
    without: Pixels
    carrying: Pixels
    mask: NDArray[np.bool_]
    difference: NDArray[np.int64]
    hu_per_level: float = 0


def effects(
    *, image: NDArray, confounders: Iterable[Confounder], seed: int, image_id: str, window: tuple[float, float]
) -> list[Effect]:
    """What each drawn confounder does to `image`, at native size, with the noise that `image_id` gets in the study.

    `image` is grey uint8 (H, W), or a CT slice in HU (int16), shown in `window` (centre and width in HU). Raises
    StudyError for a sampled confounder.
    """
    made, per_level = [], window[1] / 255 if image.dtype == np.int16 else 0
    for confounder in confounders:
        if confounder.sampled:
            raise StudyError(f"gallery: {confounder.name} is sampled, it changes no pixel. Leave it out.")
        without, _ = altered_grey(image, confounder.base, key_for(seed, image_id, confounder.base), window)
        carrying, mask = altered_grey(image, confounder.carrier, key_for(seed, image_id, confounder.carrier), window)
        made.append(Effect(confounder, without, carrying, mask, carrying.astype(np.int64) - without, per_level))
    return made


def gallery_table(*, effects: Iterable[Effect], reaches: Sequence[Reach] = ()) -> pd.DataFrame:
    """What the gallery shows: one row a confounder, changes absolute in grey levels, their mean over all pixels.

    With `reaches`, one a confounder, also how far it reaches the network: columns input_* (`reach.Reach`).
    """
    rows = []
    for confounder, _, _, mask, difference, _ in effects:
        change = np.abs(difference)
        labels = (confounder.name, confounder.base.label, confounder.carrier.label)
        rows.append((*labels, mask.sum(), np.count_nonzero(change), change.mean(), change.max()))
    changes = ["masked_pixels", "changed_pixels", "mean_change", "largest_change"]
    table = pd.DataFrame(rows, columns=["confounder", "others", "carriers", *changes])
    return table.join(pd.DataFrame(list(reaches), columns=Reach._fields).add_prefix("input_")) if reaches else table


def described(confounder: Confounder) -> str:
    """Its parameters in words and units: `letter R, height 128 px, x 200 px`; what is off or empty is left out."""
    said = []
    for name, field in type(confounder).model_fields.items():
        value, of = getattr(confounder, name), field.description or ""
        unit = next((unit for unit in UNITS if re.match(rf"{unit}\b", of)), "")
        word = name.removesuffix(f"_{unit}").replace("_", " ")
        if not of or value is False or value == "":
            continue
        word = "" if word == unit.lower() else f"{word}\u00a0"
        if value is True:
            said.append(word.strip())
        elif isinstance(value, int | float):
            said.append(f"{word}{number(value)}\u00a0{unit}".rstrip())
        else:
            said.append(f"{word}{value}")
    return ", ".join(said)


def gallery(
    *, effects: Sequence[Effect], reaches: Sequence[Reach] = (), how: Preprocessing | None = None, note: str = ""
) -> Figure:
    """Fig. 2: a row a drawn confounder; without it, with it, the difference, and both magnified.

    With `how`, a last column is what the network sees of it; with `reaches`, one a row, it says what of it is left.

    The difference is signed, on one scale for all rows of a confounder, whose bar is in grey levels, or in HU for a CT
    slice as far as its window shows them. The magnified detail is what was drawn, if that is small, else the part in
    the middle of the image that changes most; its contrast is stretched, alike on both sides. `note`, what must be
    said of the image, stands on each row.
    """
    titles = [
        "without",
        "with",
        "difference",
        "without, magnified",
        "with, magnified",
        *(["network sees"] if how else []),
    ]
    lines = max((len(_below(effect)) for effect in effects), default=0)
    height = FULL / len(titles) + 12 + 3.1 * max(lines, 3)
    figure, scales = Figure(figsize=page(FULL, height * len(effects)), layout="constrained"), _scales(effects)
    rows = figure.subfigures(len(effects), 1, squeeze=False)[:, 0]
    found = [*reaches, *[None] * (len(effects) - len(reaches))]
    for row, effect, letter, reach in zip(rows, effects, letters(len(effects)), found, strict=True):
        grid = row.subplots(1, len(titles))
        for axes, text in zip(grid, titles, strict=True):
            axes.set_title(text, fontsize=TEXT)
        name = title_of(effect.confounder.name)
        row.suptitle(f"{letter}   {literal(name)}".strip(), fontsize=TEXT, weight="bold", x=0.01, ha="left")
        row.text(0.99, 0.985, literal(note), ha="right", va="top", fontsize=FINE, style="italic", color=SOFT)
        _row(grid, effect, scales[effect.confounder.name])
        if how:
            picture(grid[-1], at_input(effect.carrying, how), interpolation="nearest")
            text = f"{how.size} \u00d7 {how.size} px"
            if reach:
                share = 100 * reach.changed_pixels
                left = f"{share:.{0 if share >= 10 else 1}f} % of pixels,\nup to {reach.largest_change:g} grey levels"
                text += "\n" + (left if reach.enough else "the confounder is\nNOT SEEN")
            grid[-1].set_xlabel(text, fontsize=TEXT)
    return figure


def _scales(effects: Iterable[Effect]) -> dict[str, int]:
    """The largest grey level, either way, that the difference images of each confounder show: most of the strongest."""
    found: dict[str, int] = {}
    for effect in effects:
        change = np.abs(effect.difference)
        strong = math.ceil(np.percentile(change[change > 0], 95)) if change.any() else 1
        found[effect.confounder.name] = max(strong, found.get(effect.confounder.name, 1))
    return found


def _row(grid: Sequence[Axes], effect: Effect, scale: int) -> None:
    without, carrying, difference, *details = grid
    shown = picture(difference, effect.difference, low=-scale, high=scale)
    bar = difference.inset_axes((0.0, -0.12, 1.0, 0.06))
    difference.figure.colorbar(shown, cax=bar, orientation="horizontal")
    per_level, unit = (effect.hu_per_level, "HU") if effect.hu_per_level else (1, "grey levels")
    ends = [f"\u2212{number(round(scale * per_level))}", "0", f"+{number(round(scale * per_level))}"]
    bar.set_xticks([-scale, 0, scale], ends, fontsize=TEXT)
    bar.tick_params(length=2)
    bar.get_xticklabels()[0].set_horizontalalignment("left")
    bar.get_xticklabels()[2].set_horizontalalignment("right")
    bar.set_xlabel(unit, fontsize=TEXT, labelpad=1)

    top, left, side = zoomed(np.abs(effect.difference))
    both = np.stack([effect.without, effect.carrying])
    part = both[:, top : top + side, left : left + side]
    for whole, detail, image, small in zip((without, carrying), details, both, part, strict=False):
        picture(whole, image)
        whole.add_patch(Rectangle((left, top), side, side, fill=False, edgecolor=OTHERS[3].color, linewidth=0.9))
        picture(detail, small, low=part.min(), high=part.max(), interpolation="nearest")
        _size_bar(whole, image.shape[1])
        _size_bar(detail, side)
    details[0].set_xlabel(f"\u00d7 {min(effect.without.shape) / side:.2g}", fontsize=TEXT)
    without.set_xlabel(literal("\n".join(_below(effect))), fontsize=TEXT)


def _below(effect: Effect) -> list[str]:
    return textwrap.wrap(described(effect.confounder), 20, break_long_words=False)


def _size_bar(axes: Axes, columns: int) -> None:
    """A white bar on black of a round length, about a quarter of the image, and that length in native pixels."""
    length = next(size for size in ROUND if size <= max(columns / 3, 1))
    rows = abs(np.diff(axes.get_ylim()).item())
    at = 0.06 * columns, 0.93 * rows
    for color, width in (("black", 3), ("white", 1.6)):
        axes.plot([at[0], at[0] + length], [at[1]] * 2, color=color, linewidth=width, solid_capstyle="butt")
    axes.text(
        at[0], at[1] - 0.04 * rows, f"{length} px", color="white", fontsize=FINE, va="bottom",
        path_effects=[withStroke(linewidth=1.5, foreground="black")],
    )  # fmt: skip


def zoomed(change: NDArray[np.int64]) -> tuple[int, int, int]:
    """Top, left and side of the square to be magnified, of what changed by `change` (H, W), absolute.

    What was drawn, with a margin, if that is small: if it changes less than `DRAWN` of the pixels; of what is wide all
    the same, a quarter where most changes. Else 1/`ZOOM` of the shorter side, where most changes in the middle half of
    the image, which is body. Strong changes are capped, for else an edge would always win over the anatomy; the filter
    runs twice, so that its peak stands in the middle.
    """
    shape = np.array(change.shape)
    shorter, drawn = int(shape.min()), np.argwhere(change > 0)
    side = max(1, round(shorter / ZOOM))
    if not len(drawn):
        return *((shape - side) // 2).tolist(), side
    low, high = drawn.min(axis=0), drawn.max(axis=0) + 1
    span, small = int((high - low).max()), len(drawn) < DRAWN * change.size
    if small and span < shorter / 2:
        side, centre = max(side, round(1.3 * span)), (low + high) / 2
    else:
        side = shorter // 4 if small else side
        capped = np.minimum(change, 3 * np.median(change[change > 0])).astype(float)
        weight = uniform_filter(uniform_filter(capped, side, mode="constant"), side, mode="constant")
        if not small:
            outside = np.ones(change.shape, bool)
            outside[tuple(slice(n // 4, max(n - n // 4, n // 4 + 1)) for n in shape)] = False
            weight[outside] = 0
        centre = np.array(np.unravel_index(weight.argmax(), weight.shape))
    top, left = (min(max(int(c - side / 2), 0), n - side) for c, n in zip(centre, shape, strict=True))
    return top, left, side


def sheet_table(*, cohort: pd.DataFrame) -> pd.DataFrame:
    """The images that `sheet` shows: of each class the first of `PER_CLASS` patients, and their `row`."""
    table = cohort.assign(row=np.arange(len(cohort)))
    first = table.sort_values(["label", "image_id"]).drop_duplicates(["label", "patient_id"])
    return first.groupby("label").head(PER_CLASS).drop(columns="path")


def sheet(*, cohort: pd.DataFrame, bank: NDArray[np.uint8], note: str = "") -> Figure:
    """The cohort as the network sees it, `bank` (N, size, size) in its order: a row a class, a column a patient."""
    shown = sheet_table(cohort=cohort)
    figure = Figure(figsize=page(FULL, 52), layout="constrained")
    for label, (name, grid) in enumerate(zip(("negative", "positive"), figure.subplots(2, PER_CLASS), strict=True)):
        grid[0].set_ylabel(name, fontsize=TEXT)
        for axes, row in zip(grid, shown.loc[shown["label"] == label, "row"], strict=False):
            picture(axes, bank[row])
    for axes in figure.axes:
        axes.set(xticks=[], yticks=[], frame_on=False)
    text = "; ".join(filter(None, (note, f"{bank.shape[1]} \u00d7 {bank.shape[2]} px")))
    figure.suptitle(literal(text), fontsize=FINE, style="italic", color=SOFT)
    return figure
