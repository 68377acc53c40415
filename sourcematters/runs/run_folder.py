"""Run folders: one run, made once, complete wherever it exists.

A run folder `runs/<id>/` holds spec.json, history.csv, predictions.csv, metrics.json, env.json and `done`. It is
written as a hidden folder beside its place and renamed into it. All state is read off the files: done (the
folder), running (a hidden folder whose heartbeat is fresh), failed (`<id>.failed/` with the traceback), lost (a hidden
folder whose process is gone), missing. Metrics can always be recomputed from predictions.csv. A run that was killed
goes on from `.checkpoints/<id>.pt`.
"""

import datetime
import hashlib
import os
import platform
import shutil
import socket
import time
from collections.abc import Container
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import psutil
from filelock import FileLock

from sourcematters import metrics
from sourcematters.cohorts import Cohort, tables
from sourcematters.confounders import design
from sourcematters.files import explained, write_csv, write_json
from sourcematters.runs.specs import RunSpec
from sourcematters.training import image_bank
from sourcematters.training.image_bank import Rendering

HEARTBEAT_SECONDS = 3600
"""A run on another machine counts as running if it finished an epoch within this time."""

CHECKPOINT_SECONDS = 300
"""What a killed run loses at most, if its epochs are shorter."""


@dataclass(frozen=True)
class Execution:
    """By what means a run is made; no number depends on it, but that kinds of devices round differently.

    With `recompute` a training step holds less memory and takes a quarter longer (`memory.recompute`). A run keeps
    where it stands at most every `checkpoint_seconds`. `memory_share` is its part of a card that other runs share.
    """

    device: str = "auto"
    recompute: bool = False
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    memory_share: float = 1.0


@dataclass(frozen=True)
class Workspace:
    """Where things are kept: `results/<profile>` for what a profile shows, its parent for what profiles share.

    A run, a bank or a stand-in that two profiles need is made once.
    """

    results: str

    def shared(self, name: str) -> Path:
        """The shared folder called runs, bank, cohorts, sources, phantoms or slurm."""
        return Path(self.results).resolve().parent / name

    def own(self, path: str) -> Path:
        """A file of this profile, e.g. `figures/tag`."""
        return Path(self.results).resolve() / path

    def run(self, spec: RunSpec) -> Path:
        """The folder of a finished run."""
        return self.shared("runs") / spec.id


def register(cohort: Cohort, workspace: Workspace) -> str:
    """Keep a cohort under the digest of its rows and its files' content, and return that digest.

    Where the files lie does not count: the same images in another folder are the same cohort.
    """
    table = cohort.table.sort_values("image_id")
    content = image_bank.fingerprints(table, workspace.shared("bank"))
    rows = table.drop(columns="path").assign(content=content.to_numpy()).sort_index(axis=1)
    digest = hashlib.sha256(rows.to_csv(index=False, lineterminator="\n").encode()).hexdigest()[:12]
    write_csv(workspace.shared("cohorts") / f"{digest}.csv", table)
    return digest


def execute(spec: RunSpec, workspace: Workspace, execution: Execution = Execution(), *, show: bool = False) -> Path:
    """Make one run, unless it is done, and return its folder.

    Computes on one thread (on a CPU) so that the bytes do not depend on the number of cores or workers. After an
    epoch it keeps where it stands; the next call goes on there. `show` draws a progress bar of the epochs.
    """
    target = workspace.run(spec)
    with explained(target):
        (target.parent / ".locks").mkdir(parents=True, exist_ok=True)
        with FileLock(target.parent / ".locks" / f"{spec.id}.lock"):
            if not (target / "done").exists():
                _execute(spec, workspace, target, execution, show)
    return target


