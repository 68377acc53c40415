"""Run folders: one run, made once, complete wherever it exists.

A run folder `runs/<id>/` (`RunSpec.id`) holds

    spec.json         id, all that the run is (`RunSpec.to_dict`), and `fit`, the id of the run that trained its network
    history.csv       an epoch a row: epoch, train_loss, val_loss, val_auc, best (1 where val_loss was a new minimum)
    predictions.csv   a test image a row: image_id, patient_id, label, score, test_set, carries (see `metrics`)
    metrics.json      a test set a row: test_set, n, auc, auc_keras; can always be made again from predictions.csv
    env.json          device, machine, host, versions, seconds that it took, when it was finished
    weights.safetensors   the network, only of a run without confounder: runs at p_art = 0 score it (`RunSpec.fit`)
    done              empty, written last

It is written as a hidden folder beside its place, with a `heartbeat` touched after each epoch, and renamed into it.
All state is read off the files, see `state`. `<id>.failed/` holds spec.json and traceback.txt of a run that failed,
`.checkpoints/<id>.pt` where one stands that was killed, `.locks/` keeps two processes from making the same run.
"""

import contextlib
import datetime
import hashlib
import os
import platform
import shutil
import socket
import subprocess
import time
import traceback
from collections.abc import Container, Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
from filelock import FileLock

from sourcematters import metrics
from sourcematters.cohorts import Cohort, tables
from sourcematters.confounders import design
from sourcematters.files import explained, replacing, write_csv, write_json, write_text
from sourcematters.runs.specs import RunSpec
from sourcematters.seeds import derive
from sourcematters.training import image_bank
from sourcematters.training.image_bank import Pixels, Rendering
from sourcematters.training.recipe import Preprocessing

STATES = ["done", "running", "queued", "failed", "lost", "missing"]
HEARTBEAT_SECONDS = 3600  # a run on another machine counts as running if it finished an epoch within this time


@dataclass(frozen=True)
class Execution:
    """By what means a run is made; no number depends on it, but that kinds of devices round differently."""

    device: str = "auto"  # cpu, cuda, mps ...
    recompute: bool = False  # a training step holds less memory and takes a quarter longer (`memory.recompute`)
    checkpoint_seconds: float = 300  # a run keeps where it stands at most so often: what a killed one loses
    memory_share: float = 1.0  # the run's part of a card that other runs share, 0..1


@dataclass(frozen=True)
class Workspace:
    """Where things are kept: `results/<profile>` for what a profile shows, its parent for what profiles share."""

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
    """Make one run, unless it is done, and return its folder; `show` draws a progress bar of the epochs.

    It keeps where it stands after an epoch, and a call after an interruption goes on there.
    """
    target = workspace.run(spec)
    with explained(target):
        (target.parent / ".locks").mkdir(parents=True, exist_ok=True)
        with FileLock(target.parent / ".locks" / f"{spec.id}.lock"):
            if not (target / "done").exists():
                _make(spec, workspace, execution, show)
    return target


def attempt(spec: RunSpec, workspace: Workspace, execution: Execution, show: bool = False) -> str:
    """Make one run; return "", or a sentence on why it failed after keeping the traceback in `<id>.failed/`."""
    failed = Path(f"{workspace.run(spec)}.failed")
    try:
        execute(spec, workspace, execution, show=show)
    except subprocess.CalledProcessError:
        # Not the run's failure: submitit cannot requeue a job that Slurm, without grace time, has requeued already.
        raise
    except Exception as error:
        write_json(failed / "spec.json", spec.to_dict())
        write_text(failed / "traceback.txt", traceback.format_exc())
        return f"{spec.id}: {error} ({failed / 'traceback.txt'})"
    shutil.rmtree(failed, ignore_errors=True)
    return ""


