"""The paper's curves: a tidy table in, a matplotlib Figure out; nothing touches pyplot or any global setting.

`save` and `caption` serve every figure of the package.
"""

import itertools
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sourcematters import files
from sourcematters.errors import StudyError
from sourcematters.results import curves, published
from sourcematters.results.style import (
    FULL,
    HALF,
    LETTER,
    ONE,
    TEXT,
    fine_lines,
    head,
    letters,
    literal,
    named,
    number,
    page,
    styles,
    title_of,
    written,
)

ROWS = {
    "ood": "o.o.d. test: confounder\non the healthy only",
    "iid": "i.i.d. test: on the\ndiseased, as in training",
}
STRENGTH = "strength $p_\\mathrm{art}$: share of the diseased in training\nwho carry the confounder"
ABREAST = 5  # panels, in a row of a page
PANEL = 38  # mm, its height with its title
TICK = 4.4  # mm, of a strength at the axis
KINDS = ("png", "pdf", "svg", "csv")  # of file, that `save` writes

Labels = tuple[str, Mapping[str, str]]
"""A column of the table, and what to print for each of its values, in the order in which they are drawn."""


def caption(cautions: Iterable[str]) -> str:
    """What a figure must say of its data and sources: the distinct cautions of a table's column `caution`."""
    return "; ".join(_parts(cautions))


def _parts(cautions: Iterable[str]) -> list[str]:
    # pandas reads an empty cell as NaN, which is no text.
    parts = (part for caution in cautions if isinstance(caution, str) for part in caution.split("; "))
    return list(dict.fromkeys(filter(None, parts)))


def _shared(groups: Iterable[list[str]]) -> list[str]:
    """What stands in every one of these lists."""
    first, *others = groups or [[]]
    return [part for part in first if all(part in other for other in others)]


def cautions(table: pd.DataFrame) -> list[str]:
    """The column `caution` in words: what holds of every task, then of each task by itself, as `mass-ct: phantoms`."""
    by_task = {str(task): _parts(part["caution"]) for task, part in table.groupby("task", sort=False)}
    shared = _shared(by_task.values())
    own = {task: "; ".join(part for part in parts if part not in shared) for task, parts in by_task.items()}
    return [*(["; ".join(shared)] if shared else []), *(f"{task}: {text}" for task, text in own.items() if text)]


def robustness(
    *, data: pd.DataFrame, confounders: Iterable[str] = (), baseline: Mapping[str, float] = {}, note: str = ""
) -> Figure:
    """Fig. 3: AUC against the confounder's strength, o.o.d. row over i.i.d. row, a column a confounder.

    `data` is the table of `statistics.summarise` for one backbone: mean over folds, with the 95 % interval over folds
    and test patients as error bars (shifted sideways by source so that they do not hide each other).
    Of two folds both are drawn, and no interval (columns `lowest`, `highest`). The clean test is a thin line in both
    rows. `confounders` picks and orders the columns, all if empty. `baseline`, the published AUC by task, is drawn as
    a dotted line. What the column `caution` says of a panel is printed on it (no column: nothing), `note` on top. In
    each panel stands how many images its test has, if there are columns `n` and `positives`. Raises StudyError if a
    panel would mix tasks or backbones.
    """
    names = list(dict.fromkeys(confounders or data["confounder"]))
    data, clean = _chosen(data, names, ROWS, alike=("task", "backbone"))
    tasks = dict(zip(data["confounder"], data["task"], strict=True))
    several = len(set(tasks.values())) > 1
    return _panels(
        data,
        rows=("test_set", {test_set: f"{label}\nAUC" for test_set, label in ROWS.items()}),
        columns=(
            "confounder",
            {name: title_of(name) + f", {title_of(tasks[name], 'task')}" * several for name in names},
        ),
        levels={(row, name): baseline[task] for row in ROWS for name, task in tasks.items() if task in baseline},
        empty="no such test, or too few images",
        clean=clean,
        note=note,
    )


