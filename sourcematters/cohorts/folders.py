"""A folder of images, PNG to DICOM: the label is the folder that an image lies in, or stands in a table beside it."""

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from sourcematters.cohorts import dicom_tags, mapping
from sourcematters.cohorts.assembly import Listed, assembled
from sourcematters.cohorts.cohort import Cohort, check, some
from sourcematters.cohorts.own_table import read_own
from sourcematters.cohorts.pixels import is_dicom
from sourcematters.cohorts.readers import Reader, Request, register, what_is_there
from sourcematters.cohorts.spelling import alike, kind
from sourcematters.errors import StudyError

IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".dcm", ".dicom", ".ima")
NO_IMAGES = (
    ".csv", ".tsv", ".txt", ".xlsx", ".json", ".xml", ".md", ".pdf", ".zip", ".gz", ".npz", ".npy", ".py", ".html"
)  # fmt: skip
GLANCE = 2000
"""So many names are looked at before a folder is said to hold no image."""
HEALTHY = ("normal", "nofinding", "healthy", "control", "controls", "negative", "none")


def images_in(root: str | Path) -> Iterator[str]:
    """Paths relative to `root` of all images below it, sorted by folder; hidden names are passed over.

    Links to folders are followed, each folder once. A file without a known ending is an image if it is DICOM.
    """
    seen: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        if (real := os.path.realpath(folder)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
        for name in sorted(names):
            ending = os.path.splitext(name)[1].lower()
            if name.startswith(".") or ending in NO_IMAGES or name == "DICOMDIR":
                continue
            path = os.path.join(folder, name)
            if ending in IMAGES or is_dicom(path):
                yield os.path.relpath(path, root)


def holds_images(root: str | Path) -> bool:
    """Whether one of the first GLANCE names below a folder is that of an image."""
    looked = 0
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names[: GLANCE - looked]:
            ending = os.path.splitext(name)[1].lower()
            if not name.startswith(".") and (ending in IMAGES or not ending and is_dicom(os.path.join(folder, name))):
                return True
        looked += len(names) + len(folders)
        if looked > GLANCE:
            return False
    return False


def by_class(paths: list[str]) -> pd.DataFrame:
    """The class and the part (dev, test or missing) that each path's folders name: columns `path, part, folder`.

    A folder above the classes that is called train, val, dev or test is the part; one that holds everything is passed
    over. `folder` is missing for an image that lies in no class.
    """
    above = [path.split(os.sep)[:-1] for path in paths]
    while True:
        parts, rest = [], []
        for folders in above:
            is_part = bool(folders) and folders[0].casefold() in mapping.PARTS
            parts.append(mapping.PARTS[folders[0].casefold()] if is_part else None)
            rest.append(folders[1:] if is_part else folders)
        classes = {folders[0] for folders in rest if folders}
        deeper = {folders[1] for folders in rest if len(folders) > 1}
        if len(classes) != 1 or any(parts) or not all(len(folders) > 1 for folders in rest) or len(deeper) < 2:
            break
        above = [folders[1:] for folders in rest]
    return pd.DataFrame({"path": paths, "part": parts, "folder": [folders[0] if folders else None for folders in rest]})


def sides(classes: list[str], positive: tuple[str, ...], negative: tuple[str, ...], task: str) -> tuple[str, ...]:
    """The classes that count as 1, where people did not say: a counterpart of PAIRS, the task, or what is not healthy.

    Empty where `mapping.labels` finds out by itself, or nobody can tell.
    """
    if positive or negative or any({*map(mapping.plain, classes)} == set(pair) for pair in mapping.PAIRS):
        return positive
    words, called = {name: kind(name) for name in classes}, kind(task)
    if same := [name for name, word in words.items() if task and word == called]:
        return tuple(same)
    sick = [name for name, word in words.items() if word not in HEALTHY and not word.startswith(("no", "non", "not"))]
    return tuple(sick) if len(classes) == 2 and len(sick) == 1 else ()


@register
class ImageFolder(Reader):
    """A folder of images by class, or with a table of labels; of DICOM files the tags are attributes."""

    name = "images"
    help = "a folder of images (PNG, JPEG, TIFF, DICOM), a folder a class, or with a table of `labels`; any task"
    views = None
    uses = ("columns", "positive", "negative", "labels")

    def claims(self, data: str) -> bool:
        """Whether it is a folder with an image in it, or below."""
        return Path(data).is_dir() and holds_images(data)

    def open(self, request: Request) -> Cohort:
        """The checked images. Raises StudyError if nothing, or not enough, tells their labels."""
        root = Path(request.data)
        if not (paths := list(images_in(root))):
            raise StudyError(f"{root}: there is no image in it, nor below; {what_is_there(root)}.")
        dicoms = [path for path in paths if is_dicom(root / path)]
        name = "-".join(alike(root.absolute().name).split()) or "images"
        ids = pd.Series(dtype=str)
        if dicoms:
            tags = dicom_tags.read([str(root.absolute() / path) for path in dicoms], request.cache, request.workers)
            bad = tags.index[tags["problem"] != ""]
            ids = tags["sop_uid"][tags["sop_uid"] != ""]
            ids = ids[~ids.duplicated(keep=False)]
            paths = [path for path in paths if str(root.absolute() / path) not in set(bad)]
        read = _labelled(root, paths, ids, request) if request.labels else _classed(root, paths, ids, request)
        if dicoms and len(bad):
            read.problems.extend(("damaged", path, tags.loc[path, "problem"]) for path in bad)
            read.notes.append(f"Left out: {len(bad):,} files that are no readable DICOM, such as {bad[0]}.")
        return assembled(read, request, name=name, origin=str(root))


def _classed(root: Path, paths: list[str], ids: pd.Series, request: Request) -> Listed:
    found = by_class(paths)
    classes = sorted(found["folder"].dropna().unique())
    if len(classes) < 2:
        what = f"only one class folder, {classes[0]}" if classes else "no class folders"
        tables = sorted(path.name for pattern in ("*.csv", "*.tsv", "*.xlsx") for path in root.glob(pattern))
        beside = f", such as labels: {root / tables[0]}" if tables else ""
        raise StudyError(
            f"{root}: {what} with images in it; {what_is_there(root)}. Make a folder for each class, or give a table "
            f"of labels{beside}."
        )
    positive = sides(classes, request.positive, request.negative, request.task)
    pairs = any({*map(mapping.plain, classes)} <= set(pair) for pair in mapping.PAIRS)
    if not positive and not request.negative and not pairs:
        raise StudyError(
            f"{root}: the class folders are {some(classes)}. Say which count as 1, and which as 0 if that is not all "
            f"others: positive: [{classes[-1]}]."
        )
    label, notes, problems = mapping.labels(found["folder"], positive, request.negative, str(root))
    table = found.assign(image_id=found["path"], label=pd.to_numeric(label)).dropna(subset=["label"])
    table["path"] = [str(root.absolute() / path) for path in table["path"]]
    if set(table["part"]) == {"dev", "test"}:
        table["split"] = table["part"]
        notes.append("The split is that of the folders: train and val are dev.")
    return _listed(table.drop(columns=["part", "folder"]), ids, notes, problems, str(root))


def _listed(
    table: pd.DataFrame, ids: pd.Series, notes: list[str], problems: list[tuple[str, str, str]], origin: str
) -> Listed:
    named = table["path"].map(ids)
    table = table.assign(image_id=named if len(ids) and named.notna().all() else table["image_id"])
    table["patient_id"] = table["image_id"]
    return Listed(check(table.reset_index(drop=True), origin=origin), notes, problems, patients_known=False)


def _labelled(root: Path, paths: list[str], ids: pd.Series, request: Request) -> Listed:
    """The images that a table names: by relative path, file name, that without its ending, or SOPInstanceUID."""
    files = defaultdict(set)
    for path in paths:
        name, whole = os.path.basename(path), str(root.absolute() / path)
        for key in {path, name, os.path.splitext(name)[0], os.path.splitext(path)[0], ids.get(whole, path)}:
            files[key].add(whole)

    def find(cells: pd.Series) -> pd.Series:
        keys = [str(cell).removeprefix(f"{root}{os.sep}").removeprefix(f".{os.sep}") for cell in cells]
        keys = [key if key in files else os.path.basename(key) for key in keys]
        if twice := [key for key in dict.fromkeys(keys) if len(files.get(key, ())) > 1]:
            several = some(sorted(os.path.relpath(path, root) for path in files[twice[0]]))
            raise StudyError(
                f"{request.labels}: {len(twice):,} names stand for several files: {twice[0]} for {several}. "
                f"Give their paths relative to {root}."
            )
        return pd.Series([next(iter(files[key])) if key in files else None for key in keys], cells.index, object)

    read = read_own(request.labels, request, find)
    if unlisted := len(paths) - read.table["path"].nunique():
        read.notes.append(f"{unlisted:,} of {len(paths):,} images have no row in the table, or no label.")
    return read
