"""What only a process with torch can tell of a grid before its first run: whether weights load, and the device works.

Another process finds out, `python -m sourcematters.runs.trial JSON`, so that torch's memory goes with it.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sourcematters import plugins
from sourcematters.checked import Checked
from sourcematters.errors import StudyError
from sourcematters.processes import ended_by
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
        text=True,
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
    return list(dict.fromkeys(found))


if __name__ == "__main__":
    asked = [Trial(**values) for values in json.loads(sys.argv[1])]
    print(json.dumps([(number, sentence) for number, one in enumerate(asked) for sentence in _one(one)]))
