"""MedMNIST's files (Yang et al., MedMNIST v2, Scientific Data 10, 41, 2023; https://medmnist.com).

One .npz holds `train_images`, `train_labels` and the same of val and test. The images become PNG files in the cache.
Train and validation are dev, in which folds are drawn as for any data; MedMNIST tells no patients.
"""

import math
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from sourcematters import checksums, files
from sourcematters.checked import cut, unknown
from sourcematters.cohorts.assembly import Listed, assembled
from sourcematters.cohorts.cohort import Cohort, check, some
from sourcematters.cohorts.readers import Reader, Request, register
from sourcematters.cohorts.spelling import kind
from sourcematters.errors import StudyError
from sourcematters.processes import progress

PARTS = {"train": "dev", "val": "dev", "test": "test"}
MOST_BYTES = 2**32  # that one array may unpack to
A_TASK = 500
ORGANS = (
    "bladder", "femur-left", "femur-right", "heart", "kidney-left", "kidney-right", "liver", "lung-left", "lung-right",
    "pancreas", "spleen",
)  # fmt: skip
CLASSES = {
    "pneumoniamnist": ("normal", "pneumonia"),
    "breastmnist": ("malignant", "normal, benign"),
    "chestmnist": (
        "atelectasis", "cardiomegaly", "effusion", "infiltration", "mass", "nodule", "pneumonia", "pneumothorax",
        "consolidation", "edema", "emphysema", "fibrosis", "pleural", "hernia",
    ),
    "octmnist": ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal"),
    "pathmnist": (
        "adipose", "background", "debris", "lymphocytes", "mucus", "smooth muscle", "normal colon mucosa",
        "cancer-associated stroma", "colorectal adenocarcinoma epithelium",
    ),
    "dermamnist": (
        "actinic keratoses and intraepithelial carcinoma", "basal cell carcinoma", "benign keratosis-like lesions",
        "dermatofibroma", "melanoma", "melanocytic nevi", "vascular lesions",
    ),
    "retinamnist": ("0", "1", "2", "3", "4"),
    "bloodmnist": (
        "basophil", "eosinophil", "erythroblast",
        "immature granulocytes(myelocytes, metamyelocytes and promyelocytes)", "lymphocyte", "monocyte", "neutrophil",
        "platelet",
    ),
    "tissuemnist": (
        "Collecting Duct, Connecting Tubule", "Distal Convoluted Tubule", "Glomerular endothelial cells",
        "Interstitial endothelial cells", "Leukocytes", "Podocytes", "Proximal Tubule Segments",
        "Thick Ascending Limb",
    ),
    "organamnist": ORGANS, "organcmnist": ORGANS, "organsmnist": ORGANS,
}  # fmt: skip
"""What the labels of each published set mean, by number (medmnist/info.py of the release)."""


def shapes(path: str | Path) -> dict[str, tuple[int, ...]]:
    """The shape of each array of a MedMNIST file, from their headers. Raises StudyError if it is none."""
    found: dict[str, tuple[int, ...]] = {}
    try:
        with files.opened(path) as file, zipfile.ZipFile(file) as archive:
            for part in PARTS:
                for what in ("images", "labels"):
                    name = f"{part}_{what}"
                    if f"{name}.npy" not in archive.namelist():
                        there = some(archive.namelist()) or "nothing"
                        raise StudyError(f"{path}: no array {name}, as MedMNIST has it; there is {there}.")
                    with archive.open(f"{name}.npy") as array:
                        np.lib.format.read_magic(array)  # version 1, as numpy writes what has no names of fields
                        shape, _, dtype = np.lib.format.read_array_header_1_0(array)
                    found[name] = shape
                    _check(path, name, shape, dtype, archive.getinfo(f"{name}.npy").file_size)
    except StudyError:
        raise
    except OSError as error:
        raise StudyError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except Exception as error:  # zipfile and numpy raise whatever a broken file provokes
        raise _damaged(path, error) from error
    for part in PARTS:
        if found[f"{part}_images"][0] != found[f"{part}_labels"][0]:
            counts = f"{found[f'{part}_images'][0]} images and {found[f'{part}_labels'][0]} labels"
            raise StudyError(f"{path}: {part} has {counts}. Download it again.")
    return found


