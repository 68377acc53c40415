"""The figures of a results folder, each made a part of the page: no file is asked for when it is looked at."""

import base64
import io
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from markupsafe import Markup, escape
from PIL import Image

from sourcematters import checksums
from sourcematters.report.captions import Caption, caption
from sourcematters.report.tables import PASSED_OVER, rows
from sourcematters.report.words import Row

LARGEST = 500_000  # bytes of a drawing; above it the picture of it is taken
LIGHT = 50_000  # bytes of a picture that is taken as it is
SHARPEST = 1600  # px across a picture on the page; the file beside it has them all
QUALITY = 82  # of WebP
ZOOM = 1.3  # of a drawing: what has 7 points in print has 9 on a screen
SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
DRAWN = set(
    "svg g defs path use clipPath rect image text tspan title desc circle ellipse line polyline polygon "
    "linearGradient radialGradient stop pattern marker symbol mask".split()
)
ElementTree.register_namespace("", SVG)
ElementTree.register_namespace("xlink", XLINK)


class Picture(NamedTuple):
    """A figure: what it is called and shows, its table, and the files of it that are there."""

    name: str
    caption: Caption
    table: list[Row]
    files: list[Path]


def pictures(folder: Path) -> dict[str, Picture]:
    """Every figure in `folder`/figures, by name, the paper's own first."""
    found = {}
    names = {path.stem for kind in ("png", "svg") for path in (folder / "figures").glob(f"[!.]*.{kind}")}
    for name in sorted(names, key=lambda name: (not name.startswith("fig"), name)):
        beside = [folder / "figures" / f"{name}.{kind}" for kind in ("svg", "png", "pdf", "csv")]
        table = rows(folder / "figures" / f"{name}.csv")
        found[name] = Picture(name, caption(name, table), table, [path for path in beside if path.exists()])
    return found


def embedded(picture: Picture) -> Markup:
    """The figure as a part of the page: a drawing with ids of its own, else a picture; "" if neither can be read."""
    for path in picture.files:
        if path.suffix in (".svg", ".png") and (path.suffix == ".png" or path.stat().st_size <= LARGEST):
            try:
                drawn = _drawing(path, picture) if path.suffix == ".svg" else _picture(path, picture.caption.alt)
            except (ElementTree.ParseError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
                checksums.tell(f"{path}: not readable as a figure ({type(error).__name__})", PASSED_OVER)
                continue
            return drawn
    return Markup("")


def _picture(path: Path, alt: str) -> Markup:
    """A PNG as WebP, which takes a tenth of the room, in the size that it has in print."""
    content, kind = path.read_bytes(), "png"
    with Image.open(io.BytesIO(content)) as image:
        across, high = image.size
        dots = image.info.get("dpi", (100, 100))[0] or 100
        if len(content) > LIGHT:
            beside, smaller = io.BytesIO(), image.convert("RGB")
            smaller.thumbnail((SHARPEST, 20 * SHARPEST))
            smaller.save(beside, "WEBP", quality=QUALITY, method=2)
            content, kind = min((beside.getvalue(), "webp"), (content, "png"), key=lambda one: len(one[0]))
        width = round(96 * ZOOM * across / float(dots))
    data = base64.b64encode(content).decode()
    size = f'width="{width}" height="{round(width * high / across)}"'
    return Markup(f'<img src="data:image/{kind};base64,{data}" alt="{escape(alt)}" {size}>')


def _drawing(path: Path, picture: Picture) -> Markup:
    """An SVG without anything that runs or asks for a file, its ids told apart from those of other figures."""
    root = ElementTree.parse(path).getroot()
    if root.tag != f"{{{SVG}}}svg":
        raise ValueError("no drawing")
    prefix = re.sub(r"\W", "-", picture.name) + "-"
    for element in list(_kept(root)):
        for name, text in list(element.attrib.items()):
            local = name.rpartition("}")[2].lower()
            if local == "id":
                element.set(name, prefix + text)
            elif local == "href" and text.startswith("#"):
                element.set(name, f"#{prefix}{text[1:]}")
            elif local.startswith("on") or (local == "href" and not text.startswith("data:image/")):
                del element.attrib[name]
            elif "url(" in text:
                element.set(name, re.sub(r"url\((?!#)[^)]*\)", "none", text).replace("url(#", f"url(#{prefix}"))
    width = _points(root.get("width", ""))
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    # What matplotlib sets in a style sheet would hold for the whole page.
    root.attrib |= {"role": "img", "aria-label": picture.caption.alt, "stroke-linejoin": "round"}
    if math.isfinite(width):
        root.set("style", f"width: {round(width * ZOOM * 96 / 72)}px")
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _kept(element: ElementTree.Element) -> Iterator[ElementTree.Element]:
    """An element and all below it that draws; what does not is taken out."""
    yield element
    for child in list(element):
        if isinstance(child.tag, str) and child.tag.startswith(f"{{{SVG}}}") and child.tag.rpartition("}")[2] in DRAWN:
            yield from _kept(child)
        else:
            element.remove(child)


def _points(length: str) -> float:
    found = re.fullmatch(r"\s*([\d.]+)(pt|px|)\s*", length)
    return float(found[1]) * (0.75 if found[2] == "px" else 1) if found else math.nan
