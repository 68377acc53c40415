"""The image bank: every image decoded and resized once, shared by all runs.

One bank file holds one rendering (the original, or one alteration at native size) of a whole cohort:
a uint8 array (N, size, size), grey, memory-mapped, in the order of the cohort table. Its name carries
a hash of the files' content and of every setting, so a bank can be found again but never mistaken.
"""

import hashlib
import json
import math
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, field_validator

from sourcematters.checked import Checked
from sourcematters.cohorts.pixels import read, window
from sourcematters.confounders import HOUNSFIELD, ORIGINAL, Alteration, apply, key_for
from sourcematters.errors import StudyError
from sourcematters.files import explained, sha256, write_csv
from sourcematters.processes import over_processes, progress
from sourcematters.training.recipe import LUNG, Interpolation, Window

INTERPOLATIONS = {"nearest": Image.Resampling.NEAREST, "antialias": Image.Resampling.BILINEAR}
"""Keras resizes by nearest neighbour, as the paper's code did; Pillow's bilinear averages what it drops."""

ROWS_A_TASK = 8
ALONE_SECONDS = 1.0  # what starting other processes takes


class Rendering(Checked):
    """How an image becomes the network's pixels: altered at native size, cropped, then resized to a square."""

    alteration: Alteration = ORIGINAL
    size: int = Field(512, ge=8, le=4096, description="px, side of the square")
    interpolation: Interpolation = "nearest"
    seed: int = Field(0, description="of the alteration's noise")
    window: Window = Field(LUNG, description="centre and width in HU, which make a CT slice grey; others ignore it")
    crop: int = Field(0, ge=0, description="px, side of the square kept from the centre at native size; 0 keeps all")

    @field_validator("crop")
    @classmethod
    def _crop_is_no_stamp(cls, crop: int) -> int:
        if 0 < crop < 8:
            raise ValueError("should be at least 8 px, or 0 for the whole image")
        return crop


def render(path: str, image_id: str, renderings: Sequence[Rendering]) -> list[NDArray[np.uint8]]:
    """Decode one file once and return it as each rendering: uint8 (size, size), 0..255.

    A CT slice is altered before it is windowed if the alteration acts on Hounsfield units, after it otherwise.
    Raises StudyError naming the file for such an alteration of any other image, and for an image smaller than the
    crop.
    """
    image = read(path)
    return [_rendered(image, path, image_id, rendering) for rendering in renderings]


def _rendered(image: NDArray, path: str, image_id: str, rendering: Rendering) -> NDArray[np.uint8]:
    key = key_for(rendering.seed, image_id, rendering.alteration)
    try:
        image, _ = altered_grey(image, rendering.alteration, key, rendering.window)
    except StudyError as error:
        raise StudyError(f"{path}: {error}") from error
    if side := rendering.crop:
        rows, columns = image.shape
        if side > min(rows, columns):
            raise StudyError(
                f"{path}: {columns} x {rows} px (width x height) are too few for crop {side}. "
                "Choose a smaller crop, or 0 for the whole image."
            )
        top, left = (rows - side) // 2, (columns - side) // 2
        image = image[top : top + side, left : left + side]
    square = (rendering.size, rendering.size)
    return np.asarray(Image.fromarray(image).resize(square, INTERPOLATIONS[rendering.interpolation]))


