"""What a figure is called and what it shows, in words for those who do not see it, told by the table beside it.

A figure is known by the columns of its table, whatever its file is called.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from sourcematters.report.tables import STRENGTHS
from sourcematters.report.words import Row, interval, listed, named, number, percent, sentence, value, whole, whose
from sourcematters.results import style

SHOWN = 8  # things that an alternative text lists

ABOUT = "The question, and what confounders do to an image (notebook 00)"
DATA = "The data (notebooks 10 and 11)"
CURVES = "Each confounder (notebooks 20 to 25)"
ALL = "All runs together (notebooks 30 to 32)"
WHERE = "Where the networks look (notebook 33)"
AUDIT = "The audit (notebook 40)"
OTHERS = "Others"
GROUPS = (ABOUT, DATA, CURVES, ALL, WHERE, AUDIT, OTHERS)
PAPER = {"fig1": "Fig. 1 of the paper", "fig2": "Fig. 2 of the paper", "fig3": "Fig. 3 of the paper"}
PAPER |= {"fig4": "Fig. 4 of the paper"}

Told = tuple[str, str, str]  # title, what is seen, group


class Caption(NamedTuple):
    """A figure's title in words, its alternative text, and the notebooks with which it is shown."""

    title: str
    alt: str
    group: str


def caption(name: str, table: Sequence[Row]) -> Caption:
    """The caption of the figure `name`, from the rows of its table (none: from its name alone)."""
    columns = set(table[0]) if table else set()
    tell = next((kind for needs, kind in KINDS if set(needs) <= columns), _other)
    title, alt, group = tell(name, table)
    start = name.split("_")[0]
    if start in PAPER:
        title, group = f"{PAPER[start]}: {title}", ABOUT if start in ("fig1", "fig2") else ALL
    elif "where" in name.split("_")[:2]:
        group = WHERE
    elif start == "audit":
        group = AUDIT
    elif start in ("overview", "against", "forest"):
        group = ALL
    sources = {row[column] for row in table for column in ("source", "a", "b") if row.get(column)}
    title, alt = (sentence(style.named(text, sources, _distinct(table, "task"))) for text in (title, alt))
    return Caption(title, alt, group)


def _distinct(table: Sequence[Row], column: str) -> list[str]:
    return list(dict.fromkeys(row.get(column, "") for row in table))


def _names(table: Sequence[Row], most: int = 0) -> str:
    return listed((named(name) for name in _distinct(table, "confounder")), most)


def _tasks(table: Sequence[Row]) -> str:
    tasks = [task for task in _distinct(table, "task") if task]
    return f" ({listed(tasks, 3)})" if tasks else ""


def _curves(name: str, table: Sequence[Row]) -> Told:
    """`statistics.summarise`: how the AUC goes with the strength, of each source."""
    said = []
    of_test = [row for row in table if row["test_set"] == "ood"] or table
    several = len(_distinct(of_test, "task")) > 1
    for task, confounder in dict.fromkeys((row["task"], row["confounder"]) for row in of_test):
        mine = [row for row in of_test if (row["task"], row["confounder"]) == (task, confounder)]
        ends = []
        for source in _distinct(mine, "source"):
            curve = sorted((value(row, "p_art"), value(row, "mean")) for row in mine if row["source"] == source)
            ends.append(f"{source} {number(curve[0][1])} to {number(curve[-1][1])}")
        said.append(f"{named(confounder)}{f' ({task})' * several}: {listed(ends, SHOWN)}")
    low, high = (f(value(row, "p_art") for row in of_test) for f in (min, max))
    alt = (
        f"Mean AUC on the test in which the confounder misleads, from strength {low:g} to {high:g} of its correlation "
        f"with the disease in training. {'; '.join(said[:SHOWN])}{_more(said)}."
    )
    return f"AUC against the strength of {_names(table, 4)}{_tasks(table)}", alt, CURVES


def _more(said: Sequence[str]) -> str:
    return f"; and {len(said) - SHOWN} more" if len(said) > SHOWN else ""


