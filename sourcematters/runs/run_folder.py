"""Run folders: one run, made once, complete wherever it exists.

A run folder `runs/<id>/` (`RunSpec.id`) holds

    spec.json         id, all that the run is (`RunSpec.to_dict`), and `fit`, the id of the run that trained its network
    history.csv       an epoch a row: epoch, train_loss, val_loss, val_auc, best (1 where val_loss was a new minimum)
    predictions.csv   a test image a row: image_id, patient_id, label, score, test_set, carries (see `metrics`)
    metrics.json      a test set a row: test_set, n, positives, patients, auc, auc_keras; follows from predictions.csv
    env.json          device, versions, commit, code, seconds that it took, when it was finished (`provenance`)
    weights.safetensors   the network, of a run without confounder, which runs at p_art = 0 score (`RunSpec.fit`), and
                      of any that trained one and was asked to keep it (`Execution.keep`)
    done              the seal (see `checksums`), written last: SHA-256 of all the others but env.json, the one in which
                      two makings of the same run differ

Whoever uses a run compares it with its seal: what is damaged is made again, or refused where nothing is trained.

It is written as a hidden folder beside its place, with a `heartbeat` touched after each epoch, and renamed into it.
All state is read off the files, see `state`. `<id>.failed/` holds spec.json and traceback.txt of a run that failed,
`.checkpoints/<id>.pt` where one stands that was killed, `.locks/` keeps two processes from making the same run.
"""

import contextlib
import hashlib
import os
import shutil
import socket
import subprocess
import time
import traceback
from collections.abc import Container, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import psutil

from sourcematters import checksums, metrics
from sourcematters.cohorts import Cohort, tables
from sourcematters.confounders import design
from sourcematters.errors import StudyError
from sourcematters.files import explained, locked, read_json, replacing, write_csv, write_json, write_text
from sourcematters.runs import provenance
from sourcematters.runs.specs import RunSpec
from sourcematters.seeds import derive
from sourcematters.training import image_bank
from sourcematters.training.image_bank import Pixels, Rendering
from sourcematters.training.recipe import Preprocessing

if TYPE_CHECKING:
    from sourcematters.training.classifier import Classifier

FILES = ("spec.json", "history.csv", "predictions.csv", "metrics.json")
WEIGHTS = "weights.safetensors"
STATES = ["done", "running", "queued", "failed", "lost", "missing"]
HEARTBEAT_SECONDS = 3600  # a run on another machine counts as running if it finished an epoch within this time


@dataclass(frozen=True)
class Execution:
    """By what means a run is made; no number depends on it, but that kinds of devices round differently."""

    device: str = "auto"  # cpu, cuda, mps ...
    recompute: bool = False  # a training step holds less memory and takes a quarter longer (`memory.recompute`)
    checkpoint_seconds: float = 300  # a run keeps where it stands at most so often: what a killed one loses
    memory_share: float = 1.0  # the run's part of a card that other runs share, 0..1
    keep: str = ""  # "weights" keeps those of every run that trained some; one without them is made again


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
    path = workspace.shared("cohorts") / f"{digest}.csv"
    checksums.usable(path, "the cohort is registered anew")
    checksums.write_csv(path, table)
    return digest


def execute(spec: RunSpec, workspace: Workspace, execution: Execution = Execution(), *, show: bool = False) -> Path:
    """Make one run, unless it is done, and return its folder; `show` draws a progress bar of the epochs.

    It keeps where it stands after an epoch, and a call after an interruption goes on there.
    """
    target = workspace.run(spec)
    with _locked(target):
        if not _usable(spec, target) or lacks_weights(spec, target, execution.keep):
            _make(spec, workspace, execution, show)
    return target


def usable(spec: RunSpec, workspace: Workspace) -> bool:
    """Whether a run is done and what was written; one that is damaged is said, and deleted: it is then missing."""
    target = workspace.run(spec)
    if not target.exists() or not flaw(target):
        return target.exists()
    with _locked(target):  # another process may be making it again
        return _usable(spec, target)


def lacks_weights(spec: RunSpec, folder: Path, keep: str) -> bool:
    """Whether a run that is done trained a network, should `keep` its weights, and has none that are whole."""
    return bool(keep) and spec.fit == spec and bool(checksums.flaw(folder / "done", [WEIGHTS]))


def network(spec: RunSpec, workspace: Workspace, device: str = "cpu") -> "Classifier":
    """The network of a finished run, as it was when it made the run's predictions, on `device`.

    At p_art = 0 it is that of the run without confounder. Raises StudyError if its weights were not kept, or are
    damaged.
    """
    import torch
    from safetensors.torch import load_file

    from sourcematters.training import devices
    from sourcematters.training.classifier import reproducible

    folder = workspace.run(spec.fit)
    if wrong := checksums.flaw(folder / "done", [WEIGHTS]):
        raise StudyError(
            f"{wrong}. Its network is had by `-p keep weights`: it is trained again, and its weights kept."
        )
    with reproducible(0, torch.device("cpu")):  # what it starts from is drawn, and replaced
        model = _untrained(spec)
    model.load_state_dict(load_file(folder / WEIGHTS))
    devices.place(model, torch.device(device))
    return model.eval()


def _untrained(spec: RunSpec) -> "Classifier":
    from sourcematters.training.classifier import Classifier

    return Classifier(spec.source, spec.backbone, size=spec.training.size, dropout=spec.training.dropout)


