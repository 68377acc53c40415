"""Confounders: what co-occurs with the positive class, and how it gets into the pixels.

An *alteration* is a pure function of (image, key): the same image with the same key gives the same pixels in
any process and any order. An alteration declares its pixel space: grey, uint8 (H, W), or Hounsfield, int16
(H, W), in which a CT slice is before it is windowed. Artefacts are burnt in at native size, before the image is
resized or augmented. With the altered image comes the artefact's mask, bool (H, W).

A *confounder* says which alteration its carriers get, and which all the others get; a sampled confounder
(gender) touches no pixel but chooses images by an attribute. To add one: write a function here, name it in
`ALTERATIONS`, write its constructor, name it in `CONFOUNDERS`.

Source: Juodelyte et al. 2024, Section 3 (https://arxiv.org/abs/2403.04484), and the authors' code.
"""

import functools
import inspect
import math
import numbers
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import scipy.fft
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sourcematters import seeds
from sourcematters.confounders import quantum_noise, taxonomy
from sourcematters.errors import StudyError

Pixels = NDArray[np.uint8]
Hounsfield = NDArray[np.int16]
Mask = NDArray[np.bool_]
Altered = tuple[Pixels | Hounsfield, Mask]
Value = bool | int | float | str


class _Space(NamedTuple):
    dtype: type
    needs: str
    mend: str


GREY, HOUNSFIELD = "grey", "hounsfield"
_SPACES = {
    GREY: _Space(
        np.uint8,
        "a grey uint8 image of shape (H, W)",
        "Convert it first, e.g. PIL.Image.open(path).convert('L'), or sourcematters.pixels.window for a CT slice.",
    ),
    HOUNSFIELD: _Space(
        np.int16,
        "a CT slice in Hounsfield units, int16 of shape (H, W)",
        "Read DICOM files by sourcematters.pixels.read; for noise on a grey image choose domain grey.",
    ),
}
_LARGEST = 1e15  # numpy draws Poisson counts as 64-bit integers


def _settled(function: Callable[..., Altered], given: dict[str, Any]) -> dict[str, Value]:
    """All parameters of `function`, defaults filled in and 500.0 written 500: one meaning, one text."""
    name = function.__name__
    signature = inspect.signature(function).parameters
    defaults = {p.name: p.default for p in signature.values() if p.kind is p.KEYWORD_ONLY}
    if unknown := sorted(set(given) - set(defaults)):
        known = ", ".join(sorted(defaults)) or "none"
        raise StudyError(f"{name}: unknown parameter {', '.join(unknown)}. Its parameters are: {known}.")
    settled: dict[str, Value] = {}
    for parameter, default in sorted(defaults.items()):
        value = given.get(parameter, default)
        where = f"{name}: {parameter}={value!r}"
        if isinstance(default, bool | str):
            if not isinstance(value, type(default)) or value == "":
                raise StudyError(f"{where} must be {'True or False' if default is False else 'a text'}.")
            settled[parameter] = value
            continue
        if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
            raise StudyError(f"{where} must be a number (YAML reads 2e7 as text: write 2.0e+7).")
        # A tag may touch the border; every other number is a length or a count.
        if value < 0 or value > _LARGEST or (value == 0 and parameter not in ("x", "y")):
            raise StudyError(f"{where} must be above 0 (at most {_LARGEST:g}).")
        if signature[parameter].annotation is int and not float(value).is_integer():
            raise StudyError(f"{where} must be a whole number.")
        settled[parameter] = int(value) if float(value).is_integer() else float(value)
    return settled


def _takes(*spaces: str) -> Callable[[Callable[..., Altered]], Callable[..., Altered]]:
    """Declare the pixel spaces of a function; other images and bad parameters are refused before it runs."""

    def declare(function: Callable[..., Altered]) -> Callable[..., Altered]:
        @functools.wraps(function)
        def checked(image: Pixels | Hounsfield, key: int, **parameters: Value) -> Altered:
            fine = isinstance(image, np.ndarray) and image.ndim == 2 and image.size > 0
            if not fine or image.dtype not in [_SPACES[space].dtype for space in spaces]:
                found = f"{getattr(image, 'dtype', type(image).__name__)} of shape {np.shape(image)}"
                needs = " or ".join(_SPACES[space].needs for space in spaces)
                raise StudyError(f"{function.__name__}: needs {needs}, got {found}. {_SPACES[spaces[0]].mend}")
            return function(image, key, **_settled(function, parameters))

        checked.spaces = spaces
        return checked

    return declare