def _make(spec: RunSpec, workspace: Workspace, execution: Execution, show: bool) -> None:
    # Torch takes seconds and half a gigabyte: only processes that train pay for it.
    from safetensors.torch import load_file, save_file

    from sourcematters.training import devices, fine_tuning, memory
    from sourcematters.training.checkpoints import Checkpoint
    from sourcematters.training.classifier import Classifier, reproducible

    started, training = time.perf_counter(), spec.training
    fit = execute(spec.fit, workspace, execution, show=show) if spec.fit != spec else None
    with _becoming(workspace.run(spec)) as folder:
        device = devices.choose(execution.device)
        devices.limit_memory(device, execution.memory_share)
        kept = folder.parent / ".checkpoints" / f"{spec.id}.pt"
        checkpoint = Checkpoint(kept, execution.checkpoint_seconds, device)
        pixels = _pixels(spec.cohort, renderings(spec), workspace)
        how = {name: getattr(spec, name) for name in ("p_art", "fold", "seed", "val_fraction", "split_seed")}
        sets = design.sets(open_registered(spec.cohort, workspace), spec.confounder, **how)
        tests = sets[sets["part"].isin(metrics.TEST_SETS)]
        # All sources and strengths of a fold start from the same classifier.
        with reproducible(derive(spec.seed, "initialization", spec.fold), device), memory.kept():
            model = Classifier(spec.source, spec.backbone, size=training.size, dropout=training.dropout)
            if training.compiled:
                model.compile()
            if execution.recompute:
                memory.recompute(model.backbone)
            if fit:
                model.load_state_dict(load_file(fit / "weights.safetensors"))
                devices.place(model, device)
                history = pd.read_csv(fit / "history.csv")
            else:
                history = fine_tuning.fine_tune(
                    model,
                    pixels,
                    sets,
                    training,
                    seed=spec.seed,
                    device=device,
                    on_epoch=lambda epoch: (folder / "heartbeat").touch(),
                    checkpoint=checkpoint,
                    show=show,
                )
            scores = fine_tuning.score(model, pixels, tests, training, device=device)
        predictions = tests.assign(score=scores).rename(columns={"part": "test_set"})
        predictions = predictions[["image_id", "patient_id", "label", "score", "test_set", "carries"]]
        write_json(folder / "spec.json", {"id": spec.id, **spec.to_dict(), "fit": spec.fit.id})
        write_csv(folder / "history.csv", history)
        write_csv(folder / "predictions.csv", predictions)
        write_json(folder / "metrics.json", metrics.by_test_set(predictions).to_dict("records"))
        if spec.confounder is None:
            tensors = {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
            with replacing(folder / "weights.safetensors") as beside:
                save_file(tensors, beside)
        seconds = checkpoint.spent + time.perf_counter() - started
        write_json(folder / "env.json", _environment(str(device), seconds))
    checkpoint.remove()


@contextlib.contextmanager
def _becoming(target: Path) -> Iterator[Path]:
    """A hidden folder of this process beside `target`, with a heartbeat; it becomes `target` if the block ends well."""
    for left in target.parent.glob(f".{target.name}.*"):
        shutil.rmtree(left)
    folder = target.parent / f".{target.name}.{socket.gethostname()}.{os.getpid()}"
    folder.mkdir()
    try:
        (folder / "heartbeat").touch()
        yield folder
        (folder / "heartbeat").unlink()
        (folder / "done").touch()
        os.replace(folder, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def renderings(spec: RunSpec) -> tuple[Rendering, Rendering]:
    """How the images without and with the confounder are rendered; the same for a sampled confounder."""
    same = {name: getattr(spec.training, name) for name in Preprocessing.model_fields}
    base = Rendering(alteration=spec.base, seed=spec.seed, **same)
    return base, base.replaced(alteration=spec.confounder.carrier if spec.confounder else spec.base)


@lru_cache(maxsize=64)
def _pixels(digest: str, rendered: tuple[Rendering, Rendering], workspace: Workspace) -> Pixels:
    return Pixels(*image_bank.build(open_registered(digest, workspace), rendered, workspace.shared("bank")))


@lru_cache(maxsize=8)
def open_registered(digest: str, workspace: Workspace) -> pd.DataFrame:
    """The table of the cohort that `register` kept under this digest."""
    # Published splits may share patients between parts, of which the opened cohort warned.
    return tables.read_csv(workspace.shared("cohorts") / f"{digest}.csv", shared_patients_allowed=True)


def _environment(device: str, seconds: float) -> dict[str, Any]:
    return {
        "device": device,
        "machine": platform.machine(),
        "host": socket.gethostname(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("sourcematters", "torch", "timm", "numpy", "pandas")},
        "seconds": round(seconds, 2),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def state(run_id: str, runs: Path, queued: Container[str] = ()) -> str:
    """The state of one run, of `STATES`, read off its files; lost is one whose process is gone.

    `queued` are the runs that a cluster has yet to do, see `slurm.in_queue`.
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
