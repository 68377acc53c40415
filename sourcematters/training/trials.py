"""What is tried before the first run: a step of training, in a process that may die of it."""

from functools import partial

from sourcematters.errors import StudyError
from sourcematters.processes import apart
from sourcematters.training.recipe import Training

TRIED = ("resnet18", "resnet50", "densenet121", "inception_v3", "inception_resnet_v2", "test_resnet")
"""Backbones that the tests of this package train: they need no trial."""


def trial_step(backbone: str, training: Training, device: str = "auto") -> None:
    """One training step on two random images, in a process of its own: seconds, most of them torch's start.

    What breaks there would end workers later on: an operator that crashes, that has no deterministic form, or that
    needs another size. Raises StudyError saying what happened.
    """
    try:
        complaint = apart(partial(_complaint, training=training, device=device), backbone)
    except StudyError as error:
        complaint = str(error)
    if complaint:
        raise StudyError(
            f"backbone {backbone!r} fails in a training step at {training.size} px: {complaint} "
            "Choose another backbone, size or device."
        )


def _complaint(backbone: str, training: Training, device: str) -> str:
    import torch

    from sourcematters.sources import resolve
    from sourcematters.training import devices, fine_tuning
    from sourcematters.training.classifier import Classifier, reproducible

    place, size = devices.choose(device), training.size
    try:
        with reproducible(0, place):
            model = Classifier(resolve("random", backbone), backbone, size=size, dropout=training.dropout)
            devices.place(model, place)
            optimizer = fine_tuning.optimizer_for(model, training)
            images, labels = 255 * torch.rand(2, 1, size, size), torch.tensor([0, 1])
            model.train()
            loss = fine_tuning.step(model, optimizer, images.to(place), labels.to(place), training)
            return "" if loss.isfinite() else "its loss is not finite."
    except StudyError:
        raise
    except Exception as error:  # whatever a network of timm's raises
        return f"{type(error).__name__}: {error}".splitlines()[0][:200] + "."
