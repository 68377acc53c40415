"""Is the model fed what it was trained on? Its AUC on the user's own data, shown before anything else."""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from sourcematters import metrics
from sourcematters.audit.measures.probe import Ranked, ranked
from sourcematters.audit.model.finished import Finished
from sourcematters.errors import StudyError
from sourcematters.seeds import uniform
from sourcematters.sources.source import IMAGENET_MEAN, IMAGENET_STD

TRIED = 200  # images, on which another input is tried
CLEARLY = 3.0  # standard errors by which another input must be better: some eight are tried
MANY = 0.01  # share of clipped probabilities that is said
SCALINGS = {
    "to 0..1 (mean 0, std 1)": ((0.0,), (1.0,)),
    "to -1..1 (mean and std 0.5)": ((0.5,), (0.5,)),
    "to 0..255 (mean 0, std 0.00392157)": ((0.0,), (1 / 255,)),
    "as ImageNet's (its mean and std)": (IMAGENET_MEAN, IMAGENET_STD),
}


class Sanity(NamedTuple):
    """The model's AUC on the user's own images, and what speaks against the way it is fed, in sentences."""

    found: Ranked
    positives: int
    patients: int
    clipped: int  # images whose probability is 0 or 1
    warnings: tuple[str, ...]

    @property
    def sentences(self) -> tuple[str, ...]:
        """The AUC first."""
        images = f"{self.found.n} images ({self.positives} with label 1) of {self.patients} patients"
        return (f"On these data the model's AUC is {self.found}, 95 % interval, of {images}.", *self.warnings)


def sanity(model: Finished, images: NDArray[np.uint8], labels: NDArray[np.int64], patients: list[str]) -> Sanity:
    """Score the images, uint8 (N, size, size), and try other inputs where the AUC does not differ from chance.

    Raises StudyError if all labels are alike.
    """
    labels = np.asarray(labels)
    logits = model.logits(images)
    found, clipped = ranked(labels, logits, patients), model.reading.clipped(logits)
    said = []
    if len(np.unique(logits)) == 1:
        said.append(
            f"It gives every image the same score ({logits[0]:.3g}): check mean, std and size, and that the file is "
            "the one that was trained."
        )
    elif found.ci_high < 0.5:
        said.append(
            "It ranks the images the wrong way round: labels may be swapped, or `output` names the other class."
        )
    elif not found.ci_low > 0.5:
        said.append("That is not told from chance: what is measured of such a model says nothing of its shortcuts.")
    if said:
        said += _better(model, images, labels, patients)
    if clipped > MANY * len(images):
        said.append(
            f"{clipped} of {len(images)} probabilities are 0 or 1, and tie: give the model without its last sigmoid or "
            "softmax, or in more digits."
        )
    return Sanity(found, int(labels.sum()), len(set(patients)), clipped, tuple(said))


def _better(
    model: Finished, images: NDArray[np.uint8], labels: NDArray[np.int64], patients: list[str]
) -> Iterator[str]:
    """The other input that is clearly best, in a sentence; or that none is."""
    rank = uniform(0, [f"{number}" for number in range(len(images))], "sanity")
    some = np.sort(np.argsort(rank, kind="stable")[:TRIED])
    images, labels, patients = images[some], labels[some], [patients[row] for row in some]
    if len(np.unique(labels)) < 2:
        return
    now, best = model.logits(images), (CLEARLY, "")
    for words, other, fed in _others(model, images):
        try:
            logits = other.logits(fed)
        except StudyError:  # a size that it cannot take
            continue
        found = ranked(labels, logits, patients)
        if (t := _by(labels, logits, now, patients)) > best[0] and found.ci_low > 0.5:
            best = (t, f"With {words} the AUC would be {found} on {len(images)} of the images.")
    yield best[1] or "Other scalings, sizes and inverted greys were tried, and none does clearly better."


def _others(model: Finished, images: NDArray[np.uint8]) -> Iterator[tuple[str, Finished, NDArray[np.uint8]]]:
    """Other ways to feed the model, in words, and the images for them."""
    channels = len(model.mean)
    for words, (mean, std) in SCALINGS.items():
        wide = [each if len(each) == channels else (sum(each) / len(each),) * channels for each in (mean, std)]
        if not np.allclose([model.mean, model.std], wide, atol=1e-3):
            yield f"pixels scaled {words}", replace(model, mean=wide[0], std=wide[1]), images
    yield f"inverted: {str(not model.inverted).lower()}", replace(model, inverted=not model.inverted), images
    for size in (model.size // 2, 2 * model.size):
        squares = [Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR) for image in images]
        yield f"size: {size}", replace(model, size=size), np.stack([np.asarray(square) for square in squares])


def _by(labels: NDArray[np.int64], new: NDArray, old: NDArray, patients: list[str]) -> float:
    """By how many standard errors the AUC of `new` is higher, of the same images."""
    tables = [pd.DataFrame({"label": labels, "score": each, "patient_id": patients}) for each in (new, old)]
    parts = metrics.patient_parts(tables[0]) - metrics.patient_parts(tables[1])
    sides = (parts[[name]].to_numpy().T for name in ("positive", "negative"))
    return metrics.estimate(np.array([metrics.auc(tables[0]) - metrics.auc(tables[1])]), *sides).t