def altered_grey(
    image: NDArray, alteration: Alteration, key: int, window_hu: tuple[float, float] = LUNG
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A grey image (uint8) or CT slice (int16, HU), altered, as grey uint8 (H, W), and the artefact's mask.

    A CT slice is altered before it is windowed if the alteration acts on Hounsfield units, after it otherwise.
    Raises StudyError for an alteration of Hounsfield units of any other image.
    """
    is_ct = image.dtype == np.int16
    if alteration.space == HOUNSFIELD:
        if not is_ct:
            raise StudyError(
                f"{alteration.name} needs a CT slice in Hounsfield units (a DICOM file), and this is a grey image. "
                "Choose noise in domain grey, or a cohort of CT slices."
            )
        image, mask = apply(alteration, image, key)
        return window(np.asarray(image, np.int16), *window_hu), mask
    image, mask = apply(alteration, window(image, *window_hu) if is_ct else image, key)
    return np.asarray(image, np.uint8), mask


def fingerprints(cohort: pd.DataFrame, folder: str | Path) -> pd.Series:
    """SHA-256 of each image file, as a Series over `image_id`.

    A file is read again only when its size or modification time changed: `folder/files.csv` remembers.
    Raises StudyError for the first file that is missing.
    """
    memory = Path(folder) / "files.csv"
    rows = pd.read_csv(memory, dtype=str).to_numpy().tolist() if memory.exists() else []
    known = {(path, size, mtime): digest for path, size, mtime, digest in rows}
    stamps = []
    for image_id, path in zip(cohort["image_id"], cohort["path"], strict=True):
        try:
            stat = os.stat(path)
        except OSError as error:
            raise StudyError(
                f"image {image_id}: {path} cannot be read ({error.strerror}). "
                "Restore the file or drop its row; `python -m sourcematters verify` lists all such files."
            ) from error
        stamps.append((path, str(stat.st_size), str(stat.st_mtime_ns)))
    new = [stamp for stamp in dict.fromkeys(stamps) if stamp not in known]
    for stamp in progress(new, desc="fingerprint images", disable=len(new) < 1000):
        known[stamp] = sha256(stamp[0])
    if new:
        rows = [(*stamp, digest) for stamp, digest in sorted(known.items())]
        write_csv(memory, pd.DataFrame(rows, columns=["path", "size", "mtime", "sha256"]))
    return pd.Series([known[stamp] for stamp in stamps], index=cohort["image_id"].to_numpy())


def bank_path(content: pd.Series, rendering: Rendering, folder: str | Path) -> Path:
    """Where the bank of these files (`fingerprints`) under this rendering lives, built or not."""
    settings = [rendering.alteration.label, rendering.size, rendering.interpolation]
    if rendering.alteration != ORIGINAL:
        settings.append(rendering.seed)
    # What is at its default adds nothing: the banks of radiographs were named before there was CT. Whoever changes
    # a default must therefore write it here. Which files are CT is not known here, so a window of one's own renames
    # the banks of radiographs too; that makes them again, but mistakes none.
    if rendering.crop:
        settings.append({"crop": rendering.crop})
    if rendering.window != LUNG:
        settings.append({"window": rendering.window})
    text = json.dumps([list(content.index), list(content), settings])
    key = hashlib.sha256(text.encode()).hexdigest()[:12]
    return Path(folder) / f"{rendering.alteration.name}-{rendering.size}px-{rendering.interpolation}-{key}.npy"


def build(
    cohort: pd.DataFrame, renderings: Sequence[Rendering], folder: str | Path, *, workers: int = 1
) -> list[NDArray[np.uint8]]:
    """Return the banks of `renderings`, memory-mapped, building those that are missing.

    Each image is decoded once for all missing renderings. Two processes may call this at once: one
    builds, the other waits. An interrupted build goes on with the images it had not finished.
    Raises StudyError naming the image that cannot be decoded, or when the disk is full.
    """
    folder = Path(folder)
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "bank.lock"):
            content = fingerprints(cohort, folder)
            banks = {bank_path(content, rendering, folder): rendering for rendering in renderings}
            missing = {path: rendering for path, rendering in banks.items() if not path.exists()}
            if missing:
                _fill(cohort, missing, workers)
    return [np.load(bank_path(content, rendering, folder), mmap_mode="r") for rendering in renderings]


def _fill(cohort: pd.DataFrame, missing: dict[Path, Rendering], workers: int) -> None:
    n = len(cohort)
    partial_paths = [path.with_suffix(".partial") for path in missing]
    done_path = partial_paths[0].with_suffix(".done")
    if not (done_path.exists() and all(p.exists() for p in partial_paths)):
        done_path.unlink(missing_ok=True)
        for path, rendering in zip(partial_paths, missing.values(), strict=True):
            _allocate(path, (n, rendering.size, rendering.size))
        done_path.write_bytes(bytes(n))
    done = np.memmap(done_path, dtype=np.uint8, mode="r+")
    rows = np.flatnonzero(done == 0)
    chunks = np.array_split(rows, max(1, math.ceil(len(rows) / ROWS_A_TASK)))
    ids, paths = cohort["image_id"].tolist(), cohort["path"].tolist()
    tasks = [[(int(row), ids[row], paths[row]) for row in chunk] for chunk in chunks if len(chunk)]
    work = partial(_fill_rows, targets=partial_paths, renderings=list(missing.values()))
    names = " + ".join(rendering.alteration.name for rendering in missing.values())
    with progress(total=n, initial=n - len(rows), desc=f"image bank: {names}", unit="image") as bar:
        for task, _ in over_processes(work, tasks, workers, alone=ALONE_SECONDS):
            done[[row for row, _, _ in task]] = 1
            bar.update(len(task))
    for beside, path in zip(partial_paths, missing, strict=True):
        os.replace(beside, path)
    done_path.unlink()


def _allocate(path: Path, shape: tuple[int, int, int]) -> None:
    # Without reserving the space first, a full disk would end the process by SIGBUS on a later store.
    np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    try:
        with open(path, "r+b") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError:
        path.unlink()
        raise


def _fill_rows(task: list[tuple[int, str, str]], targets: list[Path], renderings: list[Rendering]) -> None:
    arrays = [np.load(target, mmap_mode="r+") for target in targets]
    for row, image_id, path in task:
        for array, pixels in zip(arrays, render(path, image_id, renderings), strict=True):
            array[row] = pixels
