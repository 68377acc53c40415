"""What only torch can tell before the first run: whether weights load, and whether a step of training works.

Another process finds out, `python -m sourcematters.training.trials JSON`: it may die of it, and it takes torch's memory
with it.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from sourcematters import plugins
from sourcematters.checked import Checked
from sourcematters.errors import StudyError
from sourcematters.processes import apart, ended_by
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
    device: str = ""  # of the runs; empty where there are none, or where a cluster makes them
    plugins: tuple[str, ...] = ()
    folder: Path  # of weights that are made here


@contextmanager
def begun(trials: Sequence[Trial]) -> Iterator[Callable[[], list[tuple[int, str]]]]:
    """Look at `trials` in another process during the block; call what it gives for what is wrong with each.

    That waits, and returns numbers of `trials` with a sentence. Nothing is downloaded or trained: weights that are not
    on this machine yet are not looked at.
    """
    if not trials:
        yield list
        return
    asked = json.dumps([trial.model_dump(mode="json") for trial in trials])
    child = subprocess.Popen(
        [sys.executable, "-m", __name__, asked],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )

    def ended() -> list[tuple[int, str]]:
        answer, errors = child.communicate()
        if child.returncode == 0:
            return [(number, sentence) for number, sentence in json.loads(answer.splitlines()[-1])]
        last = (errors.strip().splitlines() or [""])[-1]
        died = f"the process that tries backbone and weights {ended_by(child.returncode)} {last}".rstrip()
        return [(number, died) for number in range(len(trials))]

    try:
        yield ended
    finally:
        child.kill()
        child.communicate()


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
            if fits and trial.backbone not in TRIED:
                trial_step(trial.backbone, trial.training, trial.device)
    return list(dict.fromkeys(found))


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


if __name__ == "__main__":
    asked = [Trial(**values) for values in json.loads(sys.argv[1])]
    print(json.dumps([(number, sentence) for number, one in enumerate(asked) for sentence in _one(one)]))
