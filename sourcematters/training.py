"""One fine-tuning: a model, its sets, the weights with the lowest validation loss."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch.nn import functional

from sourcematters import metrics
from sourcematters.errors import StudyError
from sourcematters.models import Classifier, set_bn_momentum
from sourcematters.processes import progress
from sourcematters.seeds import derive, generator, uniform
from sourcematters.specs import Training

EVALUATION_BATCH = 128


@dataclass(frozen=True)
class Pixels:
    """Two banks of the same cohort, uint8 (N, size, size): without and with the artefact."""

    base: NDArray[np.uint8]
    carrier: NDArray[np.uint8]

    def batch(self, rows: NDArray[np.int64], carries: NDArray[np.bool_]) -> torch.Tensor:
        """The images of `rows`, as uint8 (B, 1, size, size), each with the artefact where it `carries`."""
        images = self.base[rows]
        if carries.any():
            images[carries] = self.carrier[rows[carries]]
        return torch.from_numpy(images).unsqueeze(1)


def affine_matrices(ids: list[str], training: Training, seed: int, epoch: int) -> torch.Tensor:
    """Output-to-input maps (B, 2, 3) in grid_sample's coordinates, one drawn for each (seed, image, epoch).

    As keras.preprocessing composes them: rotation, then shift, then zoom per axis (its shear of 0.1 degree moves
    no pixel by more than 0.5 px at 512 px and is left out).
    """
    draws = np.array([generator(seed, "augment", image_id, epoch).uniform(-1, 1, size=5) for image_id in ids])
    angle = np.deg2rad(training.rotation) * draws[:, 0]
    zoom = 1 + training.zoom * draws[:, 1:3]
    # The image spans 2 in grid_sample's coordinates.
    shift = 2 * training.shift * draws[:, 3:5]
    rotation = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], axis=1).reshape(-1, 2, 2)
    linear = rotation * zoom[:, None, :]
    offset = np.einsum("bij,bj->bi", rotation, shift)
    return torch.from_numpy(np.concatenate([linear, offset[:, :, None]], axis=2)).float()


def augment(pixels: torch.Tensor, matrices: torch.Tensor) -> torch.Tensor:
    """One affine resampling of a batch (B, 1, H, W), bilinear; beyond the edge the edge pixel goes on."""
    pixels = pixels.float()
    grid = functional.affine_grid(matrices.to(pixels.device), list(pixels.shape), align_corners=False)
    return functional.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)


def choose_device(device: str = "auto") -> torch.device:
    """The device to train on: "auto" takes CUDA, then MPS, then the CPU. Raises StudyError if it is not there."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise StudyError(f"device {device!r} is not usable here ({str(error).splitlines()[0]}). Try cpu.") from error
    return torch.device(device)