def _execute(spec: RunSpec, workspace: Workspace, target: Path, execution: Execution, show: bool) -> None:
    from safetensors.torch import load_file, save_file

    from sourcematters.training import devices, fine_tuning, memory
    from sourcematters.training.checkpoints import Checkpoint
    from sourcematters.training.classifier import Classifier, reproducible

    started = time.perf_counter()
    fit_folder = execute(spec.fit, workspace, execution, show=show) if spec.fit != spec else None
    for left in target.parent.glob(f".{spec.id}.*"):
        shutil.rmtree(left)
    beside = target.parent / f".{spec.id}.{socket.gethostname()}.{os.getpid()}"
    beside.mkdir()
    try:
        heartbeat = beside / "heartbeat"
        heartbeat.touch()
        cohort = open_registered(spec.cohort, workspace)
        base, carrier = _banks(spec, workspace)
        sets = design.sets(
            cohort,
            spec.confounder,
            p_art=spec.p_art,
            fold=spec.fold,
            seed=spec.seed,
            val_fraction=spec.val_fraction,
            split_seed=spec.split_seed,
        )
        where = devices.choose(execution.device)
        devices.limit_memory(where, execution.memory_share)
        settings, pixels = spec.training, fine_tuning.Pixels(base, carrier)
        kept = target.parent / ".checkpoints" / f"{spec.id}.pt"
        checkpoint = Checkpoint(kept, execution.checkpoint_seconds, where)
        with reproducible(fine_tuning.initial_seed(spec.seed, spec.fold), where), memory.kept():
            model = Classifier(spec.source, spec.backbone, size=settings.size, dropout=settings.dropout)
            if settings.compiled:
                model.compile()
            if execution.recompute:
                memory.recompute(model.backbone)
            if fit_folder is None:
                history = fine_tuning.fine_tune(
                    model,
                    pixels,
                    sets,
                    settings,
                    seed=spec.seed,
                    device=where,
                    on_epoch=lambda epoch: heartbeat.touch(),
                    checkpoint=checkpoint,
                    show=show,
                )
            else:
                model.load_state_dict(load_file(fit_folder / "weights.safetensors"))
                devices.place(model, where)
                history = pd.read_csv(fit_folder / "history.csv")
            tests = sets[sets["part"].isin(design.TEST_SETS)]
            scores = fine_tuning.score(model, pixels, tests, settings, device=where)
        predictions = tests.assign(score=scores).rename(columns={"part": "test_set"})
        predictions = predictions[["image_id", "patient_id", "label", "score", "test_set", "carries"]]
        write_json(beside / "spec.json", {"id": spec.id, **spec.to_dict(), "fit": spec.fit.id})
        write_csv(beside / "history.csv", history)
        write_csv(beside / "predictions.csv", predictions)
        write_json(beside / "metrics.json", metrics.by_test_set(predictions).to_dict("records"))
        if spec.confounder is None:
            save_file(
                {k: v.cpu().contiguous() for k, v in model.state_dict().items()},
                beside / "weights.safetensors",
            )
        write_json(beside / "env.json", _environment(where, checkpoint.spent + time.perf_counter() - started))
        heartbeat.unlink()
        (beside / "done").touch()
        checkpoint.remove()
        os.replace(beside, target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def renderings(spec: RunSpec) -> tuple[Rendering, Rendering]:
    """How the images without and with the confounder are rendered; the same for a sampled confounder."""
    carrier = spec.base if spec.confounder is None or spec.confounder.sampled else spec.confounder.carrier
    settings = spec.training
    base = Rendering(
        alteration=spec.base,
        size=settings.size,
        interpolation=settings.interpolation,
        seed=spec.seed,
        window=settings.window,
        crop=settings.crop,
    )
    return base, base.replaced(alteration=carrier)


def _banks(spec: RunSpec, workspace: Workspace) -> list:
    return [_bank(spec.cohort, rendering, workspace) for rendering in renderings(spec)]


@lru_cache(maxsize=64)
def _bank(digest: str, rendering: Rendering, workspace: Workspace):
    return image_bank.build(open_registered(digest, workspace), [rendering], workspace.shared("bank"))[0]


@lru_cache(maxsize=8)
def open_registered(digest: str, workspace: Workspace) -> pd.DataFrame:
    """The table of the cohort that `register` kept under this digest."""
    # Published splits may share patients between parts; that was said when the cohort was opened.
    return tables.read_csv(workspace.shared("cohorts") / f"{digest}.csv", shared_patients_allowed=True)


def _environment(device: "torch.device", seconds: float) -> dict:  # noqa: F821
    return {
        "device": str(device),
        "machine": platform.machine(),
        "host": socket.gethostname(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("sourcematters", "torch", "timm", "numpy", "pandas")},
        "seconds": round(seconds, 2),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def state(run_id: str, runs: Path, queued: Container[str] = ()) -> str:
    """The state of one run, read off its files: done, running, failed, queued, lost or missing.

    `queued` are the runs that a cluster has yet to do, see `slurm.in_queue`. Lost is a run whose process is
    gone: it was killed, or its machine was.
    """
    if (runs / run_id / "done").exists():
        return "done"
    attempts = list(runs.glob(f".{run_id}.*"))
    if any(_is_alive(beside, run_id) for beside in attempts):
        return "running"
    if (runs / f"{run_id}.failed").exists():
        return "failed"
    return "queued" if run_id in queued else "lost" if attempts else "missing"


def _is_alive(beside: Path, run_id: str) -> bool:
    host, _, pid = beside.name.removeprefix(f".{run_id}.").rpartition(".")
    try:
        beat = (beside / "heartbeat").stat().st_mtime
        if host != socket.gethostname():
            return time.time() - beat < HEARTBEAT_SECONDS
        # A process that is younger than the run's last sign of life took over the number of one that died.
        return psutil.Process(int(pid)).create_time() <= beat
    except (FileNotFoundError, psutil.NoSuchProcess):
        return False
