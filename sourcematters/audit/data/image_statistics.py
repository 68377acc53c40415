"""What a network could use of an image that is no anatomy: size, border, brightness, noise, compression, burnt-in text.

Text is found as far as a simple detector sees it: nearly white, thin, small signs on a darker ground near an edge. It
does not see dark or grey letters, signs that are not near an edge or that touch each other or a white border, and it
takes other thin bright things (wires, clips, the rim of a collimator) for signs. It reads nothing, and images of
fewer than `READABLE` px are not searched.
"""

import contextlib
import os
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin
from scipy import ndimage

from sourcematters import metrics
from sourcematters.cohorts.pixels import seen, window
from sourcematters.processes import over_processes, progress
from sourcematters.training.recipe import LUNG

GREYS = 32
HISTOGRAM = [f"grey_{k:02d}" for k in range(GREYS)]
SIDES = ("top", "right", "bottom", "left")
BORDER = ["border_px", "border_share", *(f"border_{side}" for side in SIDES)]
COLUMNS = [
    "image_id", "width", "height", "aspect", "bytes", *BORDER, "mean", "std", "noise", "sharpness", "bytes_a_pixel",
    "stored", "jpeg_quality", "blockiness", "text_signs", "text_share", *HISTOGRAM,
]  # fmt: skip

IMAGES_A_TASK, ALONE_SECONDS = 8, 2.0
FLAT = 8  # grey levels: a row or column at the edge whose greys differ by no more is border (JPEG leaves a few)
READABLE = 64  # px, of the shorter side
SEARCHED = 1024  # px, of the longer side: larger images are averaged down before they are searched for text
WHITE, CONTRAST = 235, 60  # grey: a sign is at least so bright, and so much brighter than what is around it
MARGIN = 0.2  # of each side: how far from an edge a sign may begin
TALL = (0.006, 0.08)  # of the shorter side: height of a sign
STROKE = 0.34  # of the height: a sign's strokes are no thicker
CANDIDATES = 300  # an image with more is noise, or a bright texture

# Table K.1 of ITU-T T.81, which libjpeg scales by its quality.
LUMINANCE = np.array([
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51,
    87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
])  # fmt: skip


def of_images(table: pd.DataFrame, workers: int = 1, *, window_hu: tuple[float, float] = LUNG) -> pd.DataFrame:
    """One row an image of the cohort's table, in its order: `COLUMNS`.

    `width, height, border_px` in px (of the file as it is turned), `aspect` is width / height, `bytes` those of the
    file, `border_share` the area, `border_top` and so on the share of the height or width; `mean, std, noise` in grey
    levels, `sharpness` the variance of the Laplacian, `jpeg_quality` 1..100 or missing, `blockiness` 1 where there is
    none, `stored` in words, `text_signs` a number and `text_share` their area, `grey_..` shares of the pixels. A CT
    slice is looked at through `window_hu`. Each file is decoded once. Raises StudyError naming one that cannot be read.
    """
    metrics.check(table, ["image_id", "path"], "the cohort's table")
    images = list(zip(table["image_id"].astype(str), table["path"].astype(str), strict=True))
    tasks = [tuple(images[start : start + IMAGES_A_TASK]) for start in range(0, len(images), IMAGES_A_TASK)]
    found: dict[str, dict[str, Any]] = {}
    with progress(total=len(images), desc="image statistics", unit="image", disable=len(images) < 100) as bar:
        measure = partial(_measure, window_hu=window_hu)
        for task, rows in over_processes(measure, tasks, workers, alone=ALONE_SECONDS):
            found |= {row["image_id"]: row for row in rows}
            bar.update(len(task))
    return pd.DataFrame([found[image_id] for image_id, _ in images], columns=COLUMNS)


def _measure(task: tuple[tuple[str, str], ...], window_hu: tuple[float, float]) -> list[dict[str, Any]]:
    return [{"image_id": image_id} | of_image(path, window_hu=window_hu) for image_id, path in task]


def of_image(path: str, *, window_hu: tuple[float, float] = LUNG) -> dict[str, Any]:
    """`COLUMNS` but the id, of one file. Raises StudyError naming it if it cannot be read."""
    pixels: Any
    pixels, how = seen(path)
    grey: NDArray[np.uint8] = window(pixels, *window_hu) if pixels.dtype == np.int16 else pixels
    (height, width), size = grey.shape, os.path.getsize(path)
    greys = np.bincount(grey.ravel(), minlength=256) / grey.size
    mean = float(greys @ np.arange(256))
    signs, area = text(grey)
    return {
        "width": width,
        "height": height,
        "aspect": width / height,
        "bytes": size,
        **border(grey),
        "mean": mean,
        "std": float(np.sqrt(greys @ (np.arange(256) - mean) ** 2)),
        "noise": noise(grey),
        "sharpness": sharpness(grey),
        "bytes_a_pixel": size / grey.size,
        "stored": how.split(",")[0][:40],
        "jpeg_quality": jpeg_quality(path),
        "blockiness": blockiness(grey),
        "text_signs": signs,
        "text_share": area,
        **dict(zip(HISTOGRAM, greys.reshape(GREYS, -1).sum(axis=1).tolist(), strict=True)),
    }