def choose_precision(precision: str, device: torch.device) -> str:
    """Resolve "auto": bf16 where the device computes it in hardware, fp32 elsewhere."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if device.type == "cpu" and torch.cpu._is_avx512_bf16_supported() else "fp32"


def place(model: Classifier, device: torch.device) -> None:
    """Bring a model to the device, in the memory layout its convolutions are fastest in."""
    # Apple's MPS has no fast path for channels_last.
    layout = torch.contiguous_format if device.type == "mps" else torch.channels_last
    model.to(device, memory_format=layout)


def fine_tune(
    model: Classifier,
    pixels: Pixels,
    sets: pd.DataFrame,
    training: Training,
    *,
    seed: int,
    device: torch.device,
    on_epoch: Callable[[int], None] = lambda epoch: None,
    show: bool = False,
) -> pd.DataFrame:
    """Train all layers on the `train` part and leave the weights with the lowest `val` loss in `model`.

    Cross-entropy, Adam, early stopping after `patience` epochs without a better validation loss. `sets` is a
    table from `design.sets`. Returns the history: epoch, train_loss, val_loss, val_auc, best (0/1).
    Raises StudyError when the loss is not finite.
    """
    if training.bn_momentum:
        set_bn_momentum(model, training.bn_momentum)
    place(model, device)
    # Keras's epsilon, as the paper trained with; torch's own is 1e-8.
    optimizer = torch.optim.Adam(model.parameters(), lr=training.learning_rate, eps=1e-7, fused=True)
    train, val = sets[sets["part"] == "train"], sets[sets["part"] == "val"]
    labels = torch.tensor(train["label"].to_numpy())
    history, best_loss, best_weights, since_best = [], math.inf, None, 0
    with progress(range(training.epochs), desc="fine-tuning", unit="epoch", disable=not show) as bar:
        for epoch in bar:
            model.train()
            losses = []
            for index in _batches(train["image_id"].tolist(), training.batch_size, seed, epoch):
                rows = train.iloc[index]
                images = pixels.batch(rows["row"].to_numpy(), rows["carries"].to_numpy(bool)).to(device)
                images = augment(images, affine_matrices(rows["image_id"].tolist(), training, seed, epoch))
                with autocast(device, training):
                    loss = functional.cross_entropy(model(images).float(), labels[index].to(device))
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                losses.append(loss.detach() * len(index))
            train_loss = float(torch.stack(losses).sum() / len(train))
            scores = score(model, pixels, val, training, device=device)
            val_loss = log_loss(val["label"].to_numpy(), scores)
            if not (math.isfinite(train_loss) and math.isfinite(val_loss)):
                raise StudyError(f"the loss is not finite in epoch {epoch}: lower learning_rate or use precision fp32.")
            better = val_loss < best_loss
            if better:
                best_loss, best_weights, since_best = val_loss, copy.deepcopy(model.state_dict()), 0
            else:
                since_best += 1
            val_auc = metrics.auc(pd.DataFrame({"label": val["label"].to_numpy(), "score": scores}))
            history.append((epoch, train_loss, val_loss, val_auc, int(better)))
            bar.set_postfix(loss=f"{train_loss:.3f}", val_loss=f"{val_loss:.3f}", val_auc=f"{val_auc:.3f}")
            on_epoch(epoch)
            if since_best >= training.patience:
                break
    model.load_state_dict(best_weights)
    return pd.DataFrame(history, columns=["epoch", "train_loss", "val_loss", "val_auc", "best"])


def score(
    model: Classifier, pixels: Pixels, rows: pd.DataFrame, training: Training, *, device: torch.device
) -> NDArray[np.float64]:
    """Probability of class 1 for each row of `rows` (columns row, carries); each distinct image is computed once."""
    distinct = rows[["row", "carries"]].drop_duplicates().sort_values(["carries", "row"])
    model.eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, len(distinct), EVALUATION_BATCH):
            chunk = distinct.iloc[start : start + EVALUATION_BATCH]
            images = pixels.batch(chunk["row"].to_numpy(), chunk["carries"].to_numpy(bool)).to(device)
            with autocast(device, training):
                logits = model(images).float()
            # In double precision two confident images do not tie at 1.0, which would change the AUC.
            parts.append(logits.cpu().double().softmax(dim=1)[:, 1].numpy())
    by_image = distinct.assign(score=np.concatenate(parts)).set_index(["row", "carries"])["score"]
    return by_image.loc[list(zip(rows["row"], rows["carries"], strict=True))].to_numpy()


def log_loss(labels: NDArray[np.int64], scores: NDArray[np.float64]) -> float:
    """Mean cross-entropy of the positive class's probability, clipped at 1e-12 to stay finite."""
    p = np.clip(np.where(labels == 1, scores, 1 - scores), 1e-12, 1)
    return float(-np.log(p).mean())


def autocast(device: torch.device, training: Training) -> torch.autocast:
    """The autocast region of a forward pass in the run's precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=training.precision == "bf16")


def initial_seed(seed: int, fold: int) -> int:
    """Seed of the classifier's and a random backbone's first weights.

    Shared by all sources and strengths of a fold, so that they differ in what they are compared for only.
    """
    return derive(seed, "initialization", fold)


def _batches(ids: list[str], size: int, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    order = np.argsort(uniform(seed, ids, "order", epoch), kind="stable")
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    # Batch normalization cannot estimate a variance from one image.
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [np.concatenate(batches[-2:])]
    return batches
