"""From the image bank to batches on the device; they depend on seed, image names and number of the epoch only."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch.nn import functional

from sourcematters.seeds import keys, stream
from sourcematters.training import devices
from sourcematters.training.image_bank import Pixels
from sourcematters.training.recipe import Training

RESIDENT_SHARE = 0.25  # banks that take more than this share of the device's memory are read from disk, ahead of use

Choice = tuple[NDArray[np.int64], NDArray[np.bool_]]
"""The images of one batch: their rows in the banks, and which of them carry the artefact."""

Batch = tuple[torch.Tensor, torch.Tensor]
"""Images, float32 (B, 1, size, size) in 0..255, and labels, int64 (B,), on the device."""

_resident: dict[tuple[Pixels, torch.device], torch.Tensor] = {}


def feed(pixels: Pixels, choices: Iterable[Choice], device: torch.device) -> Iterator[torch.Tensor]:
    """The images of each choice in turn, uint8 (B, 1, size, size) on `device`.

    Banks that fit (RESIDENT_SHARE) are taken from the device's memory: on an accelerator one tensor; on a CPU the
    memory maps, whose pages all workers share. Of larger ones a thread reads the next batch while this one is computed.
    """
    if pixels.base.nbytes + pixels.carrier.nbytes > RESIDENT_SHARE * devices.memory(device):
        prepared = (torch.from_numpy(pixels.batch(*choice)) for choice in choices)
        if device.type == "cuda":
            # Only page-locked memory is copied while the device computes.
            prepared = (images.pin_memory() for images in prepared)
        yield from (images.to(device, non_blocking=True) for images in _ahead(prepared))
    elif device.type == "cpu":
        yield from (torch.from_numpy(pixels.batch(*choice)) for choice in choices)
    else:
        both = resident(pixels, device)
        for rows, carries in choices:
            yield both[torch.from_numpy(rows + len(pixels.base) * carries).to(device)]


def resident(pixels: Pixels, device: torch.device) -> torch.Tensor:
    """Both banks as one tensor on `device`, uint8 (2 N, 1, size, size): image i at i, with the artefact at N + i.

    The last pair asked for is kept, so that runs on the same banks load them once.
    """
    if (pixels, device) not in _resident:
        _resident.clear()  # before the others need room
        n, *shape = pixels.base.shape
        both = torch.empty((2 * n, 1, *shape), dtype=torch.uint8, device=device)
        for half, bank in zip(both.split(n), (pixels.base, pixels.carrier), strict=True):
            half.copy_(torch.from_numpy(np.array(bank)).unsqueeze(1))
        _resident[pixels, device] = both
    return _resident[pixels, device]


def _ahead(batches: Iterator[torch.Tensor]) -> Iterator[torch.Tensor]:
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(next, batches, None)
        while (batch := following.result()) is not None:
            following = thread.submit(next, batches, None)
            yield batch


class TrainingSet:
    """The `train` part of `design.sets`, shuffled and augmented anew in every epoch."""

    def __init__(self, pixels: Pixels, train: pd.DataFrame, training: Training, *, seed: int, device: torch.device):
        ids = train["image_id"].tolist()
        self._order_keys, self._augment_keys = keys(seed, ids, "order"), keys(seed, ids, "augment")
        self._rows, self._carries = train["row"].to_numpy(), train["carries"].to_numpy(bool)
        self._labels = torch.tensor(train["label"].to_numpy())
        self._pixels, self._training, self._device = pixels, training, device

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch."""
        order = np.argsort(stream(self._order_keys, epoch, 1)[:, 0], kind="stable")  # each image draws its rank
        matrices = affine_matrices(self._augment_keys[order], self._training, epoch).to(self._device)  # (N, 2, 3)
        rows, carries, labels = self._rows[order], self._carries[order], self._labels[order].to(self._device)
        parts = slices(len(order), self._training.batch_size)
        fed = feed(self._pixels, ((rows[part], carries[part]) for part in parts), self._device)
        for part, images in zip(parts, fed, strict=True):
            yield augment(images, matrices[part]), labels[part]


def slices(n: int, size: int) -> list[slice]:
    """`n` images in batches of `size`; a last batch of one image joins the one before."""
    starts = list(range(0, n, size))
    # Batch normalization cannot estimate a variance from one image.
    if len(starts) > 1 and n - starts[-1] == 1:
        del starts[-1]
    return [slice(*ends) for ends in zip(starts, [*starts[1:], n], strict=True)]


def affine_matrices(image_keys: NDArray[np.uint64], training: Training, epoch: int) -> torch.Tensor:
    """Output-to-input maps (B, 2, 3) in grid_sample's coordinates, one for each image (`seeds.keys`) and epoch.

    As keras.preprocessing composes them: rotation, then shift, then zoom per axis (its shear of 0.1 degree moves
    no pixel by more than 0.5 px at 512 px and is left out).
    """
    draws = 2 * stream(image_keys, 5 * epoch, 5) - 1  # (B, 5), in -1..1
    angle = np.deg2rad(training.rotation) * draws[:, 0]  # (B,)
    zoom = 1 + training.zoom * draws[:, 1:3]  # (B, 2)
    shift = 2 * training.shift * draws[:, 3:5]  # (B, 2), where the image spans 2
    rotation = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], axis=1).reshape(-1, 2, 2)
    linear = rotation * zoom[:, None, :]
    offset = np.einsum("bij,bj->bi", rotation, shift)
    return torch.from_numpy(np.concatenate([linear, offset[:, :, None]], axis=2)).float()


def augment(pixels: torch.Tensor, matrices: torch.Tensor) -> torch.Tensor:
    """One affine resampling of a batch (B, 1, H, W), bilinear; beyond the edge the edge pixel goes on."""
    pixels, matrices = pixels.float(), matrices.to(pixels.device)
    # A column's share and a row's share of each coordinate, added: far cheaper than functional.affine_grid's product.
    x, y = (torch.arange(1 - n, n, 2, device=pixels.device) / n for n in (pixels.shape[3], pixels.shape[2]))
    columns = matrices[:, :, 0, None] * x + matrices[:, :, 2, None]  # (B, 2, W)
    rows = matrices[:, :, 1, None] * y  # (B, 2, H)
    grid = (columns[:, :, None, :] + rows[:, :, :, None]).permute(0, 2, 3, 1)  # (B, H, W, 2)
    return functional.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)
