"""What stands on the page, in its order: every section as plain data, which is also what report.json has."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sourcematters.report import data, findings
from sourcematters.report.findings import Answer, Difference
from sourcematters.report.tables import every, numeric, rows
from sourcematters.report.words import (
    Row,
    interval,
    listed,
    named,
    number,
    percent,
    sentence,
    value,
    whole,
    whose,
)
from sourcematters.results import statistics, verdicts
from sourcematters.results.figures import caption, cautions
from sourcematters.results.verdicts import p_in_words

Cell = str | tuple[str, float]  # what stands there, and by what it is sorted
Table = dict[str, Any]
FEW_FOLDS = 5  # from there on the primary analysis keeps its size (docs/statistics.md)
DECLARED = (
    "Declared before any of it was computed: for each task and confounder the mean over folds of the difference in "
    "reliance, two-sided, corrected by Holm over all tasks and confounders of a pair of sources."
)


def table(title: str, head: Sequence[str], cells: Sequence[Sequence[Cell]], file: str = "") -> Table:
    """A table of the page: its caption, its header, its cells, and its file in the results folder.

    Columns that are empty, or name the one task of all rows, are left out.
    """
    texts = [[cell if isinstance(cell, str) else cell[0] for cell in column] for column in zip(*cells, strict=True)]
    kept = [k for k, column in enumerate(texts) if any(column) and not (head[k] == "Task" and len(set(column)) == 1)]
    rows = [[row[k] for k in kept] for row in cells]
    return {"title": title, "head": [head[k] for k in kept], "rows": rows, "file": file}


def measured(found: float, low: float = math.nan, high: float = math.nan) -> Cell:
    """A number with its interval, sorted by the number."""
    return interval(found, low, high), found


def asked(folder: Path, found: Sequence[Answer]) -> tuple[str, list[tuple[str, str]]]:
    """The question as a heading, and what it is asked of."""
    settings = {row["setting"]: row["value"] for row in rows(folder / "tables" / "settings.csv", "setting", "value")}
    studied, audited = ([each for each in found if each.of_model is of] for of in (False, True))
    models = [row["model"] for row in rows(folder / "tables" / "audit_model.csv", "model")]
    told = []
    if models:
        told.append(("model", models[0]))
    for name in ("data", "task"):
        of_runs = list(dict.fromkeys(row[name] for _, plan in every(folder, "plans/*.csv", name) for row in plan))
        if known := of_runs or [settings.get(name, "")]:
            told.append((name, listed(known, 4)))
    if studied:
        told.append(("sources", listed(dict.fromkeys(each.who for each in studied))))
        told += [(name, settings[name]) for name in ("backbone", "folds") if settings.get(name)]
        told.append(("strengths", settings.get("p_art", "")))
    told.append(("confounders", listed(dict.fromkeys(named(each.confounder) for each in found))))
    question = "What is confounded in these data?"
    if audited:
        question = "Does this model take shortcuts?"
    elif studied or not models:
        question = "Does the pretraining source change how much a network leans on confounders?"
    return question, [(name, text) for name, text in told if text]


def notes(folder: Path) -> list[str]:
    """What must be said of data and sources on top, by task where tasks differ."""
    return said_of([row for _, plan in every(folder, "plans/*.csv", "caution") for row in plan])


def said_of(found: Sequence[Row]) -> list[str]:
    """What must be said of the rows of a plan or figure, by task where they have one."""
    if found and all("task" in row for row in found):
        return cautions(numeric([{"task": row["task"], "caution": row.get("caution", "")} for row in found]))
    return list(filter(None, [caption(row.get("caution", "") for row in found)]))


def questions(folder: Path, found: Sequence[Answer], compared: Sequence[Difference]) -> list[dict[str, str]]:
    """The three readers' questions, each with a short answer and what it rests on."""
    name, task = findings.leading(found)
    called = named(name) if name else "the tag"
    of_model = any(each.of_model and (each.confounder, each.task) == (name, task) for each in found)
    first = f"How far does the model lean on {called}," if of_model else f"Which source leans more on {called},"
    confounded = data.confounded(folder)
    answers = [
        (f"{first} and how sure is that?", *findings.which_leans_more(found, compared)),
        ("Is anything confounded in the data itself?", confounded.short, confounded.sentence),
        (f"Could {called} of this size be seen at all?", *data.could_be_seen(folder, name, task)),
    ]
    return [dict(zip(("question", "short", "why"), answer, strict=True)) for answer in answers]


def confounded(folder: Path) -> tuple[str, list[Table]]:
    """What is confounded in the data already."""
    found, tables = data.confounded(folder), []
    for title, file, of, columns, head in (
        ("What tells the label alone, for others' patients", "audit_shortcuts.csv", found.told,
         ("what", "of", "auc"), ("What", "Of", "AUC alone")),
        ("How each attribute goes with the label", "audit_associations.csv", found.goes,
         ("attribute", "measure", "value"), ("Attribute", "Measure", "Value")),
    ):  # fmt: skip
        name, kind, size = columns
        cells = [
            [row[name], row[kind], measured(*(value(row, each) for each in (size, "ci_low", "ci_high"))), _p(row),
             row.get("note", "")] for row in of
        ]  # fmt: skip
        if cells:
            tables.append(table(title, (*head, "p (Holm)", "Note"), cells, file))
    return f"{found.short} {found.sentence}", tables


