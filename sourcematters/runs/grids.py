"""A grid of runs: plan it, run what is missing, collect its table, tell how far it is."""

import datetime
import itertools
import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from sourcematters import metrics
from sourcematters.cohorts import Cohort
from sourcematters.confounders import Confounder, design
from sourcematters.errors import StudyError
from sourcematters.files import read_json, write_csv
from sourcematters.processes import cores, over_processes, progress
from sourcematters.runs import executors
from sourcematters.runs.run_folder import (
    CHECKPOINT_SECONDS,
    Execution,
    Workspace,
    open_registered,
    register,
    renderings,
    state,
)
from sourcematters.runs.specs import RunSpec, Training, grid
from sourcematters.sources import Source, at_hand, fetch, resolve
from sourcematters.training import image_bank


def plan(
    cohort: Cohort,
    workspace: Workspace,
    *,
    confounders: Sequence[Confounder],
    p_art: Sequence[float],
    sources: Sequence[str],
    backbone: str,
    folds: int,
    training: Training,
    weights: Mapping[str, Any] | None = None,
    seed: int = 0,
    device: str = "auto",
) -> list[RunSpec]:
    """Register the cohort, find the sources (see `sources.resolve`) and return every run of the grid.

    Precision auto becomes bf16 where `device` computes it in hardware, fp32 elsewhere: it changes the numbers, so
    it belongs to the run.

    Raises StudyError for an unknown source, an empty or repeated axis, p_art outside 0..1, or a cohort too small
    for the folds or for a confounder: before anything is trained.
    """
    for confounder in confounders:
        for fold, strength in itertools.product(range(folds), p_art):
            design.sets(cohort.table, confounder, p_art=strength, fold=fold, seed=seed)
    if training.precision == "auto":
        from sourcematters.training import devices

        training = replace(training, precision=devices.choose_precision("auto", devices.choose(device)))
    folder = workspace.shared("sources")
    return grid(
        data=cohort.name,
        task=cohort.task,
        cohort=register(cohort, workspace),
        confounders=confounders,
        p_art=p_art,
        sources=[resolve(name, backbone, weights=weights, folder=folder) for name in sources],
        backbone=backbone,
        folds=folds,
        training=training,
        seed=seed,
    )


def run(
    specs: Sequence[RunSpec],
    workspace: Workspace,
    *,
    name: str,
    workers: int = 0,
    device: str = "auto",
    executor: str = "local",
    slurm: Mapping[str, Any] | None = None,
    recompute: bool = False,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    caution: str = "",
) -> pd.DataFrame:
    """Execute the runs that are not done yet and return the results table of all of them.

    Interrupt it at any time: what is finished stays, the rest is made by the next call, with the same numbers.
    A run that fails does not stop the others. The list of runs is kept as plans/`name`.csv, for `status`.
    `workers` 0 means a process for each core, or as many as fill a GPU (`devices.runs_at_once`). `executor` slurm makes
    the runs in jobs of a cluster, with the options in `slurm` (see `executors.Slurm`); banks and weights are still made
    here. `recompute` and `checkpoint_seconds` as in `runs.Execution`, `caution` is the cohort's.

    Raises StudyError naming the failed runs and where their tracebacks are, for an unknown executor or option, and for
    `recompute` of compiled networks.
    """
    if executor not in executors.NAMES:
        raise StudyError(f"executor = {executor!r}: it must be {' or '.join(executors.NAMES)}.")
    if recompute and any(spec.training.compiled for spec in specs):
        raise StudyError("recompute and compiled exclude each other: set one of them to false.")
    settings = executors.Slurm.of(slurm or {})
    table = plan_table(specs, caution=caution)
    write_csv(workspace.own(f"plans/{name}.csv"), table)
    todo = [spec for spec in specs if not (workspace.run(spec) / "done").exists()]
    if todo:
        _prepare(todo, workspace, workers or cores())
        failed, execution = [], Execution(device, recompute, checkpoint_seconds)
        if executor == "slurm":
            ended = executors.slurm(todo, workspace, execution, name=name, settings=settings)
        else:
            ended = executors.local(todo, workspace, execution, workers=workers or _suitable_workers(todo, device))
        with progress(total=len(specs), initial=len(specs) - len(todo), desc="runs", unit="run", mininterval=0) as bar:
            for spec, failure in ended:
                bar.set_postfix_str(f"{spec.id}: {_outcome(workspace.run(spec)) if not failure else 'failed'}")
                bar.update()
                if failure:
                    failed.append(failure)
        if failed:
            more = f"\n... and {len(failed) - 3} more" if len(failed) > 3 else ""
            raise StudyError(f"{len(failed)} of {len(specs)} runs failed:\n" + "\n".join(failed[:3]) + more)
    return collect(table, workspace)


