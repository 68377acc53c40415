"""One fine-tuning: a model, its sets, the weights with the lowest validation loss."""

import copy
import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch.nn import functional

from sourcematters import metrics
from sourcematters.errors import StudyError
from sourcematters.processes import progress
from sourcematters.seeds import derive
from sourcematters.training.batches import Pixels, TrainingSet, feed, slices
from sourcematters.training.checkpoints import Checkpoint
from sourcematters.training.classifier import Classifier, set_bn_momentum
from sourcematters.training.devices import autocast, place
from sourcematters.training.recipe import Training

EVALUATION_BATCH = 64
"""On a CPU small networks score a tenth faster than in batches of 32; larger ones gain nothing more."""


def fine_tune(
    model: Classifier,
    pixels: Pixels,
    sets: pd.DataFrame,
    training: Training,
    *,
    seed: int,
    device: torch.device,
    on_epoch: Callable[[int], None] = lambda epoch: None,
    checkpoint: Checkpoint | None = None,
    show: bool = False,
) -> pd.DataFrame:
    """Train all layers on the `train` part and leave the weights with the lowest `val` loss in `model`.

    Cross-entropy, Adam, early stopping after `patience` epochs without a better validation loss. `sets` is a
    table from `design.sets`. Goes on after the last epoch that `checkpoint` kept, with the numbers of a fine-tuning
    that was not interrupted. Returns the history: epoch, train_loss, val_loss, val_auc, best (0/1).
    Raises StudyError when the loss is not finite.
    """
    if training.bn_momentum:
        set_bn_momentum(model, training.bn_momentum)
    place(model, device)
    optimizer = optimizer_for(model, training)
    train, val = sets[sets["part"] == "train"], sets[sets["part"] == "val"]
    batches = TrainingSet(pixels, train, training, seed=seed, device=device)
    history, best_loss, best_weights, since_best = [], math.inf, None, 0
    if checkpoint and (kept := checkpoint.read()):
        model.load_state_dict(kept["model"])
        optimizer.load_state_dict(kept["optimizer"])
        history, best_loss, best_weights, since_best = (
            kept[name] for name in ("history", "best_loss", "best_weights", "since_best")
        )
    epochs = range(len(history), training.epochs)
    options = dict(total=training.epochs, initial=len(history), disable=not show)
    with progress(epochs, desc="fine-tuning", unit="epoch", **options) as bar:
        for epoch in bar:
            if since_best >= training.patience:
                break
            model.train()
            losses = []
            for images, labels in batches.epoch(epoch):
                losses.append(step(model, optimizer, images, labels, training) * len(labels))
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
            if checkpoint:
                checkpoint.write(
                    {
                        "model": model.state_dict(),
                        "optimizer": optimizer.state_dict(),
                        "history": history,
                        "best_loss": best_loss,
                        "best_weights": best_weights,
                        "since_best": since_best,
                    }
                )
    model.load_state_dict(best_weights)
    return pd.DataFrame(history, columns=["epoch", "train_loss", "val_loss", "val_auc", "best"])


def optimizer_for(model: Classifier, training: Training) -> torch.optim.Optimizer:
    """Adam over all weights, whose gradients have their place already: `step` fills it again and again."""
    # Made in every step anew they would lie scattered among the activations, and the process grow by a seventh.
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    # Keras's epsilon, as the paper trained with; torch's own is 1e-8.
    return torch.optim.Adam(model.parameters(), lr=training.learning_rate, eps=1e-7, fused=True)


def step(
    model: Classifier,
    optimizer: torch.optim.Optimizer,
    images: torch.Tensor,
    labels: torch.Tensor,
    training: Training,
) -> torch.Tensor:
    """One step on a batch, images (B, 1, H, W) in 0..255 and labels (B,); returns its mean cross-entropy."""
    optimizer.zero_grad(set_to_none=False)
    with autocast(images.device, training):
        loss = functional.cross_entropy(model(images).float(), labels)
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
    with torch.inference_mode():
        for images in feed(pixels, chosen, device):
            with autocast(device, training):
                parts.append(model(images).float())
    # In double precision two confident images do not tie at 1.0, which would change the AUC.
    return torch.cat(parts).cpu().double().softmax(dim=1)[:, 1].numpy()[place_of]


def log_loss(labels: NDArray[np.int64], scores: NDArray[np.float64]) -> float:
    """Mean cross-entropy of the positive class's probability, clipped at 1e-12 to stay finite."""
    p = np.clip(np.where(labels == 1, scores, 1 - scores), 1e-12, 1)
    return float(-np.log(p).mean())


def initial_seed(seed: int, fold: int) -> int:
    """Seed of the classifier's and a random backbone's first weights.

    Shared by all sources and strengths of a fold, so that they differ in what they are compared for only.
    """
    return derive(seed, "initialization", fold)
