"""The house style: how sources, pictures and axes look in every figure, and what each thing is called in words.

Okabe and Ito's colours (https://jfly.uni-koeln.de/color/) for the colour-blind, markers and lines for grey prints.
Figures are as wide as a journal prints them, and their text has the size that it is printed in.
"""

import itertools
import re
import string
import textwrap
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation
from numpy.typing import NDArray

from sourcematters import confounders
from sourcematters.errors import StudyError
from sourcematters.sources import MATCHED, known, plain


class Style(NamedTuple):
    """How one source is drawn in every figure."""

    color: str
    marker: str
    linestyle: str | tuple[int, tuple[float, ...]]
    hollow: bool = False


NATURAL = Style("#D55E00", "o", "-")
RADIOLOGY = Style("#0072B2", "s", (0, (4, 1.5)))
UNTRAINED = Style("#000000", "^", (0, (4, 1.5, 1, 1.5)))
# A source wears the colours of the paper's curve that it is laid on. A matched source is drawn in the colour of the
# plain one, with hollow markers and a dotted line.
CURVES = {"ImageNet": NATURAL, "RadImageNet": RADIOLOGY, "random": UNTRAINED}
OTHERS = (
    Style("#009E73", "D", (0, (6, 1, 1, 1, 1, 1))),
    Style("#CC79A7", "v", (0, (2, 1))),
    Style("#56B4E9", "P", (0, (8, 2))),
    Style("#E69F00", "X", (0, (3, 1, 1, 1))),
)
BASELINE: dict[str, Any] = {"color": "#808080", "linestyle": ":", "linewidth": 1.4}
CHANCE: dict[str, Any] = {"color": "#B0B0B0", "linestyle": "-", "linewidth": 0.7}
SOFT = "#606060"  # of words beside the data, dark enough to be read on white

ONE, HALF, FULL = 89, 120, 183  # mm: a journal's column, one and a half, and two
TEXT, FINE = 7, 6  # points: all text, and what must stand on each panel without being in the way
NUMBER, ASIDE = 0.26, 0.17  # of strength, in a narrow panel: the width of a number beyond the frame, and its middle
LETTER, FINE_LETTER = 1.5, 1.2  # mm, of a line of either

RAISED = str.maketrans("0123456789", "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079")
# Tasks that the package brings, where the name is no word.
TASKS = {"lung-mass": "lung mass", "lung-mass-ct": "lung mass, CT", "atelectasis-gender": "atelectasis, by gender"}


def styles(sources: Iterable[str]) -> dict[str, Style]:
    """A distinct style for each source: those of the paper's curves first, in their order, the others by name."""
    names, published = set(sources), known()
    plains = {plain(name) for name in names}
    curves = {name: curve for curve in CURVES for name, source in published.items() if source.curve == curve}
    found: dict[str, Style] = {}
    for name in [*(name for name in curves if name in plains), *sorted(plains - set(curves))]:
        own = [CURVES[curves[name]]] if name in curves else []
        free = [style for style in (*own, *OTHERS) if style not in found.values()]
        if not free:
            raise StudyError(
                f"a figure cannot tell {len(plains)} sources apart: there is no style left for {name}, after "
                f"{', '.join(key for key in found if key in plains)}. Compare fewer at once (NAME{MATCHED} shares the "
                "colour of NAME)."
            )
        found |= {name: free[0], name + MATCHED: free[0]._replace(linestyle=(0, (1, 1)), hollow=True)}
    return {name: style for name, style in found.items() if name in names}


def title_of(name: str, of: Literal["confounder", "source", "task"] = "confounder") -> str:
    """What figures call it, in words: `lung mass, CT` for lung-mass-ct; one's own name is left as it is, but for _."""
    if of == "confounder":
        registered = confounders.known()
        return registered[name].title if name in registered else name.replace("_", " ")
    if of == "task":
        return TASKS.get(name, name.replace("_", " "))
    base, published = plain(name), known()
    title = published[base].title if base in published else base.replace("_", " ")
    return title.replace("-standin", " stand-in") + ", matched" * name.endswith(MATCHED)


def named(text: str, sources: Iterable[str], tasks: Iterable[str] = ()) -> str:
    """`text` with each of these sources and tasks by its name in words, also where it begins a sentence."""
    titles = {name: title_of(name, "task") for name in tasks if name}
    titles |= {name: title_of(name, "source") for name in sources if name}
    begun = {name[0].upper() + name[1:]: title[0].upper() + title[1:] for name, title in titles.items()}
    titles = begun | titles
    whole = "|".join(map(re.escape, sorted(titles, key=len, reverse=True)))
    return re.sub(rf"(?<![\w+-])({whole})(?![\w+-])", lambda m: titles[m[0]], text) if titles else text


def number(value: float) -> str:
    """`1,024`, `0.5`, `2 × 10⁶`: as people write it."""
    if abs(value) < 1e5:
        return f"{value:,g}" if value != round(value) else f"{round(value):,}"
    mantissa, power = f"{value:.3g}".split("e")
    return f"{mantissa}\u00a0\u00d7\u00a010" + str(int(power)).translate(RAISED)


