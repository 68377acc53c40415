"""Alterations: pure functions of (image, key) that change pixels.

The same image with the same key gives the same pixels in any process and any order. An alteration acts at native size,
before the image is resized or augmented, in one of two pixel spaces: grey, uint8 (H, W), or Hounsfield units, int16
(H, W), in which a CT slice is before it is windowed.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sourcematters import seeds
from sourcematters.errors import StudyError

Pixels = NDArray[np.uint8]
Hounsfield = NDArray[np.int16]
Mask = NDArray[np.bool_]
Draw = Callable[..., tuple[NDArray, Mask]]
"""From an image (H, W) and a key to a new image of its shape and type, and the mask, bool (H, W)."""

GREY, HOUNSFIELD = np.dtype(np.uint8), np.dtype(np.int16)
_IMAGES = {
    GREY: "a grey uint8 image of shape (H, W)",
    HOUNSFIELD: "a CT slice in Hounsfield units, int16 of shape (H, W)",
}
_MEND = {
    GREY: "Convert it first, e.g. PIL.Image.open(path).convert('L'), or cohorts.pixels.window for a CT slice.",
    HOUNSFIELD: "Read DICOM files by cohorts.pixels.read; for noise on a grey image choose domain grey.",
}


@dataclass(frozen=True)
class Alteration:
    """What is done to an image: hashable, picklable, the same text everywhere; equal if name and parameters are."""

    name: str
    parameters: tuple[tuple[str, Any], ...]
    draw: Draw = field(repr=False, compare=False)
    spaces: tuple[np.dtype, ...] = field(default=(GREY,), repr=False, compare=False)

    @classmethod
    def of(cls, function: Draw, *spaces: np.dtype, **parameters: Any) -> "Alteration":
        """`function(image, key, **parameters)` as an alteration of its name."""
        return cls(function.__name__, plain(parameters), partial(function, **parameters), spaces)

    @property
    def label(self) -> str:
        """E.g. `low_pass(diameter=500, truncate=False)`; equal labels mean equal alterations."""
        inside = ", ".join(f"{name}={_text(value)}" for name, value in self.parameters)
        return f"{self.name}({inside})" if inside else self.name

    @property
    def space(self) -> np.dtype:
        """The pixel space it acts in: `GREY`, after a CT slice is windowed, or `HOUNSFIELD`, before."""
        return self.spaces[0]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: `{"name": ..., "parameters": {...}}`."""
        return {"name": self.name, "parameters": dict(self.parameters)}


def plain(parameters: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Sorted by name, whole numbers as integers: one meaning, one text.

    >>> plain({"n0": 2e7, "letter": "R"})
    (('letter', 'R'), ('n0', 20000000))
    """
    whole = {name: int(value) for name, value in parameters.items() if isinstance(value, float) and value.is_integer()}
    return tuple(sorted({**parameters, **whole}.items()))


def _text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def original(image: NDArray, key: int) -> tuple[NDArray, Mask]:
    """The image as it is; the mask is empty."""
    return image.copy(), np.zeros(image.shape, bool)


ORIGINAL = Alteration.of(original, GREY, HOUNSFIELD)


def apply(alteration: Alteration, image: NDArray, key: int) -> tuple[NDArray, Mask]:
    """The altered image and the mask of what may have changed, bool (H, W). Raises StudyError for any other image."""
    usable = isinstance(image, np.ndarray) and image.ndim == 2 and image.size > 0
    if not usable or image.dtype not in alteration.spaces:
        found = f"{getattr(image, 'dtype', type(image).__name__)} of shape {np.shape(image)}"
        needs = " or ".join(_IMAGES[space] for space in alteration.spaces)
        raise StudyError(f"{alteration.name}: needs {needs}, got {found}. {_MEND[alteration.space]}")
    return alteration.draw(image, key)


def key_for(seed: int, image_id: str, alteration: Alteration) -> int:
    """The key of one image under one alteration: from the seed and both identities, never from call order."""
    return seeds.derive(seed, image_id, alteration.label)
