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
from sourcematters.batches import Pixels, TrainingSet, feed, slices
from sourcematters.checkpoints import Checkpoint
from sourcematters.errors import StudyError
from sourcematters.models import Classifier, set_bn_momentum
from sourcematters.processes import progress
from sourcematters.seeds import derive
from sourcematters.specs import Training

EVALUATION_BATCH = 32


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
    # Keras's epsilon, as the paper trained with; torch's own is 1e-8.
    optimizer = torch.optim.Adam(model.parameters(), lr=training.learning_rate, eps=1e-7, fused=True)
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
                # Before the forward pass, so that old gradients and new activations are not in memory together.
                optimizer.zero_grad(set_to_none=True)
                with autocast(device, training):
                    loss = functional.cross_entropy(model(images).float(), labels)
                loss.backward()
                optimizer.step()
                losses.append(loss.detach() * len(labels))
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


def autocast(device: torch.device, training: Training) -> torch.autocast:
    """The autocast region of a forward pass in the run's precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=training.precision == "bf16")


def initial_seed(seed: int, fold: int) -> int:
    """Seed of the classifier's and a random backbone's first weights.

    Shared by all sources and strengths of a fold, so that they differ in what they are compared for only.
    """
    return derive(seed, "initialization", fold)