def _prepare(todo: Sequence[RunSpec], workspace: Workspace, workers: int) -> None:
    # Weights and banks are made before the workers start, so that they do not wait for one another.
    for backbone in {spec.backbone for spec in todo}:
        _fetch({spec.source for spec in todo if spec.backbone == backbone}, backbone, workers)
    for digest in {spec.cohort for spec in todo}:
        needed = {r for spec in todo if spec.cohort == digest for r in renderings(spec)}
        cohort = open_registered(digest, workspace)
        image_bank.build(cohort, sorted(needed, key=str), workspace.shared("bank"), workers=workers)


def prepare_sources(
    names: Sequence[str],
    backbone: str,
    workspace: Workspace,
    *,
    weights: Mapping[str, Any] | None = None,
    workers: int = 0,
) -> pd.DataFrame:
    """Fetch or train the sources called `names` now, and return one row about each.

    Columns: source, kind, identity, and for a stand-in its accuracy on held-out pictures and what chance gives.
    """
    folder = workspace.shared("sources")
    found = [resolve(name, backbone, weights=weights, folder=folder) for name in names]
    _fetch(found, backbone, workers)
    rows = []
    for source in found:
        row = {"source": source.name, "kind": source.kind, "identity": source.identity}
        if source.kind == "standin":
            card = read_json(Path(source.location).with_suffix(".json"))
            row |= {"held_out_accuracy": card["held_out_accuracy"], "chance": card["chance"]}
        rows.append(row)
    return pd.DataFrame(rows)


def collect_plans(workspace: Workspace) -> tuple[pd.DataFrame, list[str]]:
    """The results of every plan of this profile that is done, and a sentence for each that is not.

    Raises StudyError when no plan is done.
    """
    frames, missing = [], []
    for path in sorted(workspace.own("plans").glob("*.csv")):
        table = pd.read_csv(path, converters={"caution": str})
        try:
            frames.append(collect(table, workspace))
        except StudyError as error:
            missing.append(f"{path.stem}: {error}")
    if not frames:
        raise StudyError(
            f"{workspace.own('plans')}: no grid of runs is done there. Run the notebooks 20_tag to 24_gender first, "
            "or set `results` to the folder of a profile that was run."
        )
    return pd.concat(frames, ignore_index=True), missing


def _suitable_workers(specs: Sequence[RunSpec], device: str) -> int:
    # Torch costs a notebook's kernel half a gigabyte: it is not asked where Linux shows no accelerator.
    nodes = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
    if device == "auto" and platform.system() == "Linux" and not any(map(os.path.exists, nodes)):
        return cores()
    from sourcematters.training import devices

    where = devices.choose(device)
    networks = {(spec.backbone, spec.training) for spec in specs}
    return min(devices.runs_at_once(backbone, training, where) for backbone, training in networks)


def _fetch(sources: Iterable[Source], backbone: str, workers: int) -> None:
    missing = sorted((source for source in sources if not at_hand(source)), key=str)
    for _ in over_processes(partial(fetch, backbone=backbone), missing, workers):
        pass


