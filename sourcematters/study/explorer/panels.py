"""The pictures of a frame, and what stands below each of them, for the widget and for the page alike."""

import io
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sourcematters.confounders import Confounder
from sourcematters.results.style import OTHERS
from sourcematters.study.explorer.frames import unit
from sourcematters.training.reach import ROUNDING, reach
from sourcematters.training.recipe import Preprocessing

Arrays = Mapping[str, NDArray]
PANELS = ("image", "difference", "spectrum", "input")
TITLES = {
    "image": "the image",
    "difference": "what it changes",
    "spectrum": "the spectrum",
    "input": "what the network sees",
}
POWER = (-2.0, 6.0)  # black and white of a spectrum, log10 of grey levels^2 px^2
LEGEND = "orange is brighter with it, blue darker"
LARGEST, SMALLEST = 1024, 256  # px; larger images are shown smaller, small inputs in larger pixels
QUALITY, EXACT = 60, 128  # of WebP; px up to which it loses nothing
FAINT = 0.5  # exponent of a difference's colours: below 1, small ones are seen beside large ones
BLUE, ORANGE = OTHERS[2].color, OTHERS[3].color


class Panel(NamedTuple):
    """A picture, and what it shows in words: below it, and for those who do not see it."""

    picture: Image.Image
    words: str


def limit(difference: NDArray) -> int:
    """The end of a difference's scale: the power of two that holds all of it, so that it seldom jumps."""
    return 1 << max(0, int(np.abs(difference).max()) - 1).bit_length()


def panels(
    arrays: Arrays, confounder: Confounder, how: Preprocessing, *, end: int, without: bool = False
) -> dict[str, Panel]:
    """A panel for each of `PANELS` of a frame, its difference drawn from -`end` to `end`.

    `without` shows image and input as they are without the confounder, to be compared by blinking.
    """
    rows, columns = arrays["carrying"].shape
    found = reach(arrays["input_without"][None], arrays["input"][None])
    share = _percent(float((arrays["difference"] != 0).mean()))
    largest = int(np.abs(arrays["difference"]).max())
    seen = (
        f"{_percent(found.changed_pixels)} of its pixels change, by up to {found.largest_change:g} grey levels"
        if found.seen_in
        else f"NOT SEEN: no pixel changes by more than {ROUNDING} grey level"
    )
    words = {
        "image": f"{'without' if without else 'with'} it, {columns} \N{MULTIPLICATION SIGN} {rows} px",
        "difference": f"{share} of the pixels change, by up to {largest} {unit(confounder)}; {LEGEND}",
        "spectrum": "power of each frequency, logarithmic; left half without it, right half with it",
        "input": f"{how.size} px, {how.interpolation}: {seen}",
    }
    key = {"image": "without" if without else "carrying", "input": "input_without" if without else "input"}
    pictures = {
        "image": Image.fromarray(arrays[key["image"]]),
        "difference": _signed(arrays["difference"], end),
        "spectrum": _spectra(arrays["spectrum_without"], arrays["spectrum"]),
        "input": Image.fromarray(arrays[key["input"]]),
    }
    return {name: Panel(pictures[name], words[name]) for name in PANELS}


def png(picture: Image.Image) -> bytes:
    """A picture as PNG, between `SMALLEST` and `LARGEST` px: quickly, not as small as can be."""
    longer, file = max(picture.size), io.BytesIO()
    if longer > LARGEST:
        picture = picture.reduce(-(-longer // LARGEST)) if picture.mode == "L" else _thinned(picture, longer)
    elif longer < SMALLEST:
        picture = picture.resize([side * (SMALLEST // longer) for side in picture.size], Image.Resampling.NEAREST)
    picture.save(file, "PNG", compress_level=1)
    return file.getvalue()


def webp(picture: Image.Image, side: int) -> bytes:
    """A picture as WebP of at most `side` px, as small as can be; a small one stays exactly as it is."""
    file, longer = io.BytesIO(), max(picture.size)
    picture = picture.convert("RGB" if picture.mode == "P" else picture.mode)
    if longer > side:
        picture = picture.resize([max(1, round(n * side / longer)) for n in picture.size], Image.Resampling.BOX)
    picture.save(file, "WEBP", quality=QUALITY, method=4, lossless=longer <= EXACT)
    return file.getvalue()


def _thinned(picture: Image.Image, longer: int) -> Image.Image:
    size = [max(1, side * LARGEST // longer) for side in picture.size]
    return picture.resize(size, Image.Resampling.NEAREST)


def _signed(difference: NDArray, end: int) -> Image.Image:
    """Blue where it is darker with the confounder, orange where it is brighter, black where nothing changes."""
    places = np.rint(difference * (127 / end) + 127).clip(0, 254).astype(np.uint8)
    picture = Image.fromarray(places, "P")
    picture.putpalette(_PALETTE.tobytes())
    return picture


def _palette() -> NDArray[np.uint8]:
    blue, orange = (np.array([int(color[k : k + 2], 16) for k in (1, 3, 5)]) for color in (BLUE, ORANGE))
    shares = (np.arange(255) - 127) / 127
    colors = np.where(shares[:, None] < 0, blue, orange) * np.abs(shares[:, None]) ** FAINT
    return np.rint(colors).astype(np.uint8)  # (255, 3)


_PALETTE = _palette()
_ENDS = ", ".join(
    f"rgb({red}, {green}, {blue})" for red, green, blue in _PALETTE[[0, 31, 63, 95, 127, 159, 191, 223, 254]]
)
RAMP = f"linear-gradient(90deg, {_ENDS})"
"""The colours of a difference, from its lowest value to its highest, as CSS."""


def _spectra(without: NDArray, carrying: NDArray) -> Image.Image:
    """Their left and right halves, for a spectrum's halves are alike."""
    middle = without.shape[1] // 2
    both = np.hstack([without[:, :middle], carrying[:, middle:]])
    low, high = POWER
    return Image.fromarray(np.rint((both - low) * (255 / (high - low))).clip(0, 255).astype(np.uint8))


def _percent(share: float) -> str:
    if 0 < share < 1e-4:
        return "less than 0.01 %"
    return f"{100 * share:.{0 if share >= 0.1 else 1 if share >= 0.001 or not share else 2}f} %"
