"""Makes what follows from the package: the tables of tables.md and confounders.md, and the pictures of the latter.

    python docs/make_pages.py

What stands in a page above `MADE` is written by hand, and stays. Tests compare the pages with what this makes.
"""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import matplotlib
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sourcematters import confounders, files
from sourcematters.confounders import HOUNSFIELD, ORIGINAL, Confounder, key_for, taxonomy
from sourcematters.training.image_bank import altered_grey

DOCS = Path(__file__).parent
MADE = "<!-- From here on made by docs/make_pages.py. -->\n"
EVERYWHERE = "*"  # the table of columns.csv that says what a column means where a table does not say it itself
PLACES = {
    "Tables of a study": r"tables/(?!audit_)|plans/",
    "Tables of an audit": r"tables/audit_",
    "Tables behind figures": r"figures/",
    "Runs, and what is remembered": r"",
}
SIDE, GAP, HEAD = 300, 6, 24  # px, of a picture's panels, between them, and of the strip of words above them
DARK, WORDS = 34, 235  # grey levels


def documented() -> pd.DataFrame:
    """columns.csv, a row a column: table (file names, in capitals what differs), column, unit, meaning; as text.

    A row without a column is on the table itself. What a row leaves out stands in the table `EVERYWHERE`.
    """
    table = pd.read_csv(DOCS / "columns.csv", dtype=str, keep_default_na=False)
    usual = table[table["table"] == EVERYWHERE].set_index("column")
    rows = table[table["table"] != EVERYWHERE].copy()
    for name in ("unit", "meaning"):
        rows[name] = rows[name].where(rows[name] != "", rows["column"].map(usual[name]).fillna(""))
    return rows.reset_index(drop=True)


def tables() -> str:
    """The made part of tables.md: what is in every CSV file, by where it lies."""
    lines, groups = [MADE], dict(list(documented().groupby("table", sort=False)))
    for place, pattern in PLACES.items():
        lines.append(f"## {place}\n")
        for name in [name for name in groups if re.match(pattern, name)]:
            rows = groups.pop(name)
            about = rows.loc[rows["column"] == "", "meaning"].str.cat(sep=" ")
            lines += [f"### {name}\n", f"{about}\n", "| column | unit | meaning |", "|---|---|---|"]
            for row in rows[rows["column"] != ""].itertuples():
                columns = ", ".join(f"`{column}`" for column in row.column.split(", "))
                lines.append(f"| {columns} | {row.unit} | {row.meaning} |")
            lines.append("")
    return "\n".join(lines)


def gallery() -> str:
    """The made part of confounders.md: every confounder of the package by its leaf of MICCAT."""
    lines, kinds = [MADE], _of_the_package()
    for (level, branch), leaves in taxonomy.MICCAT.items():
        lines.append(f"## {level}, {branch}\n")
        for leaf in leaves:
            for name in [name for name, kind in kinds.items() if kind.model_fields["leaf"].default == leaf]:
                lines += [*_told(name, kinds[name], leaf), ""]
    lines.append("## on a leaf that you name\n")
    for name in [name for name, kind in kinds.items() if kind.model_fields["leaf"].is_required()]:
        lines += [*_told(name, kinds[name], "the one that you give it as `leaf`"), ""]
    return "\n".join(lines)


def _of_the_package() -> dict[str, type[Confounder]]:
    return {name: kind for name, kind in confounders.known().items() if kind.__module__.startswith("sourcematters.con")}