def by_task(*, data: pd.DataFrame, confounders: Iterable[str], baseline: Mapping[str, float], note: str = "") -> Figure:
    """Fig. 4: o.o.d. AUC against the confounder's strength, a row a task, a column a confounder.

    As `robustness`; with X-ray and CT as tasks, and the two designs of noise as `confounders`, it is the paper's.
    """
    names = list(confounders)
    data, clean = _chosen(data, names, ["ood"], alike=("backbone",))
    tasks = list(dict.fromkeys(data["task"]))
    return _panels(
        data,
        rows=("task", {task: f"{written(title_of(task, 'task'))}\n{ROWS['ood']}\nAUC" for task in tasks}),
        columns=("confounder", {name: title_of(name) for name in names}),
        levels={(task, name): baseline[task] for task in tasks if task in baseline for name in names},
        empty="no such runs",
        clean=clean,
        note=note,
    )


def against(*, data: pd.DataFrame, note: str = "") -> Figure:
    """Our curves on the published ones: o.o.d. row over i.i.d. row, a column a panel of Figs. 3 and 4.

    `data` is the table of `published.compare`. Ours as in `robustness`; the published means are hollow markers,
    their bars the error of reading them off the paper's figures. `note` says on top what the comparison is worth.
    """
    titles = published.table("panels").set_index("panel")["title"].loc[data["panel"].unique()]
    _alike(data, "panel", ("data", "task", "backbone"))
    return _panels(
        data.rename(columns={"ours": "mean"}),
        rows=("test_set", {test_set: f"{label}\nAUC as published" for test_set, label in ROWS.items()}),
        columns=("panel", titles.to_dict()),
        levels={},
        empty="not published",
        note=note,
    )


