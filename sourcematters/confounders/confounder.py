"""What a confounder is: alterations of the images that carry it and of the others; and the registry of all by name.

An alteration acts on an image of native size, in one of two pixel spaces: grey, uint8 (H, W), or Hounsfield units,
int16 (H, W), in which a CT slice is before it is windowed.
"""

import contextlib
import hashlib
import inspect
import re
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from pydantic.fields import FieldInfo

from sourcematters import seeds
from sourcematters.checked import Checked, cut, unknown
from sourcematters.confounders.taxonomy import leaves
from sourcematters.errors import StudyError

Pixels = NDArray[np.uint8]
Hounsfield = NDArray[np.int16]
Drawn = tuple[NDArray, NDArray[np.bool_]]
Draw = Callable[..., Drawn]

GREY, HOUNSFIELD = np.dtype(np.uint8), np.dtype(np.int16)
_NEEDS = {
    GREY: "a grey uint8 image of shape (H, W), as PIL.Image.open(path).convert('L') or cohorts.pixels.window give it",
    HOUNSFIELD: "a CT slice in Hounsfield units, int16 of shape (H, W), as cohorts.pixels.read gives it (for noise on "
    "a grey image choose domain grey)",
}


@dataclass(frozen=True)
class Alteration:
    """What is done to an image: hashable, picklable, the same text everywhere; equal if all but the function is.

    `draw` is a pure function of an image (H, W) and a key: the same in any process and any order. It gives a new image
    of that shape and type, and the mask of every pixel that may have changed, bool (H, W). `revision` tells what
    `draw` does now from what it did before it was changed: it is part of every run and bank, but of no random key.
    """

    name: str
    parameters: tuple[tuple[str, Any], ...]
    draw: Draw = field(repr=False, compare=False)
    space: np.dtype = field(default=GREY, repr=False, compare=False)
    revision: str = "1"

    @classmethod
    def of(cls, name: str, draw: Draw, space: np.dtype, revision: int, /, **parameters: Any) -> Self:
        """With the parameters sorted by name, and whole numbers as integers: one meaning, one text.

        Where `draw` stands in a file outside this package, that file's content is part of the revision: whoever edits
        it gets new runs.
        """
        whole = {key: int(x) for key, x in parameters.items() if isinstance(x, float) and x.is_integer()}
        values = tuple(sorted({**parameters, **whole}.items()))
        return cls(name, values, draw, space, "+".join(filter(None, (str(revision), _outside(draw)))))

    @property
    def label(self) -> str:
        """E.g. `low_pass(diameter=500, truncate=False)`; equal labels mean equal alterations."""
        inside = ", ".join(f"{name}={_text(value)}" for name, value in self.parameters)
        return f"{self.name}({inside})" if inside else self.name

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"name": self.name, "parameters": dict(self.parameters), "revision": self.revision}


def _outside(draw: Draw) -> str:
    """What stands for the code of `draw` if it is not this package's: a digest of its file, or of its cell; else ""."""
    plain = draw.func if isinstance(draw, partial) else draw
    plain = getattr(plain, "__func__", plain)
    return "" if plain.__module__.partition(".")[0] == __package__.partition(".")[0] else _code(plain)


@cache
def _code(function: Draw) -> str:
    # In a notebook a cell is all the code there is; `inspect` knows it by the name that IPython gave it.
    with contextlib.suppress(OSError, TypeError):
        file = Path(inspect.getsourcefile(function) or "")
        text = file.read_text(encoding="utf-8") if file.is_file() else inspect.getsource(function)
        return hashlib.sha256(text.encode()).hexdigest()[:8]
    return ""


def _text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def _original(image: NDArray, key: int) -> Drawn:
    return image.copy(), np.zeros(image.shape, bool)


ORIGINAL = Alteration("original", (), _original)
"""The image as it is."""


def apply(alteration: Alteration, image: NDArray, key: int) -> Drawn:
    """What `alteration.draw` makes of the image. Raises StudyError for an image that is not of its space."""
    usable = isinstance(image, np.ndarray) and image.ndim == 2 and image.size > 0
    if not usable or image.dtype != alteration.space:
        found = f"{getattr(image, 'dtype', type(image).__name__)} of shape {np.shape(image)}"
        raise StudyError(f"{alteration.name}: needs {_NEEDS[alteration.space]}; got {found}.")
    return alteration.draw(image, key)


def key_for(seed: int, image_id: str, alteration: Alteration) -> int:
    """The key of one image under one alteration: from the seed and both identities, never from call order."""
    return seeds.derive(seed, image_id, alteration.label)