def _told(name: str, kind: type[Confounder], leaf: str) -> Iterator[str]:
    """A confounder's section: what it is, where it occurs, how it looks, its parameters."""
    yield f"### {name}\n"
    where = leaf if leaf.startswith("the") else f"*{leaf}*"
    yield f"**{kind.title}**, on the leaf {where}. {' '.join((inspect.getdoc(kind) or '').split())}\n"
    yield f"*In practice.* {kind.practice}\n"
    if kind.sampled:
        yield "Sampled: nothing is drawn, a column of the cohort says who carries it.\n"
    else:
        made = confounders.make(name)
        others = "" if made.base == ORIGINAL else f" against `{made.base.label}`"
        yield f"![{kind.title}: a drawn image without it, with it, and the difference]({picture_of(made)})\n"
        yield f"Drawn: `{made.carrier.label}`{others}.\n"
    yield "| parameter | default | allowed | what |"
    yield "|---|---|---|---|"
    own = kind.parameters()
    for key, field in kind.model_fields.items():
        if key not in own and not field.is_required():
            continue
        default = "none: to be given" if field.is_required() else f"`{_plain(field.default)}`".replace("``", "empty")
        yield f"| `{key}` | {default} | {_allowed(field)} | {field.description} |"


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def _allowed(field: Any) -> str:
    """The values that a parameter may have, in words."""
    if choices := get_args(field.annotation):
        return ", ".join(f"`{choice}`" for choice in choices)
    words = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
    limits = [f"{words[key]} {getattr(each, key):g}" for each in field.metadata for key in words if hasattr(each, key)]
    kinds = {bool: "true or false", str: "text", int: "whole number", float: "number"}
    return ", ".join([kinds[field.annotation]] * (not limits or field.annotation is int) + limits)


def picture_of(confounder: Confounder) -> str:
    """Where the picture of a drawn confounder lies; another revision of it is another file."""
    revision = type(confounder).revision
    return f"gallery/{confounder.name}{f'-{revision}' if revision > 1 else ''}.webp"


def picture(confounder: Confounder) -> Image.Image:
    """A drawn image without it, with it, and the signed difference, mid-grey where nothing changes, side by side."""
    image = _ct() if confounder.carrier.space == HOUNSFIELD else _film()
    without, carrying = (
        altered_grey(image, alteration, key_for(0, "gallery", alteration))[0].astype(np.int16)
        for alteration in (confounder.base, confounder.carrier)
    )
    change = carrying - without
    strong = np.percentile(np.abs(change[change != 0]), 95)
    factor = max(f for f in (1, 2, 4, 8, 16, 32) if f == 1 or f * strong <= 127)
    panels = {
        "without": without,
        "with": carrying,
        f"difference \u00d7 {factor}": np.clip(128 + factor * change, 0, 255),
    }
    sheet = Image.new("L", (3 * SIDE + 2 * GAP, HEAD + SIDE), DARK)
    font = ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", 14)
    for place, (words, panel) in enumerate(panels.items()):
        left = place * (SIDE + GAP)
        sheet.paste(_small(panel), (left, HEAD))
        ImageDraw.Draw(sheet).text((left + SIDE // 2, HEAD // 2), words, fill=WORDS, font=font, anchor="mm")
    return sheet


def _small(grey: NDArray[np.int16]) -> Image.Image:
    return Image.fromarray(grey.astype(np.uint8)).resize((SIDE, SIDE), Image.Resampling.BOX)


def _film() -> NDArray[np.uint8]:
    from sourcematters.demo import phantoms

    return phantoms.draw(0, "gallery", "gallery", sex="M", lesion=True, size=2 * SIDE)


def _ct() -> NDArray[np.int16]:
    from scipy.ndimage import zoom

    from sourcematters.demo import ct_phantoms

    slice_hu = ct_phantoms.draw(0, ct_phantoms.patient(0, "gallery"), 0.0)
    return np.rint(zoom(slice_hu.astype(float), 3, order=1)).astype(np.int16)


def write(page: str, made: str) -> None:
    """Put `made` into a page, below what is written by hand."""
    by_hand = (DOCS / page).read_text(encoding="utf-8").partition(MADE)[0]
    files.write_text(DOCS / page, by_hand + made)


def main() -> None:
    """Write both pages, and all pictures anew."""
    (DOCS / "gallery").mkdir(exist_ok=True)
    for old in (DOCS / "gallery").glob("*.webp"):
        old.unlink()
    for name, kind in _of_the_package().items():
        if not kind.sampled:
            made = confounders.make(name)
            picture(made).save(DOCS / picture_of(made), quality=70, method=6)
    write("tables.md", tables())
    write("confounders.md", gallery())


if __name__ == "__main__":
    main()