def _p(row: Row, column: str = "p_holm") -> Cell:
    found = value(row, column)
    return (p_in_words(found) if math.isfinite(found) else "", found)


def where(folder: Path) -> list[Table]:
    """What share of the attribution lies on the confounder, beside that of the network with shuffled weights."""
    made = (_where(folder / "tables" / name) for name in ("where_share.csv", "audit_where_share.csv"))
    return [each for each in made if each]


def _where(path: Path) -> Table | None:
    columns = ("confounder", "source", "p_art", "method", "share", "area", "randomized")
    found = rows(path, *columns)
    control = {_who(row): value(row, "share") for row in found if row["randomized"] == "1"}
    cells: list[list[Cell]] = []
    for row in (row for row in found if row["randomized"] != "1"):
        share, low, high, area = (value(row, name) for name in ("share", "low", "high", "area"))
        known = f"{percent(share)} [{percent(low)}, {percent(high)}]"
        strength = value(row, "p_art")
        given = (f"{strength:g}", strength) if math.isfinite(strength) else ""
        shuffled = control.get(_who(row), math.nan)
        beside = [(percent(each), each) if math.isfinite(each) else "" for each in (area, shuffled)]
        cells.append([named(row["confounder"]), row["source"], given, row["method"], (known, share), *beside])
    head = ("Confounder", "Source", "Strength", "Method", "Attribution on it", "Its area", "With shuffled weights")
    return (
        table(f"The {whose(found)} attribution on the confounder, in numbers", head, cells, path.name)
        if cells
        else None
    )


def _who(row: Row) -> tuple[str, ...]:
    return tuple(row[name] for name in ("confounder", "source", "p_art", "method"))


def flipped(folder: Path) -> tuple[list[Table], list[Table]]:
    """How many decisions each confounder flips, and, to be folded away, each image with its scores."""
    columns = ("image_id", "label", "confounder", "score_without", "score_with", "flips")
    found = rows(folder / "tables" / "audit_flipped.csv", *columns)
    if not found:
        return [], []
    counts: list[list[Cell]] = []
    for name in dict.fromkeys(row["confounder"] for row in found):
        flips = [row["flips"] for row in found if row["confounder"] == name]
        numbers = (len(flips), flips.count("to positive"), flips.count("to negative"))
        counts.append([named(name), *((str(each), float(each)) for each in numbers)])
    cells = [
        [row["image_id"], row["label"], named(row["confounder"]), measured(value(row, "score_without")),
         measured(value(row, "score_with")), measured(value(row, "threshold")), row["flips"]] for row in found
    ]  # fmt: skip
    head = ("Image", "Label", "Confounder", "Score without", "Score with", "Threshold", "Flips")
    title = "Each image that flipped, with its scores"
    return (
        [table("Decisions that flip", ("Confounder", "Images", "To positive", "To negative"), counts)],
        [table(title, head, cells, "audit_flipped.csv")],
    )


def controls(folder: Path, found: Sequence[Answer]) -> tuple[list[str], list[Table], list[Table]]:
    """Negative control, positive control, and what cannot be seen; the positive one's numbers are to be folded away."""
    said, tables, positive = list(filter(None, [data.negative_control(folder)])), list[Table](), list[Table]()
    seen = data.seen(folder)
    if hidden := dict.fromkeys(name for (name, _), it in seen.items() if not it.enough):
        names = listed(map(named, hidden))
        said.append(f"Not seen in nine of ten images, so that nothing said of it counts: {names}.")
    elif seen:
        said.append("Every confounder that is drawn is seen at the networks' input in at least nine of ten images.")
    unseen = [each for each in found if each.verdict == verdicts.NOT_VISIBLE]
    said += [each.sentence for each in unseen if each.sentence]
    probes = {row["confounder"]: row for row in rows(folder / "tables" / "audit_probes.csv", "confounder", "auc")}
    cells: list[list[Cell]] = []
    unseen_by_runs = [(name, "") for name in probes if name not in {key[0] for key in seen}]
    for name, task in [*seen, *unseen_by_runs]:
        it, probe = seen.get((name, task)), probes.get(name, {})
        numbers = (it.seen_in, it.changed, it.largest) if it else (math.nan,) * 3
        texts = (percent(numbers[0]), percent(numbers[1]), f"{numbers[2]:g}") if it else ("", "", "")
        tells = measured(*(value(probe, key) for key in ("auc", "ci_low", "ci_high"))) if probe else ("", math.nan)
        cells.append([named(name), task, *zip(texts, numbers, strict=True), tells])
    if cells:
        head = ("Confounder", "Task", "Seen in", "Pixels changed", "By at most (grey levels)", "Probe's AUC")
        tables.append(table("Whether it could be seen", head, cells))
    if learned := data.learned(folder):
        cells = [[named(c), task, who, measured(low), measured(high)] for c, task, who, low, high in learned]
        better = sum(high > low for *_, low, high in learned)
        said.append(
            f"Positive control: trained always with a confounder, {better} of {len(learned)} pairs of source and "
            "confounder rank a test that is like the training better than those that never were."
        )
        of_both = ("Confounder", "Task", "Source", "AUC, never with it", "AUC, always with it")
        title = "The positive control in numbers: the AUC of a test that is like the training"
        positive.append(table(title, of_both, cells))
    return said, tables, positive


