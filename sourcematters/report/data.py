"""What is told of the data: what is confounded already, what was checked, and whether a confounder can be seen."""

import math
from pathlib import Path
from typing import NamedTuple

from sourcematters.report.tables import STRENGTHS, every, rows
from sourcematters.report.words import Row, interval, listed, named, number, percent, sentence, value, whole
from sourcematters.results import verdicts
from sourcematters.results.verdicts import GOES, TOLD
from sourcematters.training.reach import SEEN

CONTROL = "one_grey_level"  # the audit's: an alteration that should do nothing
LOOK = "./run_all.sh --only 40 looks, with a model or without."
LEAKS = {
    True: "No patient is in two parts, of training, validation and test: a cohort in which one is, is refused.",
    False: "The splits are others' own: patients that are in two of their parts are named in notebook 10.",
}


class Confounded(NamedTuple):
    """Whether anything tells the label: in a word, in a sentence, and the rows on which it rests, strongest first."""

    short: str
    sentence: str
    told: list[Row]
    goes: list[Row]


def confounded(folder: Path) -> Confounded:
    """What the audit found of the data before any model was asked."""
    told = rows(folder / "tables" / "audit_shortcuts.csv", "what", "of", "auc", "p_holm")
    goes = rows(folder / "tables" / "audit_associations.csv", "attribute", "measure", "value", "p_holm")
    told = sorted(told, key=lambda row: -value(row, "auc") if math.isfinite(value(row, "auc")) else math.inf)
    if not told and not goes:
        return Confounded("Not looked at yet.", LOOK, [], [])
    with_label = [
        f"{row['attribute']} ({row['measure']} {_of(row, 'value')})" for row in goes if value(row, "p_holm") < GOES
    ]
    telling = [f"{row['what']} (AUC {_of(row, 'auc')})" for row in told if value(row, "p_holm") < TOLD]
    said = []
    if with_label:
        said.append(f"With the label goes {listed(with_label, 4)}.")
    if telling:
        said.append(f"Without reading the anatomy the label is told by {listed(telling, 4)}.")
    if said:
        return Confounded("Yes.", " ".join(said), told, goes)
    measured = [row for row in told if math.isfinite(value(row, "auc"))]
    best = f" The largest AUC alone is {_of(measured[0], 'auc')}, of {measured[0]['what']}." if measured else ""
    looked = len(measured) or len(goes)
    return Confounded(
        "Nothing was found.", f"None of the {looked} things that were looked at tells the label.{best}", told, goes
    )


def _of(row: Row, column: str) -> str:
    return interval(value(row, column), value(row, "ci_low"), value(row, "ci_high"))


class Seen(NamedTuple):
    """How a confounder reaches the networks: share of images and of pixels that change, and by how much at most."""

    confounder: str
    images: int
    seen_in: float
    changed: float
    largest: float

    @property
    def enough(self) -> bool:
        """Whether it is seen in nearly all images."""
        return self.seen_in >= SEEN


def seen(folder: Path) -> dict[tuple[str, str], Seen]:
    """How each drawn confounder reaches the networks' input, by its name and task, as runs tell; else as galleries."""
    found: dict[tuple[str, str], Seen] = {}
    for pattern in ("tables/*.csv", "figures/*.csv"):
        for _, table in every(folder, pattern, "confounder", "input_seen_in", "input_changed_pixels"):
            told = {name for name, _ in found}
            for row in table:
                name, task = key = row["confounder"], row.get("task", "")
                if key not in found and (task or name not in told) and math.isfinite(value(row, "input_seen_in")):
                    shares = [value(row, f"input_{of}") for of in ("seen_in", "changed_pixels", "largest_change")]
                    found[key] = Seen(name, whole(row, "input_images"), *shares)
    return found


def could_be_seen(folder: Path, name: str, task: str) -> tuple[str, str]:
    """The third reader's question: whether a confounder of its size reaches a network at all; short, and from what."""
    if not name:
        return "Not asked yet.", "./run_all.sh --only 20 asks it of the tag."
    reached = seen(folder)
    it = reached.get((name, task)) or next((it for key, it in reached.items() if key[0] == name), None)
    if it is None:
        what = f"For {named(name)} no pixel is changed, or it was not measured: images are chosen, not drawn on."
        return "Nothing is drawn.", what
    how = (
        f"{sentence(named(name))} changes {percent(it.changed)} of the pixels at the networks' input, by up to "
        f"{it.largest:g} of 255 grey levels, in {percent(it.seen_in)} of {it.images} images"
    )
    extra = [*_probe(folder, name), *_learned(folder, name, task)]
    return ("Yes." if it.enough else "No."), ". ".join([how, *extra]) + "."


