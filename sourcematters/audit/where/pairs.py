"""Images with and without a confounder, as a network gets them, its mask, and the share of an attribution on it."""

import hashlib
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sourcematters.audit.measures.effects import drawn_patients, mean
from sourcematters.cohorts.pixels import read
from sourcematters.confounders import Confounder, key_for
from sourcematters.seeds import uniform
from sourcematters.training.image_bank import Rendering, altered_grey, at_input
from sourcematters.training.recipe import Preprocessing

WHOLE = 0.5  # of the image; a mask that covers more tells nothing by the share that falls on it
TIMES = 2000  # resamples of the patients


class Pairs(NamedTuple):
    """The same images without and with a confounder: tables of N rows, and arrays (N, size, size)."""

    images: pd.DataFrame  # image_id, patient_id, label
    without: NDArray[np.uint8]
    carrying: NDArray[np.uint8]
    masks: NDArray[np.bool_]

    @property
    def areas(self) -> NDArray[np.float64]:
        """The share of each image that its mask covers, (N,)."""
        return self.masks.mean(axis=(1, 2))

    @property
    def local(self) -> bool:
        """Whether the masks leave enough of the image for a share to say something (`WHOLE`)."""
        return bool(self.areas.mean() <= WHOLE)

    @property
    def digest(self) -> str:
        """A SHA-256 of the images and masks."""
        parts = [np.ascontiguousarray(each).tobytes() for each in (self.without, self.carrying, self.masks)]
        return hashlib.sha256(b"".join(parts)).hexdigest()

    def first(self, number: int) -> "Pairs":
        """The first `number` of each label, negatives first."""
        label = self.images["label"].to_numpy()
        rows = np.concatenate([np.flatnonzero(label == y)[:number] for y in (0, 1)])
        return Pairs(self.images.iloc[rows].reset_index(drop=True), *(each[rows] for each in self[1:]))


def some(table: pd.DataFrame, most: int, *, seed: int) -> pd.DataFrame:
    """At most `most` images of a cohort's table, half of each label; which, is told by the seed and their ids alone."""
    rank = pd.Series(uniform(seed, table["image_id"].tolist(), "where"), index=table.index)
    of_label = rank.groupby(table["label"]).nsmallest(most // 2)
    return table.loc[of_label.index.get_level_values(-1).sort_values()].reset_index(drop=True)


def drawn(table: pd.DataFrame, confounder: Confounder, how: Preprocessing, *, seed: int) -> Pairs:
    """The images of a table as the others have them and as carriers do, cropped and resized as networks get them.

    A pixel is in the mask if any of it is drawn on. Raises StudyError for a file that cannot be read or drawn on.
    """
    fed: dict[str, Any] = how.model_dump(include=set(Preprocessing.model_fields))
    rendering, made = Rendering(seed=seed, **fed), []
    for path, image_id in zip(table["path"], table["image_id"], strict=True):
        image = read(path)
        of_one = []
        for alteration in (confounder.base, confounder.carrier):
            key = key_for(seed, image_id, alteration)
            pixels, mask = altered_grey(image, alteration, key, rendering.window)
            of_one.append(at_input(pixels, rendering))
        covered = at_input(np.where(mask, 255, 0).astype(np.uint8), rendering) > 0
        made.append((*of_one, covered))
    without, carrying, masks = (np.stack(each) for each in zip(*made, strict=True))
    return Pairs(table[["image_id", "patient_id", "label"]].reset_index(drop=True), without, carrying, masks)


def share(maps: NDArray[np.floating], masks: NDArray[np.bool_]) -> NDArray[np.float64]:
    """What of the absolute attribution, maps (N, S, S), falls on the masks: (N,), 0..1; NaN where all of it is 0.

    Of either sign: a network that reads an artefact as a sign of health looks at it, too.
    """
    size = np.abs(maps.astype(float))
    total = size.sum(axis=(1, 2))
    on_mask = (size * masks).sum(axis=(1, 2))
    return np.divide(on_mask, total, out=np.full(len(total), np.nan), where=total > 0)


def over_patients(table: pd.DataFrame, value: str, *, seed: int) -> dict[str, float]:
    """The mean of a column over images with its 95 % interval, by a bootstrap over patients: mean, low, high, images.

    `table` has the columns image_id, patient_id and `value`, in which an image may stand once for each fold: it counts
    once, with its mean. The networks are given, so what varies is who was looked at. NaN are left out.
    """
    of_image = table.dropna(subset=value).groupby(["patient_id", "image_id"], as_index=False)[value].mean()
    if of_image.empty:
        return {"mean": np.nan, "low": np.nan, "high": np.nan, "images": 0}
    weights = drawn_patients(of_image["patient_id"].astype(str), seed=seed, times=TIMES)
    values = of_image[value].to_numpy(float)
    low, high = np.nanpercentile(mean(values, weights), [2.5, 97.5])
    return {"mean": float(values.mean()), "low": float(low), "high": float(high), "images": len(values)}