def _chosen(
    data: pd.DataFrame, names: list[str], test_sets: Iterable[str], alike: Iterable[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of these confounders and test sets, and those of the clean test, as a part of each of their panels."""
    data, test_sets = data[data["confounder"].isin(names)], list(test_sets)
    clean = pd.concat([data[data["test_set"] == "clean"].assign(test_set=name) for name in test_sets])
    data = data[data["test_set"].isin(test_sets)]
    _alike(data, "confounder", alike)
    return data, clean


def _alike(data: pd.DataFrame, panel: str, columns: Iterable[str]) -> None:
    for (name, part), column in itertools.product(data.groupby(panel), columns):
        if len(found := sorted(part[column].unique())) > 1:
            raise StudyError(
                f"figure: {name} has more than one {column} ({', '.join(found)}). Draw one at a time: "
                f"data[data.{column} == {found[0]!r}]."
            )


def _panels(
    data: pd.DataFrame,
    *,
    rows: Labels,
    columns: Labels,
    levels: Mapping[tuple[str, str], float],
    empty: str,
    note: str = "",
    clean: pd.DataFrame | None = None,
) -> Figure:
    """A grid of panels with a curve a source, under one legend; `levels` are dotted lines, by row and column.

    More than `ABREAST` columns go on below. A panel without any row says `empty`.
    """
    (row_of, labels), (column_of, titles) = rows, columns
    told, style = data.assign(caution=data.get("caution", "")), styles(data["source"])
    down = math.ceil(len(titles) / ABREAST)
    abreast = math.ceil(len(titles) / down)
    width = {1: ONE, 2: HALF}.get(abreast, FULL)
    panel_mm = (width - 20) / abreast - 3
    names = {name: "\n".join(textwrap.wrap(title, round(panel_mm / 1.7))) for name, title in titles.items()}
    said = {
        place: named("; ".join([*_size(part), *_parts(part["caution"])]), style)
        for place, part in told.groupby([row_of, column_of])
    }
    handles = curves.legend(data, style, levels=bool(levels), clean=clean is not None and len(clean) > 0)
    across = 4 if width == FULL else 2
    above = 4 * math.ceil(len(handles) / across) + 3 * len(textwrap.wrap(note, round(width / LETTER)))
    lines = max((len(fine_lines(text, panel_mm)) for text in said.values()), default=0)
    figure = Figure(
        figsize=page(width, 16 + above + 4 * down + down * len(labels) * (PANEL + 2.6 * lines)), layout="constrained"
    )
    found = _grid(figure, list(labels), list(titles), abreast)
    for (axes, row, column), letter in zip(found, letters(len(found)), strict=True):
        part, first = data[(data[row_of] == row) & (data[column_of] == column)], row == next(iter(labels))
        curves.panel(axes, part, style, empty=empty, level=levels.get((row, column)))
        if clean is not None:
            curves.thin(axes, clean[(clean[row_of] == row) & (clean[column_of] == column)], style)
        caution = said.get((row, column), "")
        head(axes, names[column] if first else "", letter=letter, caution=caution, width=panel_mm)
        strengths = sorted(data.loc[data[column_of] == column, "p_art"].unique())
        axes.set_xticks(strengths, _ticks(strengths, panel_mm) if row == list(labels)[-1] else [""] * len(strengths))
        place = list(titles).index(column)
        if place % abreast == 0:
            axes.set_ylabel(labels[row], fontsize=TEXT)
        if "published" not in data and (place % abreast == abreast - 1 or place == len(titles) - 1):
            curves.tell_chance(axes)
    folds = curves.folds_in_words(data["folds"], "published" in data)
    figure.supxlabel(f"{STRENGTH}\n{folds}", fontsize=TEXT)
    figure.legend(
        # Matplotlib fills column by column, people read rows.
        handles=[handle for start in range(across) for handle in handles[start::across]],
        ncols=across, loc="outside upper center", frameon=False, handlelength=2.6, columnspacing=1.2, fontsize=TEXT,
        title="\n".join(literal(textwrap.fill(line, round(width / LETTER))) for line in note.splitlines()),
        title_fontsize=TEXT,
    )  # fmt: skip
    return figure


def _ticks(strengths: Iterable[float], panel_mm: float) -> list[str]:
    """A label for each strength, if there is room beside the one before."""
    labels, last = list[str](), -math.inf
    for strength in strengths:
        room = (strength - last) * panel_mm > TICK
        labels.append(f"{strength:.2g}" if room else "")
        last = strength if room else last
    return labels


def _grid(figure: Figure, rows: Sequence[str], columns: Sequence[str], abreast: int) -> list[tuple[Axes, str, str]]:
    """A panel for each row and column, in the order in which they are read: so many abreast, the others below."""
    down = math.ceil(len(columns) / abreast)
    grid = figure.subplots(down * len(rows), abreast, sharey=True, squeeze=False)
    found = []
    for block, row, place in itertools.product(range(down), range(len(rows)), range(abreast)):
        axes, column = grid[block * len(rows) + row, place], block * abreast + place
        if column < len(columns):
            found.append((axes, rows[row], columns[column]))
        else:
            axes.remove()
    return found


def _size(panel: pd.DataFrame) -> list[str]:
    """How many images the test of a panel has, where its table tells."""
    if "n" not in panel:
        return []
    n, positives = panel[["n", "positives"]].min()
    return [f"n = {number(n)} ({number(positives)} positive)"]


def save(figure: Figure, path: Path, table: pd.DataFrame) -> list[Path]:
    """Write `path`.png (200 dpi), .pdf, .svg and .csv (the tidy table), always the same bytes; return their paths.

    Text stays text in .pdf and .svg, as journals, readers' browsers and screen readers want it.
    """
    png, pdf, svg, csv = (path.with_name(f"{path.name}.{kind}") for kind in KINDS)
    with files.replacing(png) as beside:
        figure.savefig(beside, dpi=200)
    with files.replacing(pdf) as beside, matplotlib.rc_context({"pdf.fonttype": 42}):
        figure.savefig(beside, dpi=200, metadata={"CreationDate": None})
    words = matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "sourcematters"})
    with files.replacing(svg) as beside, words:
        figure.savefig(beside, dpi=150, metadata={"Date": None})
    files.write_csv(csv, table)
    return [png, pdf, svg, csv]
