"""Run folders: execute a grid, resume it, tell how far it is.

A run folder `runs/<id>/` holds spec.json, history.csv, predictions.csv, metrics.json, env.json and `done`. It is
written as a hidden folder beside its place and renamed into it, so that it is complete wherever it exists. All
state is read off the files: done (the folder), running (a hidden folder whose heartbeat is fresh), failed
(`<id>.failed/` with the traceback), missing. Metrics can always be recomputed from predictions.csv.
"""

import datetime
import hashlib
import json
import os
import platform
import shutil
import socket
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import psutil
from filelock import FileLock

from sourcematters import design, images, metrics, sources
from sourcematters.cohorts import table as cohort_table
from sourcematters.errors import StudyError
from sourcematters.files import explained, write_csv, write_json, write_text
from sourcematters.images import Rendering
from sourcematters.processes import over_processes, progress
from sourcematters.specs import RunSpec

HEARTBEAT_SECONDS = 600


@dataclass(frozen=True)
class Workspace:
    """The folder `results` and what lives where in it; shared by all profiles, so no run is made twice."""

    results: str = "results"

    @cached_property
    def _root(self) -> Path:
        return Path(self.results).resolve()

    def folder(self, name: str) -> Path:
        """One of: runs, bank, cohorts, sources, phantoms."""
        return self._root / name

    def run(self, spec: RunSpec) -> Path:
        """The folder of a finished run."""
        return self._root / "runs" / spec.id


def register(cohort: pd.DataFrame, workspace: Workspace) -> str:
    """Keep a cohort under the digest of its rows and its files' content, and return that digest.

    Where the files lie does not count: the same images in another folder are the same cohort.
    """
    content = images.fingerprints(cohort, workspace.folder("bank"))
    rows = cohort.drop(columns="path").assign(content=content.to_numpy()).sort_index(axis=1)
    digest = hashlib.sha256(rows.to_csv(index=False, lineterminator="\n").encode()).hexdigest()[:12]
    write_csv(workspace.folder("cohorts") / f"{digest}.csv", cohort)
    return digest


def run(
    specs: Sequence[RunSpec],
    workspace: Workspace,
    *,
    workers: int = 1,
    device: str = "auto",
    plan: str | Path | None = None,
) -> pd.DataFrame:
    """Execute the runs that are not done yet and return the results table of all of them.

    Interrupt it at any time: what is finished stays, the rest is made by the next call, with the same numbers.
    A run that fails does not stop the others. `plan` is a CSV that lists the runs, for `status`.

    Raises StudyError naming the failed runs and where their tracebacks are.
    """
    if plan is not None:
        write_csv(plan, plan_table(specs))
    todo = [spec for spec in specs if not (workspace.run(spec) / "done").exists()]
    if todo:
        _prepare(todo, workspace, workers)
        failed = []
        work = partial(_attempt, workspace=workspace, device=device, show=workers <= 1)
        with progress(total=len(specs), initial=len(specs) - len(todo), desc="runs", unit="run", mininterval=0) as bar:
            for spec, failure in over_processes(work, todo, workers):
                bar.set_postfix_str(spec.id)
                bar.update()
                if failure:
                    failed.append(f"{failure} ({workspace.run(spec)}.failed/traceback.txt)")
        if failed:
            more = f"\n... and {len(failed) - 3} more" if len(failed) > 3 else ""
            raise StudyError(f"{len(failed)} of {len(specs)} runs failed:\n" + "\n".join(failed[:3]) + more)
    return collect(specs, workspace)


def _prepare(todo: Sequence[RunSpec], workspace: Workspace, workers: int) -> None:
    # Weights and banks are made before the workers start, so that they do not wait for one another.
    pretrained = {(spec.source, spec.backbone) for spec in todo}
    list(over_processes(_fetch, sorted(pretrained, key=str), workers))
    for digest in {spec.cohort for spec in todo}:
        needed = {r for spec in todo if spec.cohort == digest for r in _renderings(spec)}
        cohort = _cohort(digest, workspace)
        images.build(cohort, sorted(needed, key=str), workspace.folder("bank"), workers=workers)


def _fetch(source_and_backbone: tuple[sources.Source, str]) -> None:
    sources.fetch(*source_and_backbone)


