"""What only a process with torch can tell before the first run: whether weights load, and a step of training works.

It is tried in a process of its own, which ends with its memory, or dies of what it tried.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from sourcematters import plugins
from sourcematters.checked import Checked
from sourcematters.errors import StudyError
from sourcematters.processes import apart
from sourcematters.sources import plain, resolve
from sourcematters.training.recipe import Training

TRIED = ("resnet18", "resnet50", "densenet121", "inception_v3", "inception_resnet_v2", "test_resnet")
"""Backbones that the tests of this package train: they need no trial."""


class Trial(Checked):
    """Networks of one backbone and recipe, and the weights that they start from."""

    backbone: str
    training: Training
    sources: tuple[str, ...]
    weights: dict[str, Any] = {}
    device: str = ""  # empty: not of this machine
    plugins: tuple[str, ...] = ()
    folder: Path  # of weights that are made here


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


def complaints(trials: list[Trial]) -> list[tuple[int, str]]:
    """What is wrong with each of `trials`: its number, and a sentence; found in one process, which then ends.

    Nothing is downloaded or trained: weights that are not on this machine yet are not looked at.
    """
    if not trials:
        return []
    try:
        return apart(_all, trials)
    except StudyError as error:
        return [(number, f"weights or backbone {trial.backbone!r}: {error}") for number, trial in enumerate(trials)]


def _all(trials: Iterable[Trial]) -> list[tuple[int, str]]:
    return [(number, sentence) for number, trial in enumerate(trials) for sentence in _one(trial)]


def _one(trial: Trial) -> list[str]:
    from sourcematters.sources import feature_width
    from sourcematters.training import devices

    found: list[str] = []

    @contextmanager
    def noting() -> Iterator[None]:
        try:
            yield
        except StudyError as error:
            found.append(str(error))

    plugins.load(trial.plugins)
    with noting():
        feature_width(trial.backbone, trial.training.size)
    fits, loaded = not found, set[str]()
    for name in trial.sources:
        with noting():
            source = resolve(name, trial.backbone, weights=trial.weights, folder=trial.folder)
            if fits and source.location and source.at_hand and plain(name) not in loaded:
                loaded.add(plain(name))
                source.load(trial.backbone, size=trial.training.size)
    if trial.device:
        with noting():
            devices.choose(trial.device)
    return list(dict.fromkeys(found))