def statistic(folder: Path, compared: Sequence[Difference]) -> tuple[list[str], list[Table], list[str], list[Table]]:
    """The declared comparison, in sentences and as a table; and the rest, to be folded away."""
    said, tables, more, folded = list[str](), list[Table](), list[str](), list[Table]()
    if compared:
        cells = [
            [named(each.confounder), each.task, f"{each.a} less {each.b}",
             measured(each.difference, each.low, each.high),
             (p_in_words(each.p) if math.isfinite(each.p) else "no test", each.p), measured(each.detectable),
             each.problem]
            for each in compared
        ]  # fmt: skip
        head = ("Confounder", "Task", "Reliance of", "Difference in AUC", "p (Holm)", "Would have been found", "Note")
        there = (folder / "tables" / "primary.csv").exists()
        file = "primary.csv" if there else "audit_sources_compared.csv"
        title = "The primary analysis: how much more one source relies on a confounder"
        tables.append(table(title, head, cells, file))
        said.append(DECLARED)
        folds = sorted({each.folds for each in compared if each.folds > 1})
        more += [statistics.false_alarms(number, "primary") for number in folds]
    if found := rows(folder / "tables" / "by_source.csv", "source", "confounder", "shift", "reliance"):
        cells = [
            [named(row["confounder"]), row.get("task", ""), row["source"], measured(value(row, "clean")),
             *(measured(*(value(row, f"{of}{end}") for end in ("", "_low", "_high"))) for of in ("shift", "reliance"))]
            for row in found
        ]  # fmt: skip
        of_source = ("Confounder", "Task", "Source", "Clean AUC", "Shift", "Reliance")
        folded.append(table("What each confounder does to each source", of_source, cells, "by_source.csv"))
    if found := rows(folder / "tables" / "tests.csv", "confounder", "a", "b", "p_art", "difference", "p", "p_holm"):
        cells = [
            [named(row["confounder"]), row.get("task", ""), f"{row['a']} less {row['b']}",
             (f"{value(row, 'p_art'):g}", value(row, "p_art")), measured(value(row, "difference")), _p(row, "p"),
             _p(row)]
            for row in found
        ]  # fmt: skip
        head = ("Confounder", "Task", "AUC of", "Strength", "Difference", "p", "p (Holm)")
        folded.append(table("The paper's permutation test, at each strength", head, cells, "tests.csv"))
        more += [statistics.false_alarms(n) for n in sorted({whole(row, "folds_a") for row in found} - {0, 1})]
    if found := rows(folder / "tables" / "audit_groups.csv", "attribute", "value", "n", "auc", "gap"):
        cells = [
            [row["attribute"], row["value"], (row["n"].removesuffix(".0"), value(row, "n")),
             *(measured(*(value(row, f"{of}{end}") for end in ("", "_low", "_high"))) for of in ("auc", "gap")),
             row.get("note", "")] for row in found
        ]  # fmt: skip
        of_group = ("Attribute", "Group", "n", "AUC", "Gap to all others", "Note")
        folded.append(table("The model in groups of patients", of_group, cells, "audit_groups.csv"))
    return said, tables, [sentence(each) for each in more], folded


def limits(folder: Path, found: Sequence[Answer], compared: Sequence[Difference]) -> list[str]:
    """What all of this does not establish."""
    said = []
    if notes(folder):
        said.append(f"Anything of medicine, where what was used is not the real thing: {'; '.join(notes(folder))}.")
    if any(not each.of_model for each in found):
        folds = min((each.folds for each in compared), default=0)
        if 0 < folds < FEW_FOLDS:
            said.append(
                f"A claim: {folds} folds are for looking, since from so few it is hardly known how they differ."
            )
        said.append("That other development patients would show the same, unless it is said: folds share their images.")
    if any(each.of_model for each in found):
        said.append("Who taught the model to lean: that it answers to a confounder does not say so.")
    said.append("That nothing else misleads a network: only what was tried was tried.")
    said.append("That a drawn confounder acts as a real one does: a drawn pacemaker is a drawing.")
    said.append("That other hospitals' patients would show the same, or why a group of patients does worse.")
    if any(each.verdict == verdicts.NO_SIGN for each in found):
        said.append(f"That there is no leaning where no sign was seen: below {number(verdicts.SMALL)} none is counted.")
    return said
