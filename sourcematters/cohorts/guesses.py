"""What the columns of a table seem to mean, by their names and by their values."""

import os
import re
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from sourcematters.cohorts import mapping, tables
from sourcematters.cohorts.assembly import with_files
from sourcematters.cohorts.cohort import some
from sourcematters.cohorts.folders import images_in, sides
from sourcematters.cohorts.spelling import kind

BANDS = {"age": [0, 40, 60, 120]}
SAMPLE = 40  # rows of a table whose files are looked for, and DICOM files whose tags are read
MOST_FOLDERS = 200
MOST_IMAGES = 100_000
WORDS = {
    "path": "datei dateiname bild bilddatei archivo imagen fichier",
    "patient_id": "patientennummer patientennr patientnr patientnumber patientid mrn paciente fallnummer",
    "sex": "geschlecht sexo sexe",
    "age": "alter edad age_at_study ageatstudy",
    "site": "klinik krankenhaus standort scanner_site hospital_id",
    "view": "projektion ansicht",
    "label": "befund diagnose diagnosis labels groundtruth",
}
NAMES = {word: name for name, words in WORDS.items() for word in words.split()}
SEXES = {"f", "m", "w", "male", "female", "man", "woman", "weiblich", "männlich", "frau", "mann"}
VIEWS = {"pa", "ap", "ll", "l", "lateral", "lat", "frontal"}
Proposal = tuple[dict[str, Any], list[str]]


def rest(settings: dict[str, Any], table: pd.DataFrame, said: list[str]) -> Proposal:
    """What any table's attributes ask for: bands for an age, a word on views and on patients."""
    if "age" in table and pd.api.types.is_numeric_dtype(table["age"]) and table["age"].notna().any():
        settings["bands"] = BANDS
        said.append("Ages are counted in bands 0-40, 40-60, 60-120, as column age_band.")
    if "view" in table and table["view"].nunique() > 1:
        views = some(f"{view} ({n:,})" for view, n in table["view"].value_counts().items())
        said.append(f"Views are {views}: all are kept, or one, as in view: {table['view'].mode().iloc[0]}.")
    if "patient_id" not in table:
        said.append("The patient column is not found: no leak of patients can be ruled out.")
    return settings, said


def of_table(path: Path, others: Iterable[Path] = ()) -> Proposal:
    """The settings that would open a table, and sentences on what they rest on; `others` lie beside it."""
    raw, said = tables.parse(path)
    table = raw.apply(tables.stripped)
    said = [f"{path.name}: a table of {len(table):,} rows, columns {some(map(str, table))}.", *said]
    if others := list(others):
        said.append(f"Beside it lie {some(other.name for other in others)}, which are not looked at.")
    meant = {name: column for column in table if (name := _meaning(str(column))) and name != "label"}
    settings: dict[str, Any] = {"data": str(path)}
    place, root, share = _files(path, table)
    key = _key(table, list(islice(images_in(path.parent), MOST_IMAGES))) if share <= 0.5 else ""
    if place and not key:
        meant["path"] = place
        if root and root != path.parent:
            settings["root"] = str(root)
        said.append(f"Column {place} names the image files, which lie in {root}.")
    elif key:
        meant["image_id"] = key
        meant.pop("path", None)
        settings = {"data": str(path.parent), "labels": str(path)}
        said.append(f"Column {key} names images below {path.parent}.")
    else:
        said.append("No column names image files that are there: give root, the folder of the images.")
    for name, rule in (("sex", SEXES), ("view", VIEWS)):
        if name not in meant and (column := _first(table, meant, rule)):
            meant[name] = column
    labels = _label_columns(table, set(meant.values()))
    if labels:
        meant["label"] = labels[0]
        settings |= _values(table[labels[0]], labels[0], said)
        if len(labels) > 1:
            said.append(f"Other columns could be the label: {some(labels[1:])}. Which one is left to you.")
    else:
        said.append("No label column is found, one of two values: name it in columns, as in {label: COLUMN}.")
    order = [
        name for name in ("path", "image_id", "label", "patient_id", "sex", "age", "view", "site") if name in meant
    ]
    settings["columns"] = {name.removesuffix("_id"): meant[name] for name in order}
    for name in order:
        table = table.assign(**{name: table[meant[name]]})
    if "age" in table:
        table["age"] = tables.typed(table["age"])
    for name in {"age", "view", "patient_id"} - set(meant):
        table = table.drop(columns=name, errors="ignore")
    return rest(settings, table, said)


