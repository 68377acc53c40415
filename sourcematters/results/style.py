"""The house style: how sources, pictures and axes look in every figure, and what confounders are called.

Okabe and Ito's colours (https://jfly.uni-koeln.de/color/) for the colour-blind, markers and lines for grey prints.
"""

import textwrap
from collections.abc import Iterable
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.image import AxesImage
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

SMALL, NORMAL = 7, 8.5  # points, at the size of a journal page


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


def title_of(confounder: str) -> str:
    """What figures call a confounder; one with a name of its own is called by that."""
    registered = confounders.known()
    return registered[confounder].title if confounder in registered else confounder.replace("_", " ")


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


def picture(axes: Axes, image: NDArray[Any], *, low: float = 0, high: float = 255, **options: Any) -> AxesImage:
    """Show a grey image (H, W) without ticks and frame, black at `low` and white at `high`."""
    axes.set(xticks=[], yticks=[], frame_on=False)
    return axes.imshow(image, cmap="gray", vmin=low, vmax=high, **options)


def frame(axes: Axes) -> None:
    """Axes for curves: small ticks, and a frame at the left and below only."""
    axes.tick_params(labelsize=SMALL, length=2.5)
    axes.spines[["top", "right"]].set_visible(False)