def _attempt(spec: RunSpec, workspace: Workspace, device: str, show: bool) -> str:
    failure = Path(f"{workspace.run(spec)}.failed")
    try:
        execute(spec, workspace, device=device, show=show)
    except Exception as error:
        write_text(failure / "traceback.txt", traceback.format_exc())
        write_json(failure / "spec.json", spec.to_dict())
        return f"{spec.id}: {error}"
    shutil.rmtree(failure, ignore_errors=True)
    return ""


def execute(spec: RunSpec, workspace: Workspace, *, device: str = "auto", show: bool = False) -> Path:
    """Make one run, unless it is done, and return its folder.

    Computes on one thread (on a CPU) so that the bytes do not depend on the number of cores or workers.
    """
    target = workspace.run(spec)
    with explained(target):
        (target.parent / ".locks").mkdir(parents=True, exist_ok=True)
        with FileLock(target.parent / ".locks" / f"{spec.id}.lock"):
            if not (target / "done").exists():
                _execute(spec, workspace, target, device, show)
    return target


def _execute(spec: RunSpec, workspace: Workspace, target: Path, device: str, show: bool) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    from sourcematters import training
    from sourcematters.models import Classifier

    started = time.perf_counter()
    fit_folder = execute(spec.fit, workspace, device=device, show=show) if spec.fit != spec else None
    for left in target.parent.glob(f".{spec.id}.*"):
        shutil.rmtree(left)
    beside = target.parent / f".{spec.id}.{socket.gethostname()}.{os.getpid()}"
    beside.mkdir()
    try:
        heartbeat = beside / "heartbeat"
        heartbeat.touch()
        cohort = _cohort(spec.cohort, workspace)
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
        where = training.choose_device(device)
        settings, pixels = spec.training, training.Pixels(base, carrier)
        with _reproducible(training.initial_seed(spec.seed, spec.fold), where):
            model = Classifier(spec.source, spec.backbone, size=settings.size, dropout=settings.dropout)
            if fit_folder is None:
                history = training.fine_tune(
                    model,
                    pixels,
                    sets,
                    settings,
                    seed=spec.seed,
                    device=where,
                    on_epoch=lambda epoch: heartbeat.touch(),
                    show=show,
                )
            else:
                model.load_state_dict(load_file(fit_folder / "weights.safetensors"))
                model.to(where, memory_format=torch.channels_last)
                history = pd.read_csv(fit_folder / "history.csv")
            tests = sets[sets["part"].isin(design.TEST_SETS)]
            scores = training.score(model, pixels, tests, settings, device=where)
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
        write_json(beside / "env.json", _environment(where, time.perf_counter() - started))
        heartbeat.unlink()
        (beside / "done").touch()
        os.replace(beside, target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


class _reproducible:
    """Within it: one CPU thread, deterministic kernels, and torch's generators seeded; restored afterwards."""

    def __init__(self, seed: int, device: "torch.device"):  # noqa: F821
        self.seed, self.device = seed, device

    def __enter__(self) -> None:
        import torch

        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        self.before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True)
        devices = [self.device] if self.device.type == "cuda" else []
        self.fork = torch.random.fork_rng(devices=devices)
        self.fork.__enter__()
        torch.manual_seed(self.seed)

    def __exit__(self, *error: object) -> None:
        import torch

        self.fork.__exit__(*error)
        torch.set_num_threads(self.before[0])
        torch.use_deterministic_algorithms(self.before[1])


def _renderings(spec: RunSpec) -> tuple[Rendering, Rendering]:
    carrier = spec.base if spec.confounder is None or spec.confounder.sampled else spec.confounder.carrier
    size, interpolation = spec.training.size, spec.training.interpolation
    return Rendering(spec.base, size, interpolation, spec.seed), Rendering(carrier, size, interpolation, spec.seed)


def _banks(spec: RunSpec, workspace: Workspace) -> list:
    return [_bank(spec.cohort, rendering, workspace) for rendering in _renderings(spec)]


@lru_cache(maxsize=64)
def _bank(digest: str, rendering: Rendering, workspace: Workspace):
    return images.build(_cohort(digest, workspace), [rendering], workspace.folder("bank"))[0]


@lru_cache(maxsize=8)
def _cohort(digest: str, workspace: Workspace) -> pd.DataFrame:
    return cohort_table.read_csv(workspace.folder("cohorts") / f"{digest}.csv")


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