def _gallery(name: str, table: Sequence[Row]) -> Told:
    """`galleries.gallery_table`: an image without and with each confounder."""
    said = []
    for row in table:
        many, most = value(row, "input_changed_pixels"), value(row, "input_largest_change")
        if math.isfinite(many):
            said.append(
                f"{named(row['confounder'])} changes {percent(many)} of its pixels by up to {most:g} grey levels"
            )
        else:
            said.append(f"{named(row['confounder'])} changes {whole(row, 'changed_pixels'):,} pixels of the image")
    what = "An image without and with each confounder, the difference, and both magnified."
    seen = " What the network gets: " if any("input_seen_in" in row for row in table) else " "
    alt = f"{what}{seen}{'; '.join(said[:SHOWN])}{_more(said)}."
    return f"What {_names(table, 5)} {'do' if len(table) > 1 else 'does'} to an image", alt, CURVES


def _sheet(name: str, table: Sequence[Row]) -> Told:
    """`galleries.sheet_table`: images of each class."""
    ill = sum(row["label"] == "1" for row in table)
    which = "CT slices" if name.startswith("ct") else "images"
    return f"{which} of each class, as the network gets them", (
        f"{len(table)} {which} of {len(_distinct(table, 'patient_id'))} patients, {len(table) - ill} without and {ill} "
        "with the disease"
    ), DATA  # fmt: skip


def _taxonomy(name: str, table: Sequence[Row]) -> Told:
    tested = [row["leaf"] for row in table if row["tested"] == "True"]
    leaves = listed((f"{branch}: {listed(_leaves(table, branch))}" for branch in _distinct(table, "branch")), SHOWN)
    return "MICCAT, a taxonomy of confounders, and what acts on each leaf", (
        f"A tree from two levels to {len(table)} leaves ({leaves}); tested in the paper: {listed(tested)}"
    ), ABOUT  # fmt: skip


def _leaves(table: Sequence[Row], branch: str) -> list[str]:
    return [row["leaf"] for row in table if row["branch"] == branch]


def _calibration(name: str, table: Sequence[Row]) -> Told:
    ours, theirs = ([value(row, column) for row in table] for column in ("auc", "auc_keras"))
    return "Two kinds of AUC: what a shift of all scores does to each", (
        f"While all logits of an idealised network are shifted by {value(table[0], 'shift'):g} to "
        f"{value(table[-1], 'shift'):g}, the binary AUC stays at {number(min(ours))}, and the published kind goes from "
        f"{number(min(theirs))} to {number(max(theirs))}"
    ), ABOUT  # fmt: skip


def _noise(name: str, table: Sequence[Row]) -> Told:
    said = []
    for domain in _distinct(table, "domain"):
        row = next(row for row in table if row["domain"] == domain)
        sd, alike = value(row, "sd_hu"), value(row, "neighbour_autocorrelation")
        said.append(f"{domain}: standard deviation {sd:.0f} HU, neighbours correlate by {number(alike)}")
    return (
        "Noise added to a CT slice, in its image and in its projections",
        f"Slices and spectra. {'; '.join(said)}",
        DATA,
    )


def _paper(name: str, table: Sequence[Row]) -> Told:
    alike = sum(row.get("comparable", "") == "True" for row in table)
    apart = [value(row, "ours") - value(row, "published") for row in table]
    apart = [each for each in apart if math.isfinite(each)] or [math.nan]
    return "Our curves on the published ones", (
        f"{len(table)} points of {len(_distinct(table, 'panel'))} panels, {alike} of them comparable; ours less "
        f"published goes from {number(min(apart))} to {number(max(apart))}"
    ), ALL  # fmt: skip


def _leaning(name: str, table: Sequence[Row]) -> Told:
    said = [
        f"{named(row['confounder'])} {interval(value(row, 'effect'), value(row, 'low'), value(row, 'high'))}, "
        f"{row['verdict']}"
        for row in sorted(table, key=lambda row: -abs(value(row, "effect")) if row["effect"] else 0)
    ]
    alt = f"A row a confounder, strongest first, with its 95 % interval: {'; '.join(said[:SHOWN])}{_more(said)}."
    return "How far each confounder alone moves the model's AUC", alt, AUDIT


def _tells(name: str, table: Sequence[Row]) -> Told:
    known = sorted((row for row in table if row["auc"]), key=lambda row: -value(row, "auc"))
    said = [f"{row['what']} {interval(*(value(row, key) for key in ('auc', 'ci_low', 'ci_high')))}" for row in known]
    alt = f"With which AUC each thing alone tells the label: {'; '.join(said[:SHOWN])}{_more(said)}."
    return "What tells the label before any model is asked", alt, AUDIT