@_takes(GREY, HOUNSFIELD)
def original(image: Pixels | Hounsfield, key: int) -> Altered:
    """The image as it is; the mask is empty."""
    return image.copy(), np.zeros(image.shape, bool)


@functools.lru_cache(maxsize=32)
def _font(size: float) -> ImageFont.FreeTypeFont:
    # Matplotlib ships this font, so the glyph is the same on every machine; the basic layout engine is the
    # one that every Pillow has.
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)


@_takes(GREY)
def draw_tag(
    image: Pixels,
    key: int,
    *,
    letter: str = "R",
    height: float = 64,
    x: float = 200,
    y: float = 200,
    reference: float = 1024,
) -> Altered:
    """A white laterality marker, as radiographers place it; `key` is not used.

    `height` is the font size in px and (`x`, `y`) the text origin in px (the left end of the ascender line),
    all three in an image of `reference` px: an image of another size gets them in proportion (x by its width,
    y by its height, the font by the shorter of the two). The defaults give a glyph of 37 x 47 px in a 1024 px
    image. The reference code takes whichever light sans-serif font the machine has: a thinner letter, 34 x 47 px.

    Antialiased edges blend towards white (255); the mask is every pixel that the glyph covers in part or
    whole. Raises StudyError if the tag does not lie wholly in the image, or draws nothing.
    """
    rows, columns = image.shape
    size = height * min(rows, columns) / reference
    if not 1 <= size <= min(rows, columns):
        raise StudyError(
            f"draw_tag: height={height:g} is a font of {size:.3g} px in an image {columns} x {rows} px "
            "(width x height). Choose a height that is at least 1 px and fits in."
        )
    font = _font(size)
    origin = round(x * columns / reference), round(y * rows / reference)
    canvas = Image.new("L", (columns, rows))
    draw = ImageDraw.Draw(canvas)
    left, top, right, bottom = draw.textbbox(origin, letter, font=font)
    if left < 0 or top < 0 or right > columns or bottom > rows:
        raise StudyError(
            f"draw_tag: {letter!r} would span columns {left:g} to {right:g} and rows {top:g} to {bottom:g} "
            f"of an image {columns} x {rows} px (width x height). Choose a smaller x, y or height."
        )
    draw.text(origin, letter, fill=255, font=font)
    coverage = np.asarray(canvas, dtype=float) / 255
    mask = coverage > 0
    if not mask.any():
        raise StudyError(f"draw_tag: {letter!r} covers no pixel. Choose a visible letter or a larger height.")
    return np.rint(image + (255 - image.astype(float)) * coverage).astype(np.uint8), mask