def _check(path: str | Path, name: str, shape: tuple[int, ...], dtype: np.dtype, size: int) -> None:
    is_image = name.endswith("images")
    form = " x ".join(map(str, shape)) or "one number"
    if max(size, math.prod(shape) * dtype.itemsize) > MOST_BYTES:
        limit = f"{name} unpacks to over {MOST_BYTES >> 30} GiB ({form})"
        raise StudyError(f"{path}: {limit}. Take an edition of fewer pixels.")
    if is_image and (dtype != np.uint8 or len(shape) not in (3, 4) or len(shape) == 4 and shape[3] != 3):
        what = "volumes, of which no picture is made" if len(shape) in (4, 5) else "no list of grey or colour images"
        raise StudyError(f"{path}: {name} is {form} of {dtype}: {what}. It should be N x 28 x 28 (x 3) of uint8.")
    if not is_image and (len(shape) not in (1, 2) or dtype.kind not in "iub"):
        raise StudyError(f"{path}: {name} is {form} of {dtype}. It should be N x 1, or N x findings, of whole numbers.")


def _damaged(path: str | Path, error: Exception) -> StudyError:
    return StudyError(f"{path}: no .npz file that can be read ({cut(str(error))}). Download it again.")


def array(path: str | Path, name: str) -> NDArray[Any]:
    """One array of a file that `shapes` has looked at. Raises StudyError if it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return np.asarray(arrays[name])
    except Exception as error:
        raise _damaged(path, error) from error


def names_of(path: str | Path) -> tuple[str, ...]:
    """What the classes or findings of a published set are called, by the name of its file; empty for another one."""
    found = re.match(r"[a-z]+mnist", Path(path).name.lower())
    return CLASSES.get(found[0], ()) if found else ()


def labelled(path: str | Path, request: Request) -> tuple[pd.DataFrame, list[str]]:
    """One row an image that counts: `part`, `row` (in its array), `label`; and what that is, in words."""
    sets = {part: array(path, f"{part}_labels") for part in PARTS}
    width = {cells.shape[1] if cells.ndim == 2 else 1 for cells in sets.values()}
    if len(width) > 1:
        raise StudyError(f"{path}: its parts have different numbers of findings. Download it again.")
    names, number, single = names_of(path), width.pop(), 0
    if number > 1:
        known = names if len(names) == number else tuple(map(str, range(number)))
        asked = request.columns.get("label") or request.task
        asked_number = _number(asked, known)
        if asked_number is None:
            choice = f"{unknown('finding', asked, known)} Name one as task, or by its number: columns: {{label: 6}}."
            raise StudyError(f"{path}: {choice}")
        single, meaning = asked_number, f"finding {asked_number}, {known[asked_number]}"
    rows = [(part, k) for part, cells in sets.items() for k in range(len(cells))]
    values = np.concatenate([cells.reshape(len(cells), -1)[:, single] for cells in sets.values()]).astype(int)
    table = pd.DataFrame(rows, columns=["part", "row"]).assign(value=values)
    there = sorted(set(values.tolist()))
    if number > 1:
        table["label"] = table["value"].where(table["value"].isin([0, 1]))
        return table.dropna(subset="label"), [f"Label 1 is {meaning}."]
    called = {k: names[k] if k < len(names) else str(k) for k in there}

    def chosen(values: tuple[str, ...], what: str) -> set[int]:
        found = {value: _number(value, names) for value in values}
        if wrong := [value for value, k in found.items() if k not in there]:
            raise StudyError(f"{path}: {what}: {unknown('class', wrong[0], [*called.values(), *map(str, there)])}")
        return {k for k in found.values() if k is not None}

    positive, negative = chosen(request.positive, "positive"), chosen(request.negative, "negative")
    if both := positive & negative:
        raise StudyError(f"{path}: {called[both.pop()]} cannot be in both positive and negative.")
    if not positive and negative:
        positive = set(there) - negative
    elif not positive and (task := _number(request.task, names)) in there and not request.task.isdigit():
        positive = {task} if task is not None else set()
    elif not positive and set(there) <= {0, 1}:
        positive = {1}
    elif not positive:
        listing = ", ".join(f"{k} {name}" * (name != str(k)) or str(k) for k, name in called.items())
        raise StudyError(f"{path}: its classes are {listing}. Say which count as 1: positive: [{there[-1]}].")
    negative = negative or set(there) - positive
    label = table["value"].map({k: 1 for k in positive} | {k: 0 for k in negative})
    said = [f"{k} is {some(called[c] for c in sorted(classes))}" for k, classes in ((1, positive), (0, negative))]
    out = f"; left out {label.isna().sum():,} images of other classes" if label.isna().any() else ""
    return table.assign(label=label)[label.notna()], [f"Label {said[0]}, label {said[1]}{out}."]


def _number(asked: str, names: tuple[str, ...]) -> int | None:
    """The number of a class that is named, or given as a number; None for neither."""
    same = [k for k, name in enumerate(names) if kind(name) == kind(asked)]
    if same and asked:
        return same[0]
    return int(asked) if asked.isdigit() and (not names or int(asked) < len(names)) else None


@register
class MedMNIST(Reader):
    """One of MedMNIST's sets, or a file laid out alike; colour becomes grey."""

    name = "medmnist"
    help = "a MedMNIST file (.npz); task a class or finding of its, or any name with positive: [CLASS, ...]"
    uses = ("columns", "positive", "negative")

    def claims(self, data: str) -> bool:
        """Whether it is named as an .npz file is."""
        return data.lower().endswith(".npz")

    def open(self, request: Request) -> Cohort:
        """The images, as PNG files that are written where they are not there. Raises StudyError for a broken file."""
        path = Path(request.data)
        shapes(path)
        table, notes = labelled(path, request)
        folder = Path(request.cache).absolute() / f"{path.stem}-{files.sha256(path)[:8]}"
        table["image_id"] = [f"{part}_{row:06d}" for part, row in zip(table["part"], table["row"], strict=True)]
        table["path"] = [str(folder / f"{name}.png") for name in table["image_id"]]
        table["patient_id"], table["split"] = table["image_id"], table["part"].map(PARTS)
        table["label"] = table["label"].astype(int)
        _write_missing(path, folder, table)
        notes.append("MedMNIST's train and val are dev, its test is test.")
        table = check(table[["image_id", "path", "patient_id", "label", "split"]], origin=str(path))
        listed = Listed(table, notes, patients_known=False)
        return assembled(listed, request, name=path.stem.lower().replace("_", "-"), origin=str(path))


