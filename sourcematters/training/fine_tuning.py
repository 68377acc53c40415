"""One fine-tuning: a model, its sets, the weights with the lowest validation loss."""

import copy
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.optim import Adam, Optimizer

from sourcematters import metrics
from sourcematters.errors import StudyError
from sourcematters.processes import progress
from sourcematters.training.batches import Batch, Pixels, TrainingSet, feed, slices
from sourcematters.training.checkpoints import Checkpoint
from sourcematters.training.classifier import Classifier, set_bn_momentum
from sourcematters.training.devices import autocast, place, rounding
from sourcematters.training.recipe import Training

EVALUATION_BATCH = 64  # on a CPU small networks score a tenth faster than in batches of 32


def fine_tune(
    model: Classifier,
    pixels: Pixels,
    sets: pd.DataFrame,
    training: Training,
    *,
    seed: int,
    device: torch.device,
    on_epoch: Callable[[int], object] = lambda epoch: None,
    checkpoint: Checkpoint | None = None,
    show: bool = False,
) -> pd.DataFrame:
    """Train all layers on the `train` part and leave the weights with the lowest `val` loss in `model`.

    Cross-entropy, Adam, early stopping. Returns the history, a row an epoch; `best` is 0 or 1.
    Raises StudyError when the loss is not finite.

    model, training  the network, whose weights are changed, and the recipe
    pixels, sets     the images, and which of them are for what: a table from `design.sets`
    seed             of order and augmentation
    device           where to train; the model is brought there
    on_epoch         called with its number after each epoch
    checkpoint       where to go on after an interruption, with the numbers of a fine-tuning without one
    show             whether to draw a progress bar of the epochs
    """
    if training.bn_momentum:
        set_bn_momentum(model, training.bn_momentum)
    place(model, device)
    optimizer = optimizer_for(model, training)
    train, val = sets[sets["part"] == "train"], sets[sets["part"] == "val"]
    labels = val["label"].to_numpy()
    batches = TrainingSet(pixels, train, training, seed=seed, device=device)
    history: list[tuple[int, float, float, float, int]] = []
    best_weights: dict[str, Any] = {}
    if checkpoint and (kept := checkpoint.read()):
        model.load_state_dict(kept["model"])
        optimizer.load_state_dict(kept["optimizer"])
        history, best_weights = kept["history"], kept["best_weights"]
    bar = progress(total=training.epochs, initial=len(history), desc="fine-tuning", unit="epoch", disable=not show)
    with rounding(training.precision), bar:
        for epoch in range(len(history), training.epochs):
            losses = [val_loss for _, _, val_loss, _, _ in history]
            if losses and epoch - np.argmin(losses) > training.patience:
                break
            train_loss = train_epoch(model, optimizer, batches.epoch(epoch), training)
            scores = score(model, pixels, val, training, device=device)
            val_loss = log_loss(labels, scores)
            if not (math.isfinite(train_loss) and math.isfinite(val_loss)):
                raise StudyError(f"the loss is not finite in epoch {epoch}: lower learning_rate or use precision fp32.")
            val_auc = metrics.auc(pd.DataFrame({"label": labels, "score": scores}))
            if better := val_loss < min(losses, default=math.inf):
                best_weights = copy.deepcopy(model.state_dict())
            history.append((epoch, train_loss, val_loss, val_auc, int(better)))
            bar.set_postfix(loss=f"{train_loss:.3f}", val_loss=f"{val_loss:.3f}", val_auc=f"{val_auc:.3f}")
            bar.update()
            on_epoch(epoch)
            if checkpoint:
                state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
                checkpoint.write({**state, "history": history, "best_weights": best_weights})
    model.load_state_dict(best_weights)
    return pd.DataFrame(history, columns=["epoch", "train_loss", "val_loss", "val_auc", "best"])


def optimizer_for(model: Classifier, training: Training) -> Optimizer:
    """Adam over all weights, whose gradients have their place already: `step` fills it again and again."""
    # Made in every step anew they would lie scattered among the activations, and the process grow by a seventh.
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    # Keras's epsilon, as the paper trained with; torch's own is 1e-8.
    return Adam(model.parameters(), lr=training.learning_rate, eps=1e-7, fused=True)


def train_epoch(model: Classifier, optimizer: Optimizer, batches: Iterable[Batch], training: Training) -> float:
    """One step on each of `batches`; returns the mean cross-entropy over their images."""
    model.train()
    losses, n = [], 0
    for images, labels in batches:
        losses.append(step(model, optimizer, images, labels, training) * len(labels))
        n += len(labels)
    return float(torch.stack(losses).sum() / n)


def step(model: Classifier, optimizer: Optimizer, images: Tensor, labels: Tensor, training: Training) -> Tensor:
    """One step on a batch, images (B, 1, H, W) in 0..255 and labels (B,); returns its mean cross-entropy."""
    optimizer.zero_grad(set_to_none=False)
    with autocast(images.device, training):
        loss = functional.cross_entropy(model(images), labels)
    loss.backward()
    optimizer.step()
    return loss.detach()


def score(
    model: Classifier, pixels: Pixels, rows: pd.DataFrame, training: Training, *, device: torch.device
) -> NDArray[np.float64]:
    """Probability of class 1 for each row of `rows` (columns row, carries); each distinct image is computed once."""
    distinct, place_of = np.unique(2 * rows["row"].to_numpy() + rows["carries"].to_numpy(bool), return_inverse=True)
    chosen = [(distinct[part] // 2, distinct[part] % 2 == 1) for part in slices(len(distinct), EVALUATION_BATCH)]
    model.eval()
    parts = []
    with rounding(training.precision), torch.inference_mode(), autocast(device, training):
        for images in feed(pixels, chosen, device):
            parts.append(model(images))  # (B, 2)
    # In double precision two confident images do not tie at 1.0, which would change the AUC.
    return torch.cat(parts).cpu().double().softmax(dim=1)[:, 1].numpy()[place_of]


def log_loss(labels: NDArray[np.int64], scores: NDArray[np.float64]) -> float:
    """Mean cross-entropy of the positive class's probability, clipped at 1e-12 to stay finite."""
    p = np.clip(np.where(labels == 1, scores, 1 - scores), 1e-12, 1)
    return float(-np.log(p).mean())