@_takes(GREY)
def low_pass(image: Pixels, key: int, *, diameter: float = 500, truncate: bool = False) -> Altered:
    """Denoising: the ideal low-pass of Eq. 1 on the 2-D spectrum; `key` is not used.

    A frequency is kept if its distance from DC is at most diameter/2, in bins of a square image as large as
    the longer side; on a non-square image the cutoff is the same (diameter/2) / max(H, W) cycles per px in
    both directions. The paper prints D0 = 500 px, the radius of Eq. 1; in the authors' code 500 is the
    *diameter* of the pass disc, i.e. a radius of 250 bins, 0.244 cycles per px at 1024 px. We follow the
    code, and name it so. The cutoff is in bins, so the effect depends on the size: 500 at 1024 px is 125 at
    256 px. Raises StudyError if the disc holds the image's whole spectrum, for then nothing would happen.

    The result is clipped to [0, 255] and rounded; `truncate=True` cuts the decimals off as the authors' code
    does, which darkens the image by half a grey level on average. The mask is all True.
    """
    rows, columns = image.shape
    longer = max(rows, columns)
    index = np.arange(rows)
    vertical = np.minimum(index, rows - index) * (longer / rows)
    horizontal = np.arange(columns // 2 + 1) * (longer / columns)
    kept = vertical[:, None] ** 2 + horizontal[None, :] ** 2 <= (diameter / 2) ** 2
    if kept.all():
        raise StudyError(
            f"low_pass: diameter={diameter:g} keeps every frequency of an image {columns} x {rows} px "
            f"(width x height). Choose a smaller one, e.g. {500 / 1024 * longer:.0f} as in the paper."
        )
    # In double precision: in single, pixels near a half would round differently from machine to machine.
    spectrum = scipy.fft.rfft2(image.astype(float), workers=1)
    smooth = np.clip(scipy.fft.irfft2(spectrum * kept, s=image.shape, workers=1), 0, 255)
    # Drop the transform's own error: an exact 80 comes back as 79.99999999999999, which truncates to 79.
    smooth = np.round(smooth, 6)
    return (smooth if truncate else np.rint(smooth)).astype(np.uint8), np.ones(image.shape, bool)


# One equation in three spaces: they stand together in a module of their own.
poisson_noise = _takes(GREY)(quantum_noise.poisson_noise)
hounsfield_noise = _takes(HOUNSFIELD)(quantum_noise.hounsfield_noise)
projection_noise = _takes(HOUNSFIELD)(quantum_noise.projection_noise)

ALTERATIONS: dict[str, Callable[..., Altered]] = {
    function.__name__: function
    for function in (original, draw_tag, low_pass, poisson_noise, hounsfield_noise, projection_noise)
}


@dataclass(frozen=True)
class Alteration:
    """A function of `ALTERATIONS` with all its parameters: hashable, picklable, the same text everywhere.

    Parameters left out get the function's defaults, so two alterations are equal exactly when they do the
    same. Raises StudyError for an unknown name, an unknown parameter, or a value out of range.
    """

    name: str
    parameters: tuple[tuple[str, Value], ...] = ()

    def __post_init__(self) -> None:
        if self.name not in ALTERATIONS:
            raise StudyError(f"unknown alteration {self.name!r}. There are: {', '.join(ALTERATIONS)}.")
        settled = _settled(ALTERATIONS[self.name], dict(self.parameters))
        object.__setattr__(self, "parameters", tuple(settled.items()))

    @property
    def label(self) -> str:
        """E.g. `low_pass(diameter=500, truncate=False)`; equal labels mean equal alterations."""
        inside = ", ".join(f"{name}={_text(value)}" for name, value in self.parameters)
        return f"{self.name}({inside})" if inside else self.name

    @property
    def space(self) -> str:
        """The pixel space it acts in: grey, after a CT slice is windowed, or hounsfield, before."""
        return ALTERATIONS[self.name].spaces[0]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: `{"name": ..., "parameters": {...}}`."""
        return {"name": self.name, "parameters": dict(self.parameters)}


def _text(value: Value) -> str:
    if isinstance(value, bool | str):
        return str(value)
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def alteration(name: str, **parameters: Value) -> Alteration:
    """`Alteration` from keywords: `alteration("low_pass", diameter=200)`."""
    return Alteration(name, tuple(parameters.items()))


ORIGINAL = Alteration("original")


def apply(alteration: Alteration, image: Pixels | Hounsfield, key: int) -> Altered:
    """The altered image, in the space it was given, and the artefact's mask, bool (H, W).

    Raises StudyError for an image that is not in the alteration's pixel space.
    """
    return ALTERATIONS[alteration.name](image, key, **dict(alteration.parameters))


def key_for(seed: int, image_id: str, alteration: Alteration) -> int:
    """The key of one image under one alteration: from the seed and both identities, never from call order."""
    return seeds.derive(seed, image_id, alteration.label)


@dataclass(frozen=True)
class Confounder:
    """What carriers have and the others have not; hangs on a leaf of MICCAT.

    Drawn: images that carry it are rendered with `carrier`, all the others with `base`. Sampled: carriers
    have `value` in the cohort's column `attribute`, the others have `other`, and pixels stay untouched.
    Raises StudyError for an unknown leaf, and for anything that is not exactly one of the two kinds.
    """

    name: str
    leaf: str
    base: Alteration = ORIGINAL
    carrier: Alteration = ORIGINAL
    attribute: str = ""
    value: str = ""
    other: str = ""

    def __post_init__(self) -> None:
        taxonomy.path(self.leaf)
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise StudyError(f"confounder {self.name!r}: name it with small letters, digits and _, as in file names.")
        drawn = self.base != self.carrier
        if drawn and (self.attribute or self.value or self.other):
            raise StudyError(f"confounder {self.name}: is either drawn (base, carrier) or sampled (attribute).")
        if not drawn and self.base != ORIGINAL:
            raise StudyError(f"confounder {self.name}: carriers and the others are both {self.base.label}.")
        if not drawn and not (self.attribute and self.value and self.other and self.value != self.other):
            raise StudyError(
                f"confounder {self.name}: needs two different alterations (base, carrier), or an attribute "
                f"of the cohort with two different values; got attribute={self.attribute!r}, "
                f"value={self.value!r}, other={self.other!r}."
            )

    @property
    def sampled(self) -> bool:
        """True if images are chosen by an attribute, False if pixels are altered."""
        return bool(self.attribute)

    @property
    def label(self) -> str:
        """E.g. `noise: poisson_noise(n0=2e+07) against original` or `gender: sex F against M`."""
        if self.sampled:
            return f"{self.name}: {self.attribute} {self.value} against {self.other}"
        return f"{self.name}: {self.carrier.label} against {self.base.label}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, only those that apply to its kind."""
        common = {"name": self.name, "leaf": self.leaf}
        if self.sampled:
            return common | {"attribute": self.attribute, "value": self.value, "other": self.other}
        return common | {"base": self.base.to_dict(), "carrier": self.carrier.to_dict()}


def tag(letter: str = "R", height: float = 64, x: float = 200, y: float = 200) -> Confounder:
    """A white letter burnt in (see `draw_tag`); the others have none."""
    return Confounder("tag", "tag", carrier=alteration("draw_tag", letter=letter, height=height, x=x, y=y))


def denoising(diameter: float = 500, truncate: bool = False) -> Confounder:
    """Ideal low-pass (see `low_pass`); the others keep their full spectrum."""
    return Confounder("denoising", "denoising", carrier=alteration("low_pass", diameter=diameter, truncate=truncate))


NOISE_DOMAINS = {"grey": "poisson_noise", "hounsfield": "hounsfield_noise", "projection": "projection_noise"}
"""Where noise is drawn: in the grey image, in a CT slice's Hounsfield units, or in its projections."""


def _noise(n0: float, domain: str) -> Alteration:
    if domain not in NOISE_DOMAINS:
        raise StudyError(f"noise: unknown domain {domain!r}. Choose one of {', '.join(NOISE_DOMAINS)}.")
    return alteration(NOISE_DOMAINS[domain], n0=n0)


def noise(n0: float = 2e7, domain: str = "grey") -> Confounder:
    """Poisson noise of `n0` photons (per pixel; per ray in domain projection) against none."""
    return Confounder("noise", "noise", carrier=_noise(n0, domain))


def noise_high_vs_low(low: float = 2e7, high: float = 1.5e7, domain: str = "grey") -> Confounder:
    """Every image is noisy: carriers with `high` noise (fewer photons), the others with `low`."""
    base, carrier = _noise(low, domain), _noise(high, domain)
    if not high < low:
        raise StudyError(f"noise_high_vs_low: high={high:g} photons must be fewer than low={low:g}: fewer are noisier.")
    return Confounder("noise_high_vs_low", "noise", base=base, carrier=carrier)


def sampled(attribute: str, value: str, other: str, *, leaf: str, name: str = "") -> Confounder:
    """A confounder by selection on any column of the cohort; its name is the leaf's unless given."""
    return Confounder(name or leaf.replace(" ", "_"), leaf, attribute=attribute, value=value, other=other)


def gender() -> Confounder:
    """The paper's sampled confounder: carriers are female, the others male."""
    return sampled("sex", "F", "M", leaf="gender")


CONFOUNDERS: dict[str, Callable[..., Confounder]] = {
    make.__name__: make for make in (tag, denoising, noise, noise_high_vs_low, gender)
}

# MICCAT leaf -> the confounders (names in CONFOUNDERS) that act on it.
IMPLEMENTED: dict[str, tuple[str, ...]] = {
    leaf: names
    for leaf in taxonomy.leaves()
    if (names := tuple(name for name, make in CONFOUNDERS.items() if make().leaf == leaf))
}