def literal(text: str) -> str:
    """`text` as it is: what people name is no formula (`$`), and holds nothing that a font has no sign for."""
    shown = "".join(letter if letter.isprintable() or letter == "\n" else " " for letter in text)
    return shown.replace("$", r"\$")


def written(name: str, width: int = 24) -> str:
    """A name as legends and titles have it: in lines of `width` letters, and there even if it begins with _.

    Matplotlib leaves out of a legend what begins so
    (https://matplotlib.org/stable/api/_as_gen/matplotlib.axes.Axes.legend.html).
    """
    lines = textwrap.wrap(" ".join(name.split()), width) or ["(no name)"]
    return literal((" " if lines[0].startswith("_") else "") + "\n".join(lines))


def page(width: float, height: float) -> tuple[float, float]:
    """A figure's size for Matplotlib, in inches, from mm."""
    return width / 25.4, height / 25.4


def picture(axes: Axes, image: NDArray[Any], *, low: float = 0, high: float = 255, **options: Any) -> AxesImage:
    """Show a grey image (H, W) without ticks and frame, black at `low` and white at `high`."""
    axes.set(xticks=[], yticks=[], frame_on=False)
    return axes.imshow(image, cmap="gray", vmin=low, vmax=high, **options)


def frame(axes: Axes) -> None:
    """Axes for curves: small ticks, and a frame at the left and below only."""
    axes.tick_params(labelsize=TEXT, length=2.5)
    axes.spines[["top", "right"]].set_visible(False)


def fine_lines(text: str, width: float) -> list[str]:
    """`text` in lines of so many mm, printed small."""
    return textwrap.wrap(text, max(round(width / FINE_LETTER), 12), break_on_hyphens=False)


def head(axes: Axes, title: str = "", *, letter: str = "", caution: str = "", width: float = 60) -> None:
    """Above a panel of `width` mm: its letter and title in bold, and small what must be said of its data."""
    lines = fine_lines(caution, width)
    pad = 4 + 1.25 * FINE * len(lines)
    axes.set_title(title, fontsize=TEXT, weight="bold", loc="left", pad=pad)
    axes.text(
        0, 1.02, literal("\n".join(lines)), transform=axes.transAxes, va="bottom", fontsize=FINE, style="italic",
        color=SOFT, linespacing=1.1, in_layout=False,
    )  # fmt: skip
    if letter:
        beside = pad if title or not lines else pad - 1.4 * FINE
        axes.annotate(
            letter, (0, 1), xytext=(-5, beside), xycoords="axes fraction", textcoords="offset points", ha="right",
            va="baseline", fontsize=TEXT, weight="bold",
        )  # fmt: skip


def letters(count: int) -> list[str]:
    """a, b, c ... for so many panels; a single one has none."""
    alphabet = string.ascii_lowercase
    twice = [*alphabet, *(one + other for one in alphabet for other in alphabet)]
    return twice[:count] if count > 1 else [""] * count


def beyond(
    axes: Axes, at: Iterable[float], low: Iterable[float], high: Iterable[float], color: str, along: str = "y"
) -> None:
    """Where an interval leaves the frame, an arrow at the frame and the number; the limits are set before."""
    bottom, top = sorted(axes.get_ylim() if along == "y" else axes.get_xlim())
    for place, *ends in zip(at, low, high, strict=True):
        for end, edge, marker, out in zip(ends, (bottom, top), "v^" if along == "y" else "<>", (-1, 1), strict=True):
            if not np.isfinite(end) or bottom <= end <= top:
                continue
            where = (place, edge) if along == "y" else (edge, place)
            axes.plot(*where, marker=marker, color=color, markersize=3.5, linestyle="", clip_on=False, zorder=4)
            inner = 1 if place < 0.8 else -1
            beside = (3 * inner, _free(axes, edge, place, inner, -4 * out)) if along == "y" else (-2 * out, 5)
            text = f"{end:.2f}".replace("-", "\N{MINUS SIGN}")
            axes.annotate(
                text, where, xytext=beside, textcoords="offset points", fontsize=FINE, color=color,
                ha="left" if (inner > 0 if along == "y" else out < 0) else "right", va="center", zorder=6,
                path_effects=[withStroke(linewidth=1.5, foreground="white")],
            )  # fmt: skip


def _free(axes: Axes, edge: float, place: float, inner: int, first: float) -> float:
    """How many points from the edge a number hides none of those there: one below the other, inwards."""
    middle, taken = place + inner * ASIDE, set[float]()
    for text in axes.texts:
        if isinstance(text, Annotation) and text.xy[1] == edge:
            across, inwards = np.ravel(text.xyann)
            if abs(text.xy[0] + np.sign(across) * ASIDE - middle) < NUMBER:
                taken.add(inwards)
    return next(away for k in itertools.count() if (away := first * (1 + 1.75 * k)) not in taken)