def _write_missing(path: Path, folder: Path, table: pd.DataFrame) -> None:
    """Write the PNG files that are not there, or not as written: `folder`/.sha256 tells, and grows as they do."""
    listing = folder / checksums.SUFFIX
    with files.locked(folder / ".lock"):
        sums = checksums.read(listing)
        names = [f"{name}.png" for name in table["image_id"]]
        flaws = {name: checksums.flaw(listing, [name], sums) for name in names}
        if damaged := [flaw for name, flaw in flaws.items() if flaw and name in sums]:
            checksums.tell(damaged[0], "it is written again")
        new = table[[bool(flaws[name]) for name in names]]
        for part, rows in new.groupby("part", sort=False):
            images = array(path, f"{part}_images")
            pairs = list(zip(rows["path"], rows["row"], strict=True))
            with progress(total=len(rows), desc=f"{path.name}, {part}", unit="image", disable=len(rows) < 1000) as bar:
                for start in range(0, len(pairs), A_TASK):
                    written = [_write(place, images[row]) for place, row in pairs[start : start + A_TASK]]
                    with files.explained(listing), open(listing, "a", encoding="utf-8") as seal:
                        seal.writelines(written)
                    bar.update(len(written))
        if len(new):
            checksums.write(listing, checksums.read(listing))


def _write(place: str, pixels: NDArray[np.uint8]) -> str:
    """Write an image; the line of its seal."""
    with files.replacing(place) as beside:
        Image.fromarray(pixels).save(beside, format="PNG")
    return f"{files.sha256(place)}  {Path(place).name}\n"