def _flipped(name: str, table: Sequence[Row]) -> Told:
    up = sum(row["flips"] == "to positive" for row in table)
    said = [
        f"{row['image_id']} from {number(value(row, 'score_without'))} to {number(value(row, 'score_with'))} with "
        f"{named(row['confounder'])}"
        for row in table
    ]
    alt = (
        f"{len(table)} images whose decision flips, {up} to positive and {len(table) - up} to negative, without and "
        f"with the confounder, and their scores: {'; '.join(said[:SHOWN])}{_more(said)}."
    )
    return "Images whose decision a confounder flips", alt, AUDIT


def _pairs(name: str, table: Sequence[Row]) -> Told:
    """`statistics.compare`: differences between two sources."""
    said = []
    for row in table:
        measured = interval(*(value(row, key) for key in ("difference", "ci_low", "ci_high")))
        said.append(f"{row['a']} less {row['b']} on {named(row.get('confounder', ''))} {measured}")
    alt = f"A row a pair of sources, with 95 % interval: {'; '.join(said[:SHOWN])}{_more(said)}."
    return f"How much more one source relies than another on {_names(table, 4)}{_tasks(table)}", alt, ALL


def _share(name: str, table: Sequence[Row]) -> Told:
    """Attribution on the confounder's mask beside the mask's share of the area, by method, source and strength."""
    said = []
    for name, method in dict.fromkeys((row.get("confounder", ""), row["method"]) for row in table):
        ends = []
        for source in _distinct(table, "source"):
            key = name, method, source
            mine = [row for row in table if (row.get("confounder", ""), row["method"], row["source"]) == key]
            if mine := sorted(mine, key=lambda row: value(row, "p_art")):
                first, last = (percent(value(row, "share")) for row in (mine[0], mine[-1]))
                ends.append(f"{source} {first} to {last}")
        said.append(f"{named(name)} by {method}: {listed(ends)}")
    alt = (
        f"Share of the attribution that lies on {_names(table, 4)}, which covers {percent(value(table[0], 'area'))} of "
        f"the image, from the weakest to the strongest correlation in training. {'; '.join(said[:SHOWN])}."
    )
    return f"How much of the {whose(table)} attention lies on {_names(table, 4)}", alt, WHERE


def _maps(name: str, table: Sequence[Row]) -> Told:
    return "Where the networks look, without and with the confounder", (
        f"Maps of attribution over {len(table)} images, a row a source; the confounder covers "
        f"{percent(value(table[0], 'area'))} of the first"
    ), WHERE  # fmt: skip


def _frequencies(name: str, table: Sequence[Row]) -> Told:
    said = []
    for source in _distinct(table, "source"):
        mine = [row for row in table if row["source"] == source and math.isfinite(value(row, "change"))]
        if mine:
            most = max(mine, key=lambda row: value(row, "change"))
            said.append(f"{source} by {number(value(most, 'change'))} at {value(most, 'frequency'):.2g}")
    return f"Which spatial frequencies move the networks{_tasks(table)}", (
        f"How far waves of each spatial frequency move the log-odds, at most: {listed(said)}"
    ), WHERE  # fmt: skip


def _other(name: str, table: Sequence[Row]) -> Told:
    words = name.replace("_", " ")
    columns = listed((each.replace("_", " ") for each in table[0]), SHOWN) if table else ""
    alt = f"{words}: a figure of {len(table)} rows with {columns}" if table else f"{words}, without a table"
    return words, alt, OTHERS


KINDS: tuple[tuple[tuple[str, ...], Callable[[str, Sequence[Row]], Told]], ...] = (
    (("panel", "ours", "published"), _paper),
    (STRENGTHS, _curves),
    (("score_without", "score_with", "flips", "image_id", "confounder"), _flipped),
    (("confounder", "masked_pixels", "changed_pixels"), _gallery),
    (("branch", "leaf", "tested"), _taxonomy),
    (("shift", "auc", "auc_keras"), _calibration),
    (("domain", "sd_hu", "neighbour_autocorrelation"), _noise),
    (("confounder", "effect", "low", "high", "verdict"), _leaning),
    (("what", "of", "auc"), _tells),
    (("a", "b", "difference", "ci_low", "ci_high"), _pairs),
    (("image_id", "area"), _maps),
    (("image_id", "patient_id", "label"), _sheet),
    (("source", "p_art", "method", "share", "area"), _share),
    (("source", "p_art", "frequency", "change"), _frequencies),
)