def border(grey: NDArray[np.uint8]) -> dict[str, float]:
    """How wide the flat border of a grey image (H, W) is: `BORDER`.

    From each edge inwards those rows or columns count whose greys differ by `FLAT` at most. `border_px` is that of the
    widest side, `border_share` all of it as a share of the area.
    """
    height, width = grey.shape
    top = right = bottom = left = 0
    for _ in range(2):  # a black side may cross a white one: once more, within what the first look left
        rows, columns = grey[:, left : width - right], grey[top : height - bottom]
        if rows.size:
            top, bottom = _flat_ends(np.ptp(rows, axis=1) <= FLAT)
        if columns.size:
            left, right = _flat_ends(np.ptp(columns, axis=0) <= FLAT)
    px = [top, right, bottom, left]
    inside = max(height - top - bottom, 0) * max(width - left - right, 0)
    shares = [n / side for n, side in zip(px, (height, width) * 2, strict=True)]
    return dict(zip(BORDER, [max(px), 1 - inside / grey.size, *shares], strict=True))


def _flat_ends(flat: NDArray[np.bool_]) -> tuple[int, int]:
    n = len(flat)
    return (n, n) if flat.all() else (int(flat.argmin()), int(flat[::-1].argmin()))


def noise(grey: NDArray[np.uint8]) -> float:
    """Standard deviation of white Gaussian noise, grey levels; NaN below 3 px.

    Immerkær 1996, Fast noise variance estimation, Computer Vision and Image Understanding 64, 300: the mean absolute
    response to a difference of two Laplacians, which edges and slopes hardly give.
    """
    if min(grey.shape) < 3:
        return float("nan")
    rows = _second(grey.astype(np.int16), 0)
    return float(np.sqrt(np.pi / 2) * np.abs(_second(rows, 1)).mean() / 6)


def sharpness(grey: NDArray[np.uint8]) -> float:
    """Variance of the Laplacian, grey levels squared; NaN below 3 px."""
    if min(grey.shape) < 3:
        return float("nan")
    levels = grey.astype(np.int16)  # four second differences fit in it
    return float((_second(levels, 0)[:, 1:-1] + _second(levels, 1)[1:-1]).var())


def _second(levels: NDArray[np.int16], axis: int) -> NDArray[np.int16]:
    return np.diff(levels, 2, axis)


def blockiness(grey: NDArray[np.uint8]) -> float:
    """How much larger the step between pixels is at every eighth than at the others; 1 if at none, NaN below 16 px.

    The grid of JPEG's blocks may begin anywhere, as after a crop: the largest of its eight places counts, so that
    noise is slightly above 1. Mean of both directions.
    """
    if min(grey.shape) < 16:
        return float("nan")
    ratios, levels = [], grey.astype(np.int16)
    for axis in (0, 1):
        steps = np.abs(np.diff(levels, axis=axis)).mean(axis=1 - axis)
        places = np.array([steps[start::8].mean() for start in range(8)])
        others = (places.sum() - places.max()) / 7
        ratios.append(places.max() / others if others > 0 else 1.0)
    return float(np.mean(ratios))


def jpeg_quality(path: str) -> float:
    """The quality, 1..100, at which libjpeg writes such a table of luminance; NaN for any other file.

    libjpeg multiplies its table by 5000 / q or 200 - 2 q percent (jcparam.c, `jpeg_quality_scaling`).
    """
    with contextlib.suppress(Exception), Image.open(path) as image:  # whatever was wrong, the pixels have been read
        if isinstance(image, JpegImagePlugin.JpegImageFile) and 0 in image.quantization:
            table = np.array(image.quantization[0])
            if not (free := table < 255).any():  # no entry is larger
                return 1.0
            percent = float(100 * table[free].sum() / LUMINANCE[free].sum())
            quality = (200 - percent) / 2 if percent <= 100 else 5000 / percent
            return float(np.clip(round(quality), 1, 100))
    return float("nan")


def text(grey: NDArray[np.uint8]) -> tuple[float, float]:
    """How many bright, thin, small signs a grey image (H, W) has near its edges, and their share of its pixels.

    What the module says it cannot see, it does not count. NaN, NaN below `READABLE` px.
    """
    if min(grey.shape) < READABLE:
        return float("nan"), float("nan")
    if (factor := -(-max(grey.shape) // SEARCHED)) > 1:
        grey = np.asarray(Image.fromarray(grey).reduce(factor))
    height, width = grey.shape
    components, number = ndimage.label(grey >= WHITE, np.ones((3, 3)))
    if not number:
        return 0.0, 0.0
    low, high = (share * min(grey.shape) for share in TALL)
    candidates = []
    for k, box in enumerate(ndimage.find_objects(components), start=1):
        (top, bottom), (left, right) = ((side.start, side.stop) for side in box)
        near = min(top, left, height - bottom, width - right) >= 1 and (
            min(top, height - bottom) <= MARGIN * height or min(left, width - right) <= MARGIN * width
        )
        if near and max(low, 5) <= bottom - top <= high and right - left <= high:
            candidates.append((k, box))
    if len(candidates) > CANDIDATES:
        return 0.0, 0.0
    areas = [_sign(grey, components, k, box) for k, box in candidates]
    return float(np.count_nonzero(areas)), sum(areas) / grey.size


def _sign(grey: NDArray[np.uint8], components: NDArray[np.int32], k: int, box: tuple[slice, slice]) -> int:
    """Pixels of a component if it is made of strokes on a darker ground, else 0."""
    around = tuple(slice(max(side.start - 2, 0), side.stop + 2) for side in box)
    own = components[around] == k
    if own.all() or np.median(grey[around][own]) - np.median(grey[around][~own]) < CONTRAST:
        return 0
    stroke = 2 * ndimage.distance_transform_edt(own).max() - 1
    return int(own.sum()) if stroke <= max(STROKE * (own.shape[0] - 4), 3) else 0