def _meaning(column: str) -> str:
    """Which of our names a column's name means, "" for none."""
    plain, word = re.sub(r"[\W_]+", "", column.casefold()), kind(column)
    known = {"path", "image_id", "patient_id", "sex", "age", "view", "site", "label"}
    return word if word in known else NAMES.get(plain, "")


def _files(path: Path, table: pd.DataFrame) -> tuple[str, Path | None, float]:
    """The column whose cells name files, the folder that they start at, and what share of them is there; or nothing."""
    folders = [path.parent, path.parent.parent]
    for walked, below, _ in os.walk(path.parent):
        below[:] = sorted(name for name in below if not name.startswith("."))
        if len(Path(walked).relative_to(path.parent).parts) >= 3:
            below.clear()
        folders += [Path(walked) / name for name in below]
        if len(folders) > MOST_FOLDERS:
            break
    found: tuple[str, Path | None, float] = ("", None, 0)
    for column in sorted(table, key=lambda name: _meaning(str(name)) not in ("path", "image_id")):
        cells = table[column].dropna().head(SAMPLE)
        if cells.nunique() < 2 or cells.str.fullmatch(r"[-+.\d]{1,3}").all():
            continue
        for folder in folders[:MOST_FOLDERS]:
            tried = pd.DataFrame({"path": [str(folder / cell) for cell in cells.head(3)]})
            if not any(map(os.path.isfile, with_files(tried, [])["path"])):
                continue
            tried = pd.DataFrame({"path": [str(folder / cell) for cell in cells]})
            there = sum(map(os.path.isfile, with_files(tried, [])["path"]))
            if there > found[2] * len(cells):
                found = str(column), folder, there / len(cells)
    return found


def _key(table: pd.DataFrame, images: list[str]) -> str:
    """The column whose cells are names of images, with their ending or without; "" if there is none."""
    names = {os.path.basename(path) for path in images}
    names |= {os.path.splitext(name)[0] for name in names}
    for column in table:
        cells = table[column].dropna().head(SAMPLE)
        if len(cells) and cells.map(os.path.basename).isin(names).mean() > 0.5:
            return str(column)
    return ""


def _first(table: pd.DataFrame, meant: dict[str, str], words: set[str]) -> str:
    """The first column that is not `meant` yet and holds two or more of `words`, and nothing else; "" if none does."""
    taken = set(meant.values())
    for column in (str(name) for name in table if name not in taken):
        there = set(table[column].dropna().map(mapping.plain))
        if len(there) > 1 and there <= words:
            return column
    return ""


def _label_columns(table: pd.DataFrame, taken: set[str]) -> list[str]:
    """Columns that could be the label, the likeliest first: called so, a pair that all know, or two values."""
    ranks: dict[str, int] = {}
    for column in (str(name) for name in table if name not in taken):
        there = set(table[column].dropna().map(mapping.plain))
        is_pair = any(set(pair) <= there for pair in mapping.PAIRS) and len(there) <= 4
        if _meaning(column) == "label" and 1 < len(there) <= 50:
            ranks[column] = 0
        elif is_pair and kind(column) not in ("split", "nofinding"):
            ranks[column] = 1
        elif len(there) == 2 and kind(column) != "split":
            ranks[column] = 2
    return sorted(ranks, key=lambda column: ranks[column])


def _values(cells: pd.Series, column: str, said: list[str]) -> dict[str, Any]:
    """task, positive and negative for a label column, in its own spelling."""
    written = {mapping.plain(cell): str(cell) for cell in cells.dropna()}
    counts = cells.map(mapping.plain, na_action="ignore").fillna(mapping.BLANK).value_counts()
    task = column if _meaning(column) != "label" else "label 1"
    for pair in mapping.PAIRS:
        if set(pair) <= set(written):
            out = {value: n for value, n in counts.items() if value not in pair}
            left = f"; left out are {some(f'{value} ({n:,})' for value, n in out.items())}" if out else ""
            yes, no = (written[value] for value in pair)
            said.append(f"Label {column}: {yes} counts as 1, {no} as 0{left}.")
            return {"task": task, "positive": [yes], "negative": [no]}
    names = [written[value] for value in sorted(written)]
    positive = list(sides(names, (), (), "")) or [written[min(written, key=lambda value: counts[value])]]
    negative = [name for name in names if name not in positive]
    listing = some(f"{written.get(value, value)} ({n:,})" for value, n in counts.items())
    said.append(f"Label {column} is {listing}: which of these count as 1 is left to you.")
    task = positive[0] if task == "label 1" and not positive[0].isdigit() else task
    return {"task": task, "positive": positive, "negative": negative}