def collect(specs: Sequence[RunSpec], workspace: Workspace) -> pd.DataFrame:
    """The tidy results table: one row a run and test set, metrics recomputed from the predictions.

    Columns: run_id, data, task, confounder, p_art, source, backbone, fold, test_set, n, auc.
    Raises StudyError naming the runs that are not done.
    """
    missing = [spec.id for spec in specs if not (workspace.run(spec) / "done").exists()]
    if missing:
        raise StudyError(f"{len(missing)} of {len(specs)} runs are not done, e.g. {missing[0]}. Run the grid first.")
    frames = []
    for row in plan_table(specs).to_dict("records"):
        predictions = pd.read_csv(workspace.folder("runs") / row["run_id"] / "predictions.csv")
        frames.append(metrics.by_test_set(predictions).assign(**row))
    columns = [*plan_table(specs[:1]).columns, "test_set", "n", "auc"]
    return pd.concat(frames, ignore_index=True)[columns]


def plan_table(specs: Sequence[RunSpec]) -> pd.DataFrame:
    """One row a run: run_id, data, task, confounder, p_art, source, backbone, fold."""
    rows = [
        {
            "run_id": spec.id,
            "data": spec.data,
            "task": spec.task,
            "confounder": spec.confounder.name if spec.confounder else "none",
            "p_art": spec.p_art,
            "source": spec.source.name,
            "backbone": spec.backbone,
            "fold": spec.fold,
        }
        for spec in specs
    ]
    return pd.DataFrame(rows)


def state(run_id: str, runs: Path) -> str:
    """The state of one run, read off its files: done, running, failed or missing."""
    if (runs / run_id / "done").exists():
        return "done"
    for beside in runs.glob(f".{run_id}.*"):
        *_, host, pid = beside.name.rsplit(".", 2)
        heartbeat = beside / "heartbeat"
        fresh = heartbeat.exists() and time.time() - heartbeat.stat().st_mtime < HEARTBEAT_SECONDS
        if fresh and (host != socket.gethostname() or psutil.pid_exists(int(pid))):
            return "running"
    return "failed" if (runs / f"{run_id}.failed").exists() else "missing"


def status(folder: str | Path) -> str:
    """What a person wants to know of a results folder: per plan how many runs are in which state, and time left.

    `folder` is a profile's folder (`results/demo`) or `results` itself. Raises StudyError if no plan is in it.
    """
    folder = Path(folder)
    plans = sorted(folder.glob("plans/*.csv")) or sorted(folder.glob("*/plans/*.csv"))
    if not plans:
        raise StudyError(f"{folder}: no plans/*.csv in it. Give a profile's folder, e.g. results/demo, after a start.")
    lines, failed, todo, running, seconds = [], [], 0, 0, []
    lines.append(f"{'plan':<32}{'done':>8}{'running':>9}{'failed':>8}{'missing':>9}{'of':>6}")
    seen: dict[str, str] = {}
    for plan in plans:
        runs = plan.parents[2] / "runs"
        ids = pd.read_csv(plan)["run_id"].tolist()
        states = [seen.setdefault(run_id, state(run_id, runs)) for run_id in ids]
        counts = [states.count(s) for s in ("done", "running", "failed", "missing")]
        name = f"{plan.parents[1].name}/{plan.stem}"
        lines.append(f"{name:<32}{counts[0]:>8}{counts[1]:>9}{counts[2]:>8}{counts[3]:>9}{len(ids):>6}")
        failed += [runs / f"{i}.failed" / "traceback.txt" for i, s in zip(ids, states, strict=True) if s == "failed"]
        todo += len(ids) - counts[0]
        running += counts[1]
        for run_id in (i for i, s in zip(ids, states, strict=True) if s == "done"):
            seconds.append(json.loads((runs / run_id / "env.json").read_text())["seconds"])
    if todo and seconds:
        left = todo * sum(seconds) / len(seconds) / max(running, 1)
        rate = f"{sum(seconds) / len(seconds):.0f} s a run so far, {max(running, 1)} at a time"
        lines.append(f"time left: about {datetime.timedelta(seconds=round(left))} ({rate})")
    lines += [f"failed: {path}" for path in failed]
    return "\n".join(lines)
