"""What only a process with torch can tell of a grid before its first run: whether weights load, and the device works.

It is imported by the child process that does so, and so imports little itself: `complaints`.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sourcematters import plugins
from sourcematters.checked import Checked
from sourcematters.errors import StudyError
from sourcematters.processes import over_processes
from sourcematters.sources import plain, resolve
from sourcematters.training.recipe import Training


class Trial(Checked):
    """Networks of one backbone and recipe, and the weights that they start from."""

    backbone: str
    training: Training
    sources: tuple[str, ...]
    weights: dict[str, Any] = {}
    device: str = ""  # empty: not of this machine
    plugins: tuple[str, ...] = ()
    folder: Path  # of weights that are made here


def complaints(trials: list[Trial]) -> list[tuple[int, str]]:
    """What is wrong with each of `trials`: its number, and a sentence; found in one process, which then ends.

    Nothing is downloaded or trained: weights that are not on this machine yet are not looked at.
    """
    if not trials:
        return []
    try:
        [(_, found)] = over_processes(_all, [trials], 1, apart=True)
    except StudyError as error:
        return [(number, f"weights or backbone {trial.backbone!r}: {error}") for number, trial in enumerate(trials)]
    return found


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
