"""The image bank: every image decoded and resized once, shared by all runs.

A bank file holds one rendering of a whole cohort: uint8 (N, size, size), grey, memory-mapped, in its table's order.
Its name carries a hash of the files' content and of every setting, so a bank is found again but never mistaken.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from sourcematters import checksums
from sourcematters.cohorts.pixels import read, window
from sourcematters.confounders import HOUNSFIELD, ORIGINAL, Alteration, apply, key_for
from sourcematters.errors import StudyError
from sourcematters.files import explained, locked, sha256
from sourcematters.processes import over_processes, progress
from sourcematters.training.recipe import LUNG, REVISIONS, Preprocessing

# Keras resizes by nearest neighbour, as the paper's code did; Pillow's bilinear averages what it drops.
INTERPOLATIONS = {"nearest": Image.Resampling.NEAREST, "antialias": Image.Resampling.BILINEAR}
ROWS_A_TASK = 8
ALONE_SECONDS = 1.0  # what starting other processes takes


class Rendering(Preprocessing):
    """An image altered at native size, cropped, then resized; `seed` is that of the alteration's noise."""

    alteration: Alteration = ORIGINAL
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Pixels:
    """Two banks of the same cohort, uint8 (N, size, size): without and with the artefact."""

    base: NDArray[np.uint8]
    carrier: NDArray[np.uint8]

    def batch(self, rows: NDArray[np.int64], carries: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """The images of `rows`, as uint8 (B, 1, size, size), each with the artefact where it `carries`."""
        images = self.base[rows]
        if carries.any():
            images[carries] = self.carrier[rows[carries]]
        return images[:, None]


def render(path: str, image_id: str, renderings: Sequence[Rendering]) -> list[NDArray[np.uint8]]:
    """Decode one file once and return it as each rendering: uint8 (size, size), 0..255.

    Raises StudyError naming the file for an image smaller than the crop, and as `altered_grey` does.
    """
    image, rendered = read(path), []
    for rendering in renderings:
        key = key_for(rendering.seed, image_id, rendering.alteration)
        try:
            pixels, _ = altered_grey(image, rendering.alteration, key, rendering.window)
            rendered.append(at_input(pixels, rendering))
        except StudyError as error:
            raise StudyError(f"{path}: {error}") from error
    return rendered


def at_input(pixels: NDArray[np.uint8], how: Preprocessing) -> NDArray[np.uint8]:
    """A grey image (H, W), cropped and resized to what the network gets, (size, size).

    Raises StudyError for one that is smaller than the crop.
    """
    if side := how.crop:
        rows, columns = pixels.shape
        if side > min(rows, columns):
            raise StudyError(
                f"{columns} x {rows} px (width x height) are too few for crop {side}. Choose a smaller crop, or 0 for "
                "the whole image."
            )
        top, left = (rows - side) // 2, (columns - side) // 2
        pixels = pixels[top : top + side, left : left + side]
    resized = Image.fromarray(pixels).resize((how.size, how.size), INTERPOLATIONS[how.interpolation])
    return np.asarray(resized)


def altered_grey(
    image: NDArray, alteration: Alteration, key: int, window_hu: tuple[float, float] = LUNG
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A grey image (uint8) or CT slice (int16, HU), altered, as grey uint8 (H, W), and the artefact's mask.

    A CT slice is altered before it is windowed if the alteration acts on Hounsfield units, after it otherwise.
    Raises StudyError for an alteration of Hounsfield units of any other image.
    """
    is_ct = image.dtype == np.int16
    if alteration.space != HOUNSFIELD:
        return apply(alteration, window(image, *window_hu) if is_ct else image, key)
    if not is_ct:
        raise StudyError(
            f"{alteration.name} needs a CT slice in Hounsfield units, and this is a grey image. "
            "Choose noise in domain grey, or a cohort of CT slices."
        )
    image, mask = apply(alteration, image, key)
    return window(image, *window_hu), mask


def fingerprints(cohort: pd.DataFrame, folder: str | Path) -> pd.Series:
    """SHA-256 of each image file, as a Series over `image_id`.

    A file is read again only when its `checksums.stamp` changed: `folder/files.csv` remembers.
    Raises StudyError for the first file that is missing.
    """
    memory, known = Path(folder) / "files.csv", dict[tuple[str, ...], str]()
    if checksums.usable(memory, "all images are read again"):
        rows = pd.read_csv(memory, dtype=str, keep_default_na=False).to_numpy().tolist()
        known = {tuple(stamp): digest for *stamp, digest in rows}
    stamps = []
    for image_id, path in zip(cohort["image_id"], cohort["path"], strict=True):
        try:
            stamps.append(tuple(map(str, checksums.stamp(path))))
        except OSError as error:
            raise StudyError(
                f"image {image_id}: {path} cannot be read ({error.strerror}). "
                "Restore the file or drop its row; `python -m sourcematters verify` lists all such files."
            ) from error
    new = [stamp for stamp in dict.fromkeys(stamps) if stamp not in known]
    for stamp in progress(new, desc="fingerprint images", disable=len(new) < 1000):
        known[stamp] = sha256(stamp[0])
    if new:
        # Of a file that changed, what it was before is forgotten.
        now = {stamp[0]: stamp for stamp in stamps}
        rows = [(*stamp, digest) for stamp, digest in sorted(known.items()) if now.get(stamp[0], stamp) == stamp]
        checksums.write_csv(memory, pd.DataFrame(rows, columns=["path", "size", "mtime", "ctime", "inode", "sha256"]))
    return pd.Series([known[stamp] for stamp in stamps], index=cohort["image_id"].to_numpy())


def bank_path(content: pd.Series, rendering: Rendering, folder: str | Path) -> Path:
    """Where the bank of these files (`fingerprints`) under this rendering lives, built or not."""
    # Which files are CT is not known here, so a window of one's own renames the banks of radiographs too.
    how: dict[str, Any] = rendering.model_dump(include=set(Preprocessing.model_fields))
    how |= {"alteration": rendering.alteration.label, "revision": rendering.alteration.revision}
    how |= {"seed": 0 if rendering.alteration == ORIGINAL else rendering.seed, "rendering": REVISIONS["rendering"]}
    text = json.dumps([list(content.index), list(content), how])
    key = hashlib.sha256(text.encode()).hexdigest()[:12]
    return Path(folder) / f"{rendering.alteration.name}-{rendering.size}px-{rendering.interpolation}-{key}.npy"


def build(
    cohort: pd.DataFrame, renderings: Sequence[Rendering], folder: str | Path, *, workers: int = 1
) -> list[NDArray[np.uint8]]:
    """Return the banks of `renderings`, memory-mapped, building those that are missing.

    Each image is decoded once for all missing renderings. Two processes may call this at once: one
    builds, the other waits. An interrupted build goes on with the images it had not finished. A bank that is not what
    was written is built again, and said.
    Raises StudyError naming the image that cannot be decoded, or when the disk is full.
    """
    folder = Path(folder)
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / "bank.lock"):
            content = fingerprints(cohort, folder)
        banks = {bank_path(content, rendering, folder): rendering for rendering in renderings}
        # All workers of a grid come here at once: they compare checksums without waiting for one another.
        if any(map(checksums.flaw_of, banks)):
            with locked(folder / "bank.lock"):
                usable = [path for path in banks if checksums.usable(path, "the bank is built again")]
                if missing := {path: rendering for path, rendering in banks.items() if path not in usable}:
                    _fill(cohort, missing, workers)
    return [np.load(bank_path(content, rendering, folder), mmap_mode="r") for rendering in renderings]


def _fill(cohort: pd.DataFrame, missing: dict[Path, Rendering], workers: int) -> None:
    partials, n = {path.with_suffix(".partial"): rendering for path, rendering in missing.items()}, len(cohort)
    done_path = next(iter(partials)).with_suffix(".done")  # a number an image: its `_checksum` in all banks, or 0
    if not _resumable(partials, done_path, n):
        done_path.unlink(missing_ok=True)
        for path, rendering in partials.items():
            _allocate(path, (n, rendering.size, rendering.size))
        done_path.write_bytes(bytes(4 * n))
    done, arrays = np.memmap(done_path, dtype=np.uint32, mode="r+"), [np.load(path, mmap_mode="r") for path in partials]
    # When a machine goes down, what was said to be done may not have reached its disk.
    done[[row for row in np.flatnonzero(done).tolist() if _checksum(arrays, row) != done[row]]] = 0
    images = list(zip(range(n), cohort["image_id"], cohort["path"], strict=True))
    waiting = [images[row] for row in np.flatnonzero(done == 0)]
    tasks = [waiting[start : start + ROWS_A_TASK] for start in range(0, len(waiting), ROWS_A_TASK)]
    names = " + ".join(rendering.alteration.name for rendering in missing.values())
    with progress(total=n, initial=n - len(waiting), desc=f"image bank: {names}", unit="image") as bar:
        for task, sums in over_processes(partial(_fill_rows, banks=partials), tasks, workers, alone=ALONE_SECONDS):
            done[[row for row, _, _ in task]] = sums
            bar.update(len(task))
    for beside, path in zip(partials, missing, strict=True):
        digest = sha256(beside)
        os.replace(beside, path)
        checksums.write(checksums.seal_of(path), {path.name: digest})
    done_path.unlink()


def _resumable(partials: dict[Path, Rendering], done_path: Path, n: int) -> bool:
    """Whether an interrupted build of these banks left what it had."""
    try:
        shapes = [np.load(path, mmap_mode="r").shape for path in partials]
        sizes = [rendering.size for rendering in partials.values()]
        return done_path.stat().st_size == 4 * n and shapes == [(n, size, size) for size in sizes]
    except Exception:  # whatever NumPy makes of a damaged header
        return False


def _checksum(arrays: list[NDArray[np.uint8]], row: int) -> int:
    """CRC-32 of an image in all banks, never 0."""
    found = 0
    for array in arrays:
        found = crc32(array[row].tobytes(), found)
    return found or 1


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


def _fill_rows(task: list[tuple[int, str, str]], banks: dict[Path, Rendering]) -> list[int]:
    arrays = [np.load(path, mmap_mode="r+") for path in banks]
    for row, image_id, path in task:
        for array, pixels in zip(arrays, render(path, image_id, list(banks.values())), strict=True):
            array[row] = pixels
    return [_checksum(arrays, row) for row, _, _ in task]
