"""Controls: whether a confounder reaches a network at all, whether the network can see it, and what nothing looks like.

A model that shows no sign of leaning is robust only if it could have leaned. So before anything is scored, every drawn
confounder is measured at the input (`training.reach`), and afterwards a linear probe on the model's own features says
whether it tells images with it from those without. An alteration of one grey level, which should do nothing, is scored
like all the others: what it does is what chance does.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from pydantic import Field

from sourcematters import confounders
from sourcematters.checked import unknown
from sourcematters.cohorts.pixels import read
from sourcematters.confounders import Artefact, Confounder, key_for
from sourcematters.confounders.confounder import Drawn, Pixels
from sourcematters.errors import StudyError
from sourcematters.training import reach
from sourcematters.training.image_bank import altered_grey
from sourcematters.training.recipe import Preprocessing


class OneGreyLevel(Artefact):
    """The negative control: every pixel that is not white becomes one grey level brighter."""

    name: str = "one_grey_level"
    leaf: str = "contrast"
    title = "one grey level"
    practice = "No film is exposed twice alike; nobody sees a grey level (negative control)."

    by: int = Field(1, ge=1, description="grey levels")

    def draw(self, image: Pixels, key: int) -> Drawn:
        """Add, and stop at white; the mask is all that changes."""
        brighter = np.minimum(image.astype(np.int64) + self.by, 255).astype(np.uint8)
        return brighter, brighter != image


class Visible(NamedTuple):
    """A drawn confounder at the network's input; `complaint` says why it is not seen, and what would be."""

    confounder: Confounder
    reach: reach.Reach
    complaint: str

    @property
    def why(self) -> str:
        """The complaint as a part of a sentence."""
        return self.complaint.partition(": ")[2].rstrip(".")


def of_each_leaf(images: pd.DataFrame, *, seed: int) -> list[str]:
    """The first confounder on each leaf of MICCAT that can be drawn, with its defaults, on the first of the images."""
    found = []
    for names in confounders.implemented().values():
        drawn = [name for name in names if not confounders.known()[name].sampled]
        found += [name for name in drawn if can_be_drawn(confounders.make(name), images[:1], seed=seed)][:1]
    return found


def can_be_drawn(confounder: Confounder, images: pd.DataFrame, *, seed: int) -> bool:
    """Whether it is of the kind of these images (columns path, image_id), and fits into each of them."""
    try:
        for path, image_id in images[["path", "image_id"]].itertuples(index=False):
            image = read(path)
            for alteration in (confounder.base, confounder.carrier):
                altered_grey(image, alteration, key_for(seed, image_id, alteration))
    except StudyError:
        return False
    return True


def visible(
    table: pd.DataFrame, chosen: Sequence[Confounder], how: Preprocessing, *, seed: int, workers: int
) -> list[Visible]:
    """How far each of the drawn confounders reaches a network that gets images as `how` says."""
    found = []
    for confounder in chosen:
        measured = reach.of_cohort(table, confounder, how, seed=seed, workers=workers)
        words = "" if measured.enough else reach.complaint(measured, table, confounder, how, seed=seed)
        found.append(Visible(confounder, measured, words))
    return found


def named(names: Sequence[str]) -> None:
    """Raise StudyError, with the nearest, for a name that is no confounder's."""
    if wrong := [name for name in names if name not in confounders.known()]:
        raise StudyError(f"audited: {unknown('confounder', wrong[0], confounders.known())}")