def flaw(folder: Path, *more: str) -> str:
    """What is wrong with a run folder, in words; "" for nothing. `more` are files that are needed beside `FILES`."""
    wrong = checksums.flaw(folder / "done", (*FILES, *more))
    if not wrong and (named := read_json(folder / "spec.json")["id"]) != folder.name:
        wrong = f"{folder / 'spec.json'}: is of another run, {named}"
    return wrong


def predictions(folder: Path, **options: Any) -> pd.DataFrame:
    """The predictions of a finished run, read by `pandas.read_csv`; a patient may be called NA.

    Raises StudyError if the run is damaged.
    """
    if wrong := flaw(folder):
        raise StudyError(f"{wrong}. Run its notebook again (20 to 25), which makes that run anew.")
    return pd.read_csv(folder / "predictions.csv", keep_default_na=False, na_values=[""], **options)


@contextlib.contextmanager
def _locked(target: Path) -> Iterator[None]:
    with explained(target), locked(target.parent / ".locks" / f"{target.name}.lock"):
        yield


def _usable(spec: RunSpec, target: Path) -> bool:
    if not target.exists():
        return False
    needed = [WEIGHTS] if spec.confounder is None else []
    if wrong := flaw(target, *needed):
        checksums.tell(wrong, "the run is made again")
        shutil.rmtree(target) if target.is_dir() else target.unlink()
    return not wrong


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
        what = str(error) if isinstance(error, StudyError) else f"{type(error).__name__}: {error}"
        return f"{spec.id}: {what} ({failed / 'traceback.txt'})"
    shutil.rmtree(failed, ignore_errors=True)
    return ""


def _make(spec: RunSpec, workspace: Workspace, execution: Execution, show: bool) -> None:
    # Torch takes seconds and half a gigabyte: only processes that train pay for it.
    from safetensors.torch import load_file, save_file

    from sourcematters.training import devices, fine_tuning, memory
    from sourcematters.training.checkpoints import Checkpoint
    from sourcematters.training.classifier import reproducible

    started, training = time.perf_counter(), spec.training
    fit = execute(spec.fit, workspace, execution, show=show) if spec.fit != spec else None
    with _becoming(workspace.run(spec)) as folder:
        device = devices.choose(execution.device)
        devices.check_precision(training.precision, device)
        devices.limit_memory(device, execution.memory_share)
        kept = folder.parent / ".checkpoints" / f"{spec.id}.pt"
        checkpoint = Checkpoint(kept, execution.checkpoint_seconds, device)
        pixels = _pixels(spec.cohort, renderings(spec), workspace)
        how = {name: getattr(spec, name) for name in ("p_art", "fold", "seed", "val_fraction", "split_seed")}
        sets = design.sets(open_registered(spec.cohort, workspace), spec.confounder, **how)
        tests = sets[sets["part"].isin(metrics.TEST_SETS)]
        # All sources and strengths of a fold start from the same classifier.
        with reproducible(derive(spec.seed, "initialization", spec.fold), device), memory.kept():
            model = _untrained(spec)
            if training.compiled:
                model.compile()
            if execution.recompute:
                memory.recompute(model.backbone)
            if fit:
                model.load_state_dict(load_file(fit / WEIGHTS))
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
        if spec.confounder is None or (execution.keep and not fit):
            tensors = {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
            with replacing(folder / WEIGHTS) as beside:
                save_file(tensors, beside)
        seconds = checkpoint.spent + time.perf_counter() - started
        write_json(folder / "env.json", provenance.environment(str(device), seconds))
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
        checksums.seal(folder / "done", (path for path in folder.iterdir() if path.name != "env.json"))
        if target.exists():  # without the weights that it should keep
            _compare(target, folder)
            shutil.rmtree(target)
        os.replace(folder, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _compare(old: Path, new: Path) -> None:
    """Say it where a run that was trained again for its weights predicts otherwise than before."""
    # As text first: Python reads a float exactly.
    scores = [pd.read_csv(each / "predictions.csv", dtype=str)["score"].to_numpy(float) for each in (old, new)]
    if (largest := np.abs(scores[0] - scores[1]).max()) > 0:
        checksums.tell(
            f"{old}: trained again for its weights, it predicts otherwise, by up to {largest:.2g}: other versions or "
            "another device round otherwise (env.json)",
            "it takes the old one's place, and its notebook should be run again",
        )


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
    """The table of the cohort that `register` kept under this digest. Raises StudyError if it is damaged."""
    path = workspace.shared("cohorts") / f"{digest}.csv"
    checksums.demand(path, "Run a notebook that makes runs again (20 to 25): it registers the cohort anew.")
    # Published splits may share patients between parts, of which the opened cohort warned.
    return tables.read_csv(path, shared_patients_allowed=True)


def state(run_id: str, runs: Path, queued: Container[str] = ()) -> str:
    """The state of one run, of `STATES`, read off its files; lost is one whose process is gone.

    `queued` are the runs that a cluster has yet to do, see `slurm.in_queue`.
    """
    if is_complete(runs / run_id):
        return "done"
    attempts = list(runs.glob(f".{run_id}.*"))
    if any(_is_alive(beside, run_id) for beside in attempts):
        return "running"
    if (runs / f"{run_id}.failed").exists():
        return "failed"
    return "queued" if run_id in queued else "lost" if attempts else "missing"


def is_complete(folder: Path) -> bool:
    """Whether a run folder has all its files and lists them in its seal, whose checksums are not compared."""
    sealed = checksums.read(folder / "done")
    return all(name in sealed and (folder / name).is_file() for name in FILES)


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
