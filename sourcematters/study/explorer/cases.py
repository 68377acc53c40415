"""What the explorer is about: images to choose from, confounders, and networks that score them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from sourcematters.cohorts.pixels import read
from sourcematters.confounders import Confounder
from sourcematters.errors import StudyError
from sourcematters.seeds import uniform
from sourcematters.study.explorer.frames import frame, keys_of
from sourcematters.study.explorer.panels import Arrays
from sourcematters.training.image_bank import altered_grey
from sourcematters.training.recipe import Preprocessing

EACH = 8  # images of a class to choose from
KNOWN = 64  # scores that are remembered


class Case(NamedTuple):
    """An image to choose."""

    image_id: str
    path: str
    label: int

    def __str__(self) -> str:
        return f"{self.image_id} ({'positive' if self.label else 'negative'})"


class Network(NamedTuple):
    """A network at hand: log-odds (N,) of grey images (N, size, size), and those from which on it says positive."""

    logits: Callable[[NDArray[np.uint8]], NDArray[np.float64]]
    threshold: float


@dataclass(frozen=True)
class Subject:
    """Images, drawn confounders by name as the study has them, how images come to networks, the networks by name.

    `caution` is what must be said of the images.
    """

    cases: Sequence[Case]
    confounders: Mapping[str, Confounder]
    how: Preprocessing
    seed: int
    networks: Mapping[str, Network] = field(default_factory=dict)
    caution: str = ""
    _known: dict[tuple[str, bytes], float] = field(default_factory=dict, init=False, repr=False, compare=False)

    def frame(self, case: Case, confounder: Confounder) -> Arrays:
        """`frames.frame` of an image under a confounder of any parameters. Raises StudyError as that does."""
        keys = keys_of(self.confounders[confounder.name], case.image_id, seed=self.seed)
        return frame(_pixels(case.path), confounder, self.how, keys)

    def scores(self, arrays: Arrays) -> list[str]:
        """What each network says of a frame's image without the confounder and with it, in words."""
        both = (arrays["input_without"], arrays["input"])
        return [
            _in_words(name, network, np.array([self._logit(name, image) for image in both]))
            for name, network in self.networks.items()
        ]

    def _logit(self, name: str, image: NDArray[np.uint8]) -> float:
        """A network's log-odds of an image. What a slider does not change is not asked again: half of a move."""
        key = name, image.tobytes()
        if key not in self._known:
            if len(self._known) >= KNOWN:
                self._known.clear()
            self._known[key] = float(self.networks[name].logits(image[None])[0])
        return self._known[key]


def cases(table: pd.DataFrame, *, seed: int, each: int = EACH) -> list[Case]:
    """At most `each` images of each class of a cohort's table, positives first; the first positive is the gallery's."""
    rank = pd.Series(uniform(seed, table["image_id"].tolist(), "explorer"), index=table.index)
    rank.loc[table.index[table["label"] == 1][:1]] = -1
    chosen = [rank[table["label"] == label].nsmallest(each).index for label in (1, 0)]
    rows = table.loc[[row for rows in chosen for row in rows], ["image_id", "path", "label"]]
    return [Case(*row) for row in rows.itertuples(index=False)]


def drawable(confounders: Iterable[Confounder], case: Case, how: Preprocessing, *, seed: int) -> dict[str, Confounder]:
    """By name those that are drawn, and can be drawn on this image."""
    found = {}
    for confounder in confounders:
        if not confounder.sampled:
            keys = keys_of(confounder, case.image_id, seed=seed)
            try:
                for alteration, key in zip((confounder.base, confounder.carrier), keys, strict=True):
                    altered_grey(_pixels(case.path), alteration, key, how.window)
            except StudyError:
                continue
            found[confounder.name] = confounder
    return found


@lru_cache(maxsize=4)
def _pixels(path: str) -> NDArray:
    return read(path)


def _in_words(name: str, network: Network, logits: NDArray[np.float64]) -> str:
    (without, carrying), threshold = expit(logits), expit(network.threshold)
    before, after = (logit >= network.threshold for logit in logits)
    turns = "" if before == after else f": it turns to {'positive' if after else 'negative'}"
    return f"{name} scores {without:.2f} without it, {carrying:.2f} with it (positive from {threshold:.2f} on){turns}"
