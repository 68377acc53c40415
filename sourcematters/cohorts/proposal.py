"""What a path seems to hold, as the settings that would open it: a guess to be read and edited, never used unseen."""

import os
from pathlib import Path
from typing import Any

import pandas as pd

from sourcematters.cohorts import mapping, nih_cxr14, tables
from sourcematters.cohorts.cohort import some
from sourcematters.cohorts.dicom_tags import TAGS, attribute
from sourcematters.cohorts.folders import ImageFolder, by_class, images_in, sides
from sourcematters.cohorts.guesses import BANDS, SAMPLE, Proposal, of_table, rest
from sourcematters.cohorts.lidc import dicom
from sourcematters.cohorts.paper_tasks import ChestXray14
from sourcematters.cohorts.pixels import is_dicom
from sourcematters.cohorts.readers import reader_of, what_is_there
from sourcematters.cohorts.releases import medmnist
from sourcematters.cohorts.releases.release import Release
from sourcematters.cohorts.spelling import kind
from sourcematters.errors import StudyError


def proposal(path: str | Path) -> Proposal:
    """The settings that would open `path`, a table, a folder, a MedMNIST file or a release; and what was seen.

    The settings are plain values, ready for YAML: data, task, and as needed columns, positive, negative, root, labels,
    bands. The sentences say what they rest on, and what is left to the person. Nothing is written.
    Raises StudyError if there is nothing that could be a cohort.
    """
    where = Path(path)
    if where.is_file() and where.suffix.lower() == ".npz":
        return _of_npz(where)
    if where.is_file():
        settings, said = of_table(where)
        reader = reader_of(str(where.absolute().parent))
        if isinstance(reader, Release | ChestXray14):
            said.append(f"The folder that it lies in is read as {reader.name}: that may be given instead.")
        return settings, said
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
    there = sorted(set(medmnist.array(path, "train_labels").reshape(-1).astype(int).tolist()))
    called = [names[k] if k < len(names) else str(k) for k in there]
    if len(there) == 2:
        said.append(f"Label 1 is {called[1]}, label 0 {called[0]}.")
        return settings | {"task": called[1], "positive": [str(there[1])]}, said
    chosen = sides(called, (), (), "") or (called[-1],)
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
    return rest({"data": str(root), "task": task}, images.table, said)


def _of_nih(root: Path) -> Proposal:
    metadata = nih_cxr14.read_metadata(root)
    there = metadata[metadata["image_id"].isin(nih_cxr14.find_images(root))]
    counts = {
        finding: int(there["findings"].str.contains(finding, regex=False).sum()) for finding in nih_cxr14.FINDINGS
    }
    said = [f"{root.name} is NIH ChestX-ray14; {len(there):,} of {len(metadata):,} listed images are there."]
    listing = some(f"{finding} ({n:,})" for finding, n in sorted(counts.items(), key=lambda pair: -pair[1]))
    said.append(f"Its findings are {listing}: which one is the task is left to you.")
    return rest({"data": str(root), "task": max(counts, key=lambda finding: counts[finding])}, there, said)


def _of_folder(root: Path) -> Proposal:
    paths = list(images_in(root))
    lists = [path for path in sorted(root.iterdir()) if path.name.lower().removesuffix(".gz").endswith(tables.ENDINGS)]
    if not paths and not lists:
        raise StudyError(f"{root}: neither an image nor a table is in it; {what_is_there(root)}.")
    found = by_class(paths)
    classes = sorted(found["folder"].dropna().unique())
    if lists and len(classes) < 2 or not paths:
        return of_table(lists[0], others=lists[1:])
    above = {path.split(os.sep)[0] for path in paths}
    if len(above) == 1 and isinstance(reader_of(str(root)), ChestXray14):  # images/ alone would pass for NIH's
        return _of_folder(root / above.pop())
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