def _probe(folder: Path, name: str) -> list[str]:
    probes = rows(folder / "tables" / "audit_probes.csv", "confounder", "auc")
    found = [row for row in probes if row["confounder"] == name]
    return [f"A linear probe on the model's features tells it with an AUC of {_of(row, 'auc')}" for row in found[:1]]


def _learned(folder: Path, name: str, task: str) -> list[str]:
    mine = [row for row in learned(folder) if row[0] == name and task in ("", row[1])]
    if not mine:
        return []
    each = listed(f"{source} {number(low)} to {number(high)}" for _, _, source, low, high in mine)
    better = sum(high > low for *_, low, high in mine)
    who = f"the networks of {better} of {len(mine)} sources"
    return [f"Trained with it, {who} rank a test that is like the training better: {each} (positive control)"]


def learned(folder: Path) -> list[tuple[str, str, str, float, float]]:
    """The positive control: confounder, task, source, and the i.i.d. AUC at the weakest and the strongest strength."""
    curves: dict[tuple[str, str, str], dict[float, float]] = {}
    for _, table in every(folder, "figures/*.csv", *STRENGTHS):
        for row in table:
            if row["test_set"] == "iid":
                key = row["confounder"], row["task"], row["source"]
                curves.setdefault(key, {})[value(row, "p_art")] = value(row, "mean")
    return [(*key, curve[min(curve)], curve[max(curve)]) for key, curve in sorted(curves.items()) if len(curve) > 1]


def negative_control(folder: Path) -> str:
    """What an alteration did that should do nothing, in a sentence; "" where none was scored."""
    effects = rows(folder / "tables" / "audit_effects.csv", "confounder", "lean", "lean_error")
    for row in effects:
        if row["confounder"] == CONTROL:
            lean = value(row, "lean")
            measured = interval(lean, value(row, "lean_low"), value(row, "lean_high"))
            p = verdicts.beyond_small(lean, value(row, "lean_error"))
            failed = p < verdicts.ALPHA and abs(lean) > verdicts.SMALL
            said = f"One grey level more, which should do nothing, moves the AUC by {measured}"
            return said + (": the control failed, and what is said of others may be true of anything." * failed or ".")
    return ""


def checks(folder: Path) -> list[str]:
    """What was checked of patients, cohorts and sources, a sentence each."""
    settings = {row["setting"]: row["value"] for row in rows(folder / "tables" / "settings.csv", "setting", "value")}
    said = [LEAKS[settings["splits"] == "own"]] if "splits" in settings else []
    if settings.get("scored") == "all" and (folder / "tables" / "audit_effects.csv").exists():
        said.append(
            "The model was asked about all images: those it was trained on flatter it (scored: test asks less)."
        )
    for path, table in every(folder, "tables/*cohort_counts.csv", "group", "value", "all"):
        which = "CT: " if path.name.startswith("ct_") else ""
        counts = {row["group"]: row for row in table if not row["value"]}
        if {"images", "patients"} <= set(counts):
            test = sum(whole(counts["images"], name) for name in ("test 0", "test 1"))
            said.append(
                f"{which}{whole(counts['images'], 'all'):,} images of {whole(counts['patients'], 'all'):,} patients, "
                f"{test:,} of the images in the test."
            )
        name = path.name.replace("counts", "problems")
        if (path.with_name(name)).exists():
            problems = rows(path.with_name(name))
            said.append(f"{which}{_problems(problems)}")
    for path, table in every(folder, "tables/*left_out.csv", "kind", "what"):
        kinds = [row["kind"] for row in table]
        counted = listed((f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds)), 4)
        said.append(f"{'CT: ' * path.name.startswith('ct_')}Left out, or odd: {counted}.")
    for row in rows(folder / "tables" / "sources.csv", "source", "warning"):
        if row["warning"]:
            said.append(f"{row['source']}: {row['warning']}")
    return said


def _problems(problems: list[Row]) -> str:
    if not problems:
        return "Every image was opened, and none has a problem."
    return f"{len(problems)} problems, the first: {problems[0].get('image_id', '')} {problems[0].get('problem', '')}."
