"""Confounders: what carriers have and the others have not; and the registry where all are found by name."""

import re
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from pydantic.fields import FieldInfo

from sourcematters.checked import Checked, unknown
from sourcematters.confounders.alteration import GREY, ORIGINAL, Alteration, Mask, plain
from sourcematters.confounders.taxonomy import leaves
from sourcematters.errors import StudyError


class Confounder(Checked):
    """What co-occurs with the positive class; hangs on a leaf of MICCAT.

    Images that carry it are rendered with `carrier`, all the others with `base`; if it is sampled (see `Attribute`),
    pixels stay untouched. With a `name` of its own, a second one of a kind can stand in the same results.
    """

    name: str = Field(description="in run folders, tables and figures")
    leaf: str = Field(description="of MICCAT")
    title: ClassVar[str]  # as figures call it
    practice: ClassVar[str]  # where it occurs in practice, with a reference
    sampled: ClassVar[bool] = False

    @model_validator(mode="after")
    def _has_a_name_a_leaf_and_an_effect(self) -> Self:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise ValueError(f"name {self.name!r}: use small letters, digits and _, as in file names.")
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
    spaces: ClassVar[tuple[np.dtype, ...]] = (GREY,)

    def draw(self, image: NDArray, key: int) -> tuple[NDArray, Mask]:
        """A new image like `image`, (H, W), and the mask of every pixel that may have changed, bool (H, W)."""
        raise NotImplementedError

    @property
    def carrier(self) -> Alteration:
        """What `draw` does; another name of this confounder is no other drawing."""
        parameters = plain({name: getattr(self, name) for name in self.parameters()})
        return Alteration(self.drawing or _default(type(self), "name"), parameters, self.draw, self.spaces)


Kind = TypeVar("Kind", bound=type[Confounder])
_REGISTRY: dict[str, type[Confounder]] = {}


def register(kind: Kind) -> Kind:
    """Make a class of confounders known by its name (a decorator), again if its cell or module is run again.

    Raises StudyError if another has that name, or if it lacks a name, a title or a practice.
    """
    name, place = _default(kind, "name"), f"{kind.__module__}.{kind.__qualname__}"
    if not (isinstance(name, str) and hasattr(kind, "title") and hasattr(kind, "practice")):
        raise StudyError(
            f"{place}: give it a name (`name: str = ...`), a title and a practice, as `confounders` shows."
        )
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