def _outcome(folder: Path) -> str:
    loss = pd.read_csv(folder / "history.csv")["val_loss"].min()
    aucs = ", ".join(f"{row['test_set']} {row['auc']:.2f}" for row in read_json(folder / "metrics.json"))
    return f"val loss {loss:.2f}, AUC {aucs}"


def collect(table: pd.DataFrame, workspace: Workspace) -> pd.DataFrame:
    """The tidy results of the runs in a plan: one row a run and test set, metrics recomputed from predictions.

    Columns: those of `plan_table`, then test_set, n, auc, auc_keras. Raises StudyError naming a run that is not done.
    """
    folder = workspace.shared("runs")
    missing = [run_id for run_id in table["run_id"] if not (folder / run_id / "done").exists()]
    if missing:
        raise StudyError(f"{len(missing)} of {len(table)} runs are not done, e.g. {missing[0]}. Run the grid first.")
    frames = []
    for row in table.to_dict("records"):
        predictions = pd.read_csv(folder / row["run_id"] / "predictions.csv")
        frames.append(metrics.by_test_set(predictions).assign(**row))
    return pd.concat(frames, ignore_index=True)[[*table.columns, "test_set", "n", *metrics.METRICS]]


def plan_table(specs: Sequence[RunSpec], *, caution: str = "") -> pd.DataFrame:
    """One row a run: run_id, data, task, confounder, p_art, source, backbone, fold, caution.

    The last column joins what a figure must say of the cohort (`caution`) and of the source.
    """
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
            "caution": "; ".join(filter(None, (caution, getattr(spec.source, "caution", "")))),
        }
        for spec in specs
    ]
    return pd.DataFrame(rows)


def status(folder: str | Path) -> str:
    """What a person wants to know of a results folder: per plan how many runs are in which state, and time left.

    `folder` is a profile's folder (`results/demo`) or `results` itself. Raises StudyError if no plan is in it.
    """
    folder = Path(folder)
    plans = sorted(folder.glob("plans/*.csv")) or sorted(folder.glob("*/plans/*.csv"))
    if not plans:
        raise StudyError(f"{folder}: no plans/*.csv in it. Give a profile's folder, e.g. results/demo, after a start.")
    shared, notes, queued = plans[0].parents[2], [], set()
    try:
        queued = executors.in_queue(shared / "slurm")
    except StudyError as error:
        notes.append(str(error))
    runs, states = shared / "runs", {}
    for plan in plans:
        for run_id in pd.read_csv(plan)["run_id"]:
            states[plan, run_id] = state(run_id, runs, queued)
    # Queued and lost are shown where there are any: without a cluster, or a kill, there are none.
    optional = {"queued", "lost"} - set(states.values())
    shown = [s for s in ("done", "running", "queued", "failed", "lost", "missing") if s not in optional]
    widths = {name: max(8, len(name) + 2) for name in shown}
    lines = [f"{'plan':<32}" + "".join(f"{name:>{widths[name]}}" for name in shown) + f"{'of':>6}"]
    for plan in plans:
        found = [s for (of, _), s in states.items() if of == plan]
        counts = "".join(f"{found.count(name):>{widths[name]}}" for name in shown)
        lines.append(f"{f'{plan.parents[1].name}/{plan.stem}':<32}{counts}{len(found):>6}")
    all_states = list(states.values())
    todo, running = len(all_states) - all_states.count("done"), all_states.count("running")
    done = [run_id for (_, run_id), s in states.items() if s == "done"]
    if todo and done:
        seconds = [json.loads((runs / run_id / "env.json").read_text())["seconds"] for run_id in done]
        left = todo * sum(seconds) / len(seconds) / max(running, 1)
        rate = f"{sum(seconds) / len(seconds):.0f} s a run so far, {max(running, 1)} at a time"
        lines.append(f"time left: about {datetime.timedelta(seconds=round(left))} ({rate})")
    failed = [run_id for (_, run_id), s in states.items() if s == "failed"]
    lines += [f"failed: {runs / f'{run_id}.failed' / 'traceback.txt'}" for run_id in failed]
    return "\n".join(lines + notes)
