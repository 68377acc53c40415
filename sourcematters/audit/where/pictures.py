"""Figures and sentences of where networks look: shares on an artefact, maps on images, sensitivity by frequency."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from numpy.typing import NDArray

from sourcematters.audit.where.pairs import Pairs
from sourcematters.results.style import (
    FULL,
    NATURAL,
    TEXT,
    UNTRAINED,
    Style,
    frame,
    head,
    letters,
    literal,
    named,
    page,
    picture,
    styles,
    title_of,
    written,
)

GREY = "#909090"
NO_PROOF = (
    "Attribution is no proof of what a network uses: what shuffled weights show as well, was not learned "
    "(Adebayo et al. 2018)."
)
TIMES = 100  # the mean, at the ends of the maps' scale


def in_words(table: pd.DataFrame) -> Iterator[str]:
    """A sentence on each confounder, source and method of `shares.SHARES`, at its strengths; then what it is worth."""
    of = ["task", "confounder", "source", "method"]
    for (_, _, source, method), part in table.dropna(subset="share").groupby(of, sort=False):
        learned, drawn = (part[part["randomized"] == value].sort_values("p_art") for value in (0, 1))
        at = ", ".join(_share(row) for row in learned.itertuples())
        beside = f"; shuffled weights {_percent(drawn['share'].mean())}" if len(drawn) else ""
        yield f"{source}, {method}: {at}{beside}; it is {_percent(part['area'].mean())} of the image."
    yield NO_PROOF


def _share(row: Any) -> str:
    strength = f" at strength {row.p_art:g}" if np.isfinite(row.p_art) else ""
    return (
        f"{_percent(row.share)} [{_percent(row.low)}, {_percent(row.high)}] on the {title_of(row.confounder)}{strength}"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.{0 if share >= 0.0995 else 1}f} %"


def costs(shares: pd.DataFrame) -> Iterator[str]:
    """What an attribution took, in s an image, and which method has nothing to show."""
    took = shares[shares["randomized"] == 0].groupby("method", sort=False)["seconds"].mean()
    empty = shares.groupby("method")["share"].agg(lambda each: each.isna().all())
    yield "Computed in " + ", ".join(f"{s:.2g} s an image by {m}" for m, s in took.items() if not empty[m]) + "."
    for method in empty[empty].index:
        yield f"{method} is left out: the network does not end in maps, or its layers cannot be watched."


def shares(table: pd.DataFrame, note: str = "") -> Figure:
    """A row a confounder, a column a method: the share of attribution on it against strength, a line a source.

    Thin and grey, the same networks with shuffled weights; dotted, the confounder's share of the area.
    """
    table = table.dropna(subset="share")
    names, methods = (list(dict.fromkeys(table[column])) for column in ("confounder", "method"))
    looks = styles(table["source"].unique())
    figure = Figure(figsize=page(FULL, 30 + 48 * len(names)), layout="constrained")
    grid = figure.subplots(len(names), len(methods), sharey="row", sharex=True, squeeze=False)
    heads, note = iter(letters(grid.size)), named(note, looks)
    for name, line in zip(names, grid, strict=True):
        for method, axes in zip(methods, line, strict=True):
            part = table[(table["confounder"] == name) & (table["method"] == method)]
            _curves(axes, part, looks)
            axes.axhline(part["area"].mean(), color="black", linestyle=":", linewidth=0.9)
            head(axes, method, letter=next(heads), caution=note, width=(FULL - 20) / len(methods) - 8)
        line[0].set_ylabel(f"share of the attribution\non the {literal(title_of(name))}", fontsize=TEXT)
    for axes in grid[-1]:
        axes.set_xlabel("share of positives that carry it\nin training", fontsize=TEXT)
    handles = [_handle(style, written(title_of(source, "source"))) for source, style in looks.items()]
    handles.append(Line2D([], [], color=GREY, linewidth=0.7, label="the same, weights shuffled"))
    handles.append(Line2D([], [], color="black", linestyle=":", linewidth=0.9, label="its share of the area"))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(5, len(handles)), fontsize=TEXT, frameon=False)
    _say(figure)
    return figure


def _curves(axes: Axes, part: pd.DataFrame, looks: Mapping[str, Style]) -> None:
    strengths = np.sort(part["p_art"].unique())
    step = 0.012 * (strengths[-1] - strengths[0] or 1)
    for place, (source, style) in enumerate(looks.items()):
        shift = (place - (len(looks) - 1) / 2) * step
        rows = part[part["source"] == source].sort_values("p_art")
        drawn, learned = rows[rows["randomized"] == 1], rows[rows["randomized"] == 0]
        axes.plot(drawn["p_art"], drawn["share"], color=GREY, linestyle=style.linestyle, linewidth=0.7, zorder=1)
        look: dict[str, Any] = {"color": style.color, "zorder": 3}
        axes.plot(learned["p_art"], learned["share"], linestyle=style.linestyle, linewidth=1.2, **look)
        error = [learned["share"] - learned["low"], learned["high"] - learned["share"]]
        face = "white" if style.hollow else style.color
        axes.errorbar(
            learned["p_art"] + shift, learned["share"], yerr=error, fmt=style.marker, markersize=3.5,
            markerfacecolor=face, elinewidth=0.9, capsize=1.5, **look,
        )  # fmt: skip
    axes.set_yscale("log")
    _in_percent(axes.yaxis)
    axes.set_xticks(strengths, [f"{p:g}" for p in strengths])
    frame(axes)


def _in_percent(axis: Axis, at: tuple[int, ...] = (1, 2, 5)) -> None:
    """Ticks of a log scale, in percent, at so many times each power of ten: shares seldom span two."""
    axis.set_major_locator(LogLocator(subs=at))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))


def _handle(style: Style, label: str) -> Line2D:
    face = "white" if style.hollow else style.color
    return Line2D([], [], marker=style.marker, markerfacecolor=face, markersize=3.5, label=label, **_line(style))


def _line(style: Style) -> dict[str, Any]:
    return {"color": style.color, "linestyle": style.linestyle, "linewidth": 1.2}


def _say(figure: Figure, about: str = "") -> None:
    """Above all panels what they are about, and what attribution is worth."""
    figure.suptitle(literal("\n".join(filter(None, [about, NO_PROOF]))), fontsize=TEXT)


def maps(rows: Mapping[str, Mapping[str, NDArray]], pairs: Pairs, name: str, p_art: float, note: str = "") -> Figure:
    """Some images, above, without and with the confounder, and a row a source: where its network looks, by method.

    `rows` holds of each source `shares.maps`; the last row is the last source's network with shuffled weights. On one
    scale: times the mean of the map's absolute values; red speaks for label 1, blue for label 0.
    """
    methods = list(next(iter(rows.values())))
    shown = [(image, carries) for image in range(len(pairs.images)) for carries in (0, 1)]
    last = list(rows)[-1]
    lines = [(title_of(source, "source"), each, 0) for source, each in rows.items()]
    lines.append((f"{title_of(last, 'source')},\nshuffled", rows[last], 2))
    height = 28 + 21.6 * (len(lines) + 1)  # mm
    figure = Figure(figsize=page(FULL, height))  # so many panels take a layout engine long
    places = {"left": 0.06, "right": 0.87, "bottom": 2.5 / height, "top": 1 - 21.6 / height, "wspace": 0.06}
    grid = figure.subplots(len(lines) + 1, len(shown) * len(methods), squeeze=False, gridspec_kw=places)
    norm = SymLogNorm(linthresh=1, vmin=-TIMES, vmax=TIMES)
    seen: Any = None
    for column, axes in enumerate(grid[0]):
        image, carries = shown[column // len(methods)]
        if column % len(methods):
            axes.set_axis_off()
            continue
        picture(axes, (pairs.carrying if carries else pairs.without)[image])
        text = f"label {pairs.images['label'].iloc[image]}, {'with' if carries else 'without'}"
        axes.set_title(text, fontsize=TEXT, loc="left")
    for (text, found, start), line in zip(lines, grid[1:], strict=True):
        for column, axes in enumerate(line):
            (image, carries), method = shown[column // len(methods)], methods[column % len(methods)]
            values = found[method][start + carries, image].astype(float)
            values = values / (np.abs(values).mean() or 1)
            picture(axes, (pairs.carrying if carries else pairs.without)[image], alpha=0.45)
            clear = np.clip(np.abs(norm(values) - 0.5) * 2.5, 0, 0.9)
            seen = axes.imshow(values, cmap="RdBu_r", norm=norm, alpha=clear)
            axes.contour(pairs.masks[image], levels=[0.5], colors="black", linewidths=0.4)
            if text == lines[0][0]:
                axes.set_title(method.replace(" ", "\n"), fontsize=TEXT)
        line[0].set_ylabel(literal(text), fontsize=TEXT)
    bar = figure.colorbar(seen, cax=figure.add_axes((0.89, 0.2, 0.013, 0.5)))
    ticks = [-TIMES, -10, -1, 0, 1, 10, TIMES]
    bar.set_ticks(ticks, labels=[f"{tick}".replace("-", "\N{MINUS SIGN}") for tick in ticks])
    bar.ax.tick_params(labelsize=TEXT)
    bar.set_label("attribution, times its mean size\n(red: for label 1, blue: for label 0)", fontsize=TEXT)
    about = f"{title_of(name)} (outlined), networks of strength {p_art:g}"
    _say(figure, "\n".join(filter(None, [named(note, rows), about])))
    return figure


def frequencies(table: pd.DataFrame, note: str = "") -> Figure:
    """A row a confounder, a column a strength: the change of the log-odds by waves of each frequency, a line a source.

    Grey, what the confounder itself changes at each frequency, its largest as high as the panel.
    """
    names, strengths = list(dict.fromkeys(table["confounder"])), np.sort(table["p_art"].unique())
    looks = styles(table["source"].unique())
    figure = Figure(figsize=page(FULL, 30 + 48 * len(names)), layout="constrained")
    grid = figure.subplots(len(names), len(strengths), sharey="row", sharex=True, squeeze=False)
    heads, note = iter(letters(grid.size)), named(note, looks)
    for name, line in zip(names, grid, strict=True):
        for strength, axes in zip(strengths, line, strict=True):
            part = table[(table["confounder"] == name) & (table["p_art"] == strength)]
            beside = axes.twinx()
            holds = part.drop_duplicates("frequency").sort_values("frequency")
            beside.fill_between(holds["frequency"], holds["spectrum"], color="#E4E4E4", linewidth=0)
            beside.set(ylim=(0, 1), yticks=[])
            beside.spines[:].set_visible(False)
            axes.set_zorder(beside.get_zorder() + 1)
            axes.patch.set_visible(False)
            for source, style in looks.items():
                rows = part[part["source"] == source].sort_values("frequency")
                axes.plot(
                    rows["frequency"], rows["change"], color=style.color, linestyle=style.linestyle, linewidth=1.2
                )
                axes.fill_between(
                    rows["frequency"], rows["low"], rows["high"], color=style.color, alpha=0.2, linewidth=0
                )
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            title, width = f"{literal(title_of(name))}, strength {strength:g}", (FULL - 15) / len(strengths) - 8
            head(axes, title, letter=next(heads), caution=note, width=width)
            frame(axes)
        line[0].set_ylim(0, 1.05 * table.loc[table["confounder"] == name, "high"].max())
        line[0].set_ylabel("mean change of the log-odds", fontsize=TEXT)
    for axes in grid[-1]:
        axes.set_xlabel("cycles an image", fontsize=TEXT)
    handles = [
        Line2D([], [], label=written(title_of(source, "source")), **_line(style)) for source, style in looks.items()
    ]
    handles.append(Line2D([], [], color="#D0D0D0", linewidth=5, label="what the confounder changes"))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(5, len(handles)), fontsize=TEXT, frameon=False)
    return figure


def of_model(table: pd.DataFrame, note: str = "") -> Figure:
    """Of one finished model: a row a confounder, a column a method; the share of attribution on it with its interval.

    Grey and hollow, the model with shuffled weights; the tick is the confounder's share of the area.
    """
    table = table.dropna(subset="share")
    names, methods = (list(dict.fromkeys(table[column])) for column in ("confounder", "method"))
    figure = Figure(figsize=page(FULL, 33 + 7 * len(names)), layout="constrained")
    panels = figure.subplots(1, len(methods), sharey=True, squeeze=False)[0]
    for method, axes, letter in zip(methods, panels, letters(len(methods)), strict=True):
        for place, name in enumerate(names):
            rows = table[(table["confounder"] == name) & (table["method"] == method)]
            axes.plot(rows["area"].iloc[:1], [place], marker="|", markersize=9, color="black", linestyle="")
            for row in rows.sort_values("randomized", ascending=False).itertuples():
                color, face = (GREY, "white") if row.randomized else (NATURAL.color, NATURAL.color)
                axes.plot([row.low, row.high], [place, place], color=color, linewidth=1.2 - 0.5 * row.randomized)
                axes.plot(row.share, place, marker="o", color=color, markerfacecolor=face, markersize=4, linestyle="")
        axes.set_xscale("log")
        _in_percent(axes.xaxis, at=(1, 3))  # for more there is no room
        axes.set_yticks(range(len(names)), [literal(title_of(name)) for name in names], fontsize=TEXT)
        axes.set(ylim=(len(names) - 0.4, -0.6))
        head(axes, method, letter=letter, caution=note, width=(FULL - 25) / len(methods) - 8)
        axes.set_xlabel("share of the attribution on it", fontsize=TEXT)
        frame(axes)
    handles = [
        Line2D([], [], color=NATURAL.color, marker="o", markersize=4, label="the model"),
        Line2D([], [], color=GREY, marker="o", markersize=4, markerfacecolor="white", label="its weights shuffled"),
        Line2D([], [], color=UNTRAINED.color, marker="|", markersize=9, linestyle="", label="the share of the area"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=TEXT, frameon=False)
    _say(figure)
    return figure
