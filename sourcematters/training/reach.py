"""Whether a confounder reaches the network: what it changes in the images that the network gets.

A tag that falls between the pixels of a small input, or noise below a grey level, leaves every image as it was. Its
curve is then as flat as that of a network that no confounder misleads, and means nothing.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sourcematters import checksums
from sourcematters.confounders import Confounder
from sourcematters.errors import StudyError
from sourcematters.processes import over_processes
from sourcematters.seeds import uniform
from sourcematters.training.image_bank import ALONE_SECONDS, Rendering, render
from sourcematters.training.recipe import Preprocessing

IMAGES = 40  # of a cohort are looked at, or all of them
TRIED = 10  # of these, for each size and strength that might show
ROUNDING = 1  # grey level: what changes by no more is not seen
SEEN = 0.9  # share of the images in which it must be seen
Image = tuple[str, str, tuple[Any, ...]]  # path, id, and the stamp of the file
LARGEST, STEPS = 1024, 24  # px; how often a confounder is made stronger: what is tried before giving up


class Reach(NamedTuple):
    """How an image that carries differs from itself without, at the network's input: means over images, grey levels."""

    images: int  # that were looked at
    seen_in: float  # share of them in which some pixel changes by more than `ROUNDING`
    changed_pixels: float  # share of the pixels
    mean_change: float  # absolute, over all pixels
    largest_change: float  # of any pixel of any image

    @property
    def enough(self) -> bool:
        """Whether it is seen in at least `SEEN` of the images."""
        return self.seen_in >= SEEN

    def __str__(self) -> str:
        return (
            f"seen in {self.seen_in:.0%} of {self.images} images, {self.changed_pixels:.1%} of their pixels, by "
            f"{self.mean_change:.2g} grey levels in the mean and {self.largest_change:g} at most"
        )


def reach(without: NDArray[np.uint8], carrying: NDArray[np.uint8]) -> Reach:
    """How the same images, uint8 (N, size, size), differ without and with the confounder."""
    change = np.abs(carrying.astype(np.int16) - without)
    seen = (change > ROUNDING).any(axis=(1, 2))
    return Reach(len(change), float(seen.mean()), float((change > 0).mean()), float(change.mean()), float(change.max()))


def of_cohort(
    cohort: pd.DataFrame,
    confounder: Confounder,
    how: Preprocessing,
    *,
    seed: int,
    workers: int = 1,
    images: int = IMAGES,
) -> Reach:
    """`reach` of a drawn confounder on `images` images of the cohort, as runs render them with `how` and `seed`.

    Which images is drawn from the seed. Raises StudyError for one that cannot be read or drawn on.
    """
    rank = uniform(seed, cohort["image_id"].tolist(), "reach")
    chosen = cohort[["path", "image_id"]].iloc[np.sort(np.argsort(rank, kind="stable")[:images])]
    base = Rendering(alteration=confounder.base, seed=seed, **how.model_dump(include=set(Preprocessing.model_fields)))
    both = (base, base.replaced(alteration=confounder.carrier))
    images_now = tuple((path, image_id, _stamp(path)) for path, image_id in chosen.itertuples(index=False, name=None))
    return _measured(images_now, both, workers)


def _stamp(path: str) -> tuple[Any, ...]:
    """What tells a file that was replaced; () where there is none, of which reading it tells."""
    try:
        return tuple(checksums.stamp(path))
    except OSError:
        return ()


@lru_cache(maxsize=256)  # whoever asks before the first run asks again for each plan
def _measured(images: tuple[Image, ...], both: tuple[Rendering, Rendering], workers: int) -> Reach:
    done = dict(over_processes(partial(_pair, both=both), images, workers, alone=ALONE_SECONDS))
    without, carrying = zip(*(done[image] for image in images), strict=True)
    return reach(np.stack(without), np.stack(carrying))


def _pair(image: Image, both: tuple[Rendering, Rendering]) -> list[NDArray[np.uint8]]:
    path, image_id, _ = image
    return render(path, image_id, both)


def complaint(found: Reach, cohort: pd.DataFrame, confounder: Confounder, how: Preprocessing, *, seed: int) -> str:
    """A sentence on a confounder that is not seen enough, with the size, interpolation or strength that would show."""
    measure = partial(of_cohort, cohort, seed=seed, images=TRIED)
    ways = [way for way in (_finer(measure, confounder, how), _stronger(measure, confounder, how)) if way]
    return (
        f"{confounder.name} cannot be seen by the network: at {how.size} px ({how.interpolation}) it is {found}. It "
        f"must change a pixel by more than {ROUNDING} grey level in {SEEN:.0%} of them, else all strengths are one "
        f"study. {'Seen it would be with ' + ', or '.join(ways) if ways else 'No larger size or strength shows it'}."
    )


Measure = Callable[..., Reach]


def _finer(measure: Measure, confounder: Confounder, how: Preprocessing) -> str:
    for interpolation, size in _sizes(how):
        new = how.replaced(interpolation=interpolation, size=size)
        if measure(confounder=confounder, how=new).enough:
            return f"size: {size}" if interpolation == how.interpolation else f"interpolation: {interpolation}"
    return ""


def _sizes(how: Preprocessing) -> Iterator[tuple[str, int]]:
    yield "antialias", how.size
    size = 2 * how.size
    while size <= LARGEST:
        yield how.interpolation, size
        size *= 2


def _stronger(measure: Measure, confounder: Confounder, how: Preprocessing) -> str:
    stronger: Confounder | None = confounder
    for _ in range(STEPS):
        try:
            stronger = stronger and stronger.stronger()
            if stronger is None:
                return ""
            if measure(confounder=stronger, how=how).enough:
                names = [n for n in stronger.parameters() if getattr(stronger, n) != getattr(confounder, n)]
                return ", ".join(f"{name}: {getattr(stronger, name):.3g}" for name in names)
        except StudyError:  # stronger it cannot be drawn
            return ""
    return ""
