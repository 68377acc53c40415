"""The house style: how sources, reference lines and confounders look in every figure, and what they are called.

Colours of Okabe and Ito (https://jfly.uni-koeln.de/color/), told apart by the colour-blind, and for each source a
marker and a line style of its own, so that a grey print can be read too.
"""

from collections.abc import Iterable
from typing import NamedTuple

from sourcematters.confounders import known
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
BASELINE = {"color": "#808080", "linestyle": ":", "linewidth": 1.4}
CHANCE = {"color": "#B0B0B0", "linestyle": "-", "linewidth": 0.7}

SMALL, NORMAL = 7, 8.5  # points, at the size of a journal page


def title_of(confounder: str) -> str:
    """What figures call a confounder; one with a name of its own is called by that."""
    return known()[confounder].title if confounder in known() else confounder.replace("_", " ")


def styles(sources: Iterable[str]) -> dict[str, Style]:
    """A distinct style for each source: those of the paper's curves first, in their order, the others by name.

    Raises StudyError for more sources than can be told apart.
    """
    names, registered = set(sources), known()
    curves = {name: source.curve for name, source in registered.items() if source.curve in CURVES}
    ranks = {name: (list(CURVES).index(curve), list(registered).index(name)) for name, curve in curves.items()}
    chosen: dict[str, Style] = {}
    plains = {plain(name) for name in names}
    for name in sorted(plains, key=lambda name: (ranks.get(name, (99, 0)), name)):
        own = CURVES.get(curves.get(name, ""))
        free = [style for style in (own, *OTHERS) if style and style not in chosen.values()]
        if not free:
            raise StudyError(f"figure: {len(plains)} sources are more than can be told apart: draw fewer at once.")
        chosen[name] = free[0]
    looks = {}
    for name, style in chosen.items():
        looks |= {name: style, name + MATCHED: style._replace(linestyle=(0, (1, 1)), hollow=True)}
    return {name: look for name, look in looks.items() if name in names}