class Confounder(Checked):
    """What co-occurs with the positive class; hangs on a leaf of MICCAT.

    Images that carry it are rendered with `carrier`, all the others with `base`; if it is sampled (see `Attribute`),
    pixels stay untouched. With a `name` of its own, a second one of a kind can stand in the same results.
    """

    name: str = Field(description="in run folders, tables and figures")
    leaf: str = Field(description="of MICCAT")
    revision: ClassVar[int] = 1  # raise it when what is drawn changes: runs with it are made anew
    title: ClassVar[str]  # as figures call it
    practice: ClassVar[str]  # where it occurs in practice, with a reference
    sampled: ClassVar[bool] = False

    @model_validator(mode="after")
    def _has_a_name_a_leaf_and_an_effect(self) -> Self:
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", self.name):
            raise ValueError(f"name {cut(self.name)!r}: use up to 40 small letters, digits and _, as in file names.")
        if self.leaf not in leaves():
            raise ValueError(unknown("leaf of MICCAT", self.leaf, leaves()))
        if not self.sampled and self.base == self.carrier:
            raise ValueError(f"carriers and the others are both {self.base.label}.")
        return self

    @property
    def base(self) -> Alteration:
        """What is done to every image that does not carry it."""
        return ORIGINAL

    @property
    def carrier(self) -> Alteration:
        """What is done to every image that carries it."""
        return ORIGINAL

    @property
    def label(self) -> str:
        """E.g. `noise: poisson_noise(n0=2e+07) against original`."""
        return f"{self.name}: {self.carrier.label} against {self.base.label}"

    def stronger(self) -> Self | None:
        """The same with a greater effect, to be proposed where this one cannot be seen; None where nothing is known."""
        return None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"name": self.name, "leaf": self.leaf, "base": self.base.to_dict(), "carrier": self.carrier.to_dict()}

    @classmethod
    def parameters(cls) -> dict[str, FieldInfo]:
        """Its own parameters with their defaults and descriptions: all but the name and the leaf."""
        return {name: field for name, field in cls.model_fields.items() if name not in Confounder.model_fields}


class Artefact(Confounder):
    """A confounder that `draw` burns into its carriers; the others stay as they are."""

    drawing: ClassVar[str] = ""  # what is drawn, in labels and file names; the confounder's name if empty
    space: ClassVar[np.dtype] = GREY

    @abstractmethod
    def draw(self, image: NDArray, key: int) -> Drawn:
        """A new image, and the mask of every pixel that may have changed: see `Alteration`."""

    @property
    def carrier(self) -> Alteration:
        """What `draw` does; another name of this confounder is no other drawing."""
        parameters = {name: getattr(self, name) for name in self.parameters()}
        name = self.drawing or _default(type(self), "name")
        return Alteration.of(name, self.draw, self.space, self.revision, **parameters)


Kind = TypeVar("Kind", bound=type[Confounder])
_REGISTRY: dict[str, type[Confounder]] = {}


def register(kind: Kind) -> Kind:
    """Make a class of confounders known by its name (a decorator), again if its cell or module is run again."""
    name, place = _default(kind, "name"), f"{kind.__module__}.{kind.__qualname__}"
    if not (isinstance(name, str) and hasattr(kind, "title") and hasattr(kind, "practice")):
        raise StudyError(f"{place}: give it a name (`name: str = ...`), a title and a practice: see `confounders`.")
    former = _REGISTRY.get(name, kind)
    if (taken := f"{former.__module__}.{former.__qualname__}") != place:
        raise StudyError(f"{place}: the name {name} is taken by {taken}.")
    _REGISTRY[name] = kind
    return kind


def known() -> dict[str, type[Confounder]]:
    """The registry: every confounder's class by its name."""
    return _REGISTRY


def make(name: str, /, **parameters: Any) -> Confounder:
    """The confounder of that name: `make("tag", height=128)`. Raises StudyError with the nearest name."""
    if name not in _REGISTRY:
        raise StudyError(unknown("confounder", name, _REGISTRY))
    return _REGISTRY[name](**parameters)


def implemented() -> dict[str, list[str]]:
    """Each leaf of MICCAT that confounders act on -> their names; one that is given its leaf is on none."""
    acting = {leaf: [name for name, kind in _REGISTRY.items() if _default(kind, "leaf") == leaf] for leaf in leaves()}
    return {leaf: names for leaf, names in acting.items() if names}


def _default(kind: type[Confounder], field: str) -> Any:
    return kind.model_fields[field].default
