"""What a path seems to hold, as the settings that would open it: a guess to be read and edited, never used unseen."""

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from sourcematters.cohorts import mapping, nih_cxr14, tables
from sourcematters.cohorts.assembly import with_files
from sourcematters.cohorts.cohort import some
from sourcematters.cohorts.dicom_tags import TAGS, attribute
from sourcematters.cohorts.folders import ImageFolder, by_class, images_in, sides
from sourcematters.cohorts.lidc import dicom
from sourcematters.cohorts.paper_tasks import ChestXray14
from sourcematters.cohorts.pixels import is_dicom
from sourcematters.cohorts.readers import reader_of, what_is_there
from sourcematters.cohorts.releases import medmnist
from sourcematters.cohorts.releases.release import Release
from sourcematters.cohorts.spelling import kind
from sourcematters.errors import StudyError

BANDS = {"age": [0, 40, 60, 120]}
SAMPLE = 40  # rows of a table whose files are looked for, and DICOM files whose tags are read
MOST_FOLDERS = 200
WORDS = {
    "path": "datei dateiname bild bilddatei archivo imagen fichier",
    "patient_id": "patientennummer patientnr patientnumber patientid mrn paciente fallnummer",
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


def proposal(path: str | Path) -> Proposal:
    """The settings that would open `path`, a table, a folder, a MedMNIST file or a release; and what was seen.

    The settings are plain values, ready for YAML: data, task, and as needed columns, positive, negative, root, labels,
    bands. The sentences say what they rest on, and what is left to the person. Nothing is written.
    Raises StudyError if there is nothing that could be a cohort.
    """
    where = Path(path)
    if where.is_file():
        return _of_npz(where) if where.suffix.lower() == ".npz" else _of_table(where)
    if not where.is_dir():
        raise StudyError(f"{where}: {what_is_there(where)}. Give a table, a folder of images, or a MedMNIST file.")
    reader = reader_of(str(where))
    if isinstance(reader, Release):
        return _of_release(where, reader)
    if isinstance(reader, ChestXray14) and any(where.glob("Data_Entry_2017*")):
        return _of_nih(where)
    if reader and reader.tasks and not isinstance(reader, ImageFolder | ChestXray14):
        return {"data": str(where), "task": reader.tasks[0]}, [f"{where.name} is read as {reader.name}: {reader.help}."]
    return _of_folder(where)


def _of_npz(path: Path) -> Proposal:
    shape, names = medmnist.shapes(path), medmnist.names_of(path)
    images = sum(shape[f"{part}_images"][0] for part in medmnist.PARTS)
    said = [f"{path.name}: {images:,} images of {shape['train_images'][1]} px, in MedMNIST's layout; no patients."]
    settings: dict[str, Any] = {"data": str(path)}
    number = shape["train_labels"][1] if len(shape["train_labels"]) == 2 else 1
    if number > 1:
        known = names if len(names) == number else tuple(map(str, range(number)))
        said.append(f"Its {number} findings are {', '.join(known)}: which one is the task is left to you.")
        return settings | {"task": known[0]}, said
    there = sorted(set(medmnist._array(path, "train_labels").reshape(-1).astype(int).tolist()))
    called = [names[k] if k < len(names) else str(k) for k in there]
    if len(there) == 2:
        said.append(f"Label 1 is {called[1]}, label 0 {called[0]}.")
        return settings | {"task": called[1], "positive": [str(there[1])]}, said
    chosen = sides(called[:1] + called[1:], (), (), "") or (called[-1],)
    said.append(f"Its classes are {', '.join(called)}: which of them count as 1 is left to you.")
    return settings | {"task": chosen[0], "positive": list(chosen)}, said


def _of_release(root: Path, reader: Release) -> Proposal:
    images = reader.listed(root)
    counts = {finding: int((images.cells(finding) == "1").sum()) for finding in images.findings[:40]}
    usual = {f: n for f, n in counts.items() if kind(f) not in ("nofinding", "normal")} or counts
    task = max(usual, key=lambda finding: usual[finding])
    said = [f"{root.name} is laid out as the release {reader.name}.", *images.notes]
    listing = some(f"{finding} ({n:,})" for finding, n in sorted(counts.items(), key=lambda pair: -pair[1]))
    said.append(f"Its findings are {listing}: which one is the task is left to you.")
    return _rest({"data": str(root), "task": task}, images.table, said)


def _of_nih(root: Path) -> Proposal:
    metadata = nih_cxr14.read_metadata(root)
    there = metadata[metadata["image_id"].isin(nih_cxr14.find_images(root))]
    counts = {
        finding: int(there["findings"].str.contains(finding, regex=False).sum()) for finding in nih_cxr14.FINDINGS
    }
    said = [f"{root.name} is NIH ChestX-ray14; {len(there):,} of {len(metadata):,} listed images are there."]
    listing = some(f"{finding} ({n:,})" for finding, n in sorted(counts.items(), key=lambda pair: -pair[1]))
    said.append(f"Its findings are {listing}: which one is the task is left to you.")
    return _rest({"data": str(root), "task": max(counts, key=lambda finding: counts[finding])}, there, said)


def _rest(settings: dict[str, Any], table: pd.DataFrame, said: list[str]) -> Proposal:
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


def _of_folder(root: Path) -> Proposal:
    paths = list(images_in(root))
    lists = [path for path in sorted(root.iterdir()) if path.name.lower().removesuffix(".gz").endswith(tables.ENDINGS)]
    if not paths and not lists:
        raise StudyError(f"{root}: neither an image nor a table is in it; {what_is_there(root)}.")
    found = by_class(paths)
    classes = sorted(found["folder"].dropna().unique())
    if lists and len(classes) < 2 or not paths:
        return _of_table(lists[0], others=lists[1:])
    settings: dict[str, Any] = {"data": str(root)}
    said = [f"{root.name} holds {len(paths):,} images, such as {paths[0]}."]
    if len(classes) < 2:
        said.append("Nothing tells their labels: make a folder a class, or give a table with labels: TABLE.")
    else:
        counts = found["folder"].value_counts()
        said.append(f"Their class folders are {some(f'{name} ({counts[name]:,})' for name in classes)}.")
        positive = (
            sides(classes, (), (), "")
            or tuple(name for name in classes for pair in mapping.PAIRS if mapping.plain(name) == pair[0])[:1]
        )
        if not positive:
            said.append("Which class counts as 1 is left to you: the last one is only a guess.")
        settings["positive"] = list(positive or classes[-1:])
        settings["task"] = settings["positive"][0]
        if found["part"].notna().any():
            said.append(f"The folders above them are parts: {some(sorted(set(found['part'].dropna())))}.")
    said.append("The patient is not told by folders.")
    if tags := _tags([str(root / path) for path in paths]):
        said[-1:] = [f"Their DICOM tags give {', '.join(tags)}."]
        if "age" in tags:
            settings["bands"] = BANDS
    return settings, said


def _tags(paths: list[str]) -> list[str]:
    """Which attributes, and the patient, DICOM tags of some files give."""
    chosen = [path for path in paths[:: max(1, len(paths) // SAMPLE)][:SAMPLE] if is_dicom(path)]
    rows = []
    for path in chosen:
        try:
            rows.append(dicom.read_tags(path, ["PatientID", *TAGS.values()]))
        except dicom.Unusable:
            continue
    table = pd.DataFrame(rows, columns=["patient_id", *TAGS], dtype=str)
    values = {name: attribute(name, table[name]) if name in TAGS else table[name].replace("", None) for name in table}
    return [name for name, cells in values.items() if cells.notna().any()]


def _of_table(path: Path, others: Iterable[Path] = ()) -> Proposal:
    raw, said = tables.parse(path)
    table = raw.apply(tables.stripped)
    said = [f"{path.name}: a table of {len(table):,} rows, columns {some(map(str, table))}.", *said]
    if others := list(others):
        said.append(f"Beside it lie {some(other.name for other in others)}, which are not looked at.")
    meant = {name: column for column in table if (name := _meaning(str(column))) and name != "label"}
    settings: dict[str, Any] = {"data": str(path)}
    place, root = _files(path, table)
    if place:
        meant["path"] = place
        if root and root != path.parent:
            settings["root"] = str(root)
        said.append(f"Column {place} names the image files, which lie in {root}.")
    elif (images := list(images_in(path.parent))) and (key := _key(table, images)):
        meant["image_id"] = key
        meant.pop("path", None)
        settings = {"data": str(path.parent), "labels": str(path)}
        said.append(f"Column {key} names images below {path.parent}.")
    else:
        said.append("No column names image files that are there: give root, the folder of the images.")
    for name, rule in (("sex", SEXES), ("view", VIEWS)):
        if name not in meant and (column := _first(table, meant, lambda cells, rule=rule: _of_words(cells, rule))):
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
    return _rest(settings, table, said)


def _meaning(column: str) -> str:
    """Which of our names a column's name means, "" for none."""
    plain, word = re.sub(r"[\W_]+", "", column.casefold()), kind(column)
    known = {"path", "image_id", "patient_id", "sex", "age", "view", "site", "label"}
    return word if word in known else NAMES.get(plain, "")


def _files(path: Path, table: pd.DataFrame) -> tuple[str, Path | None]:
    """The column whose cells name files, and the folder that they start at; nothing if there is none."""
    folders = [path.parent, path.parent.parent]
    for folder, below, _ in os.walk(path.parent):
        below[:] = sorted(name for name in below if not name.startswith("."))
        if len(Path(folder).relative_to(path.parent).parts) >= 3:
            below.clear()
        folders += [Path(folder) / name for name in below]
        if len(folders) > MOST_FOLDERS:
            break
    best: tuple[int, str, Path | None] = (0, "", None)
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
            best = max(best, (there, str(column), folder), key=lambda one: one[0])
    return best[1], best[2]


def _key(table: pd.DataFrame, images: list[str]) -> str:
    """The column whose cells are names of images, with their ending or without; "" if there is none."""
    names = {os.path.basename(path) for path in images}
    names |= {os.path.splitext(name)[0] for name in names}
    for column in table:
        cells = table[column].dropna().head(SAMPLE)
        if len(cells) and cells.map(os.path.basename).isin(names).mean() > 0.5:
            return str(column)
    return ""


def _first(table: pd.DataFrame, meant: dict[str, str], fits: Callable[[pd.Series], bool]) -> str:
    taken = set(meant.values())
    return next((str(column) for column in table if column not in taken and fits(table[column].dropna())), "")


def _of_words(cells: pd.Series, words: set[str]) -> bool:
    there = set(cells.map(mapping.plain))
    return len(there) > 1 and there <= words


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
