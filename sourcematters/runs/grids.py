"""A grid of runs: plan it, run what is missing, collect its table."""

import itertools
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from operator import methodcaller
from pathlib import Path
from typing import Any

import pandas as pd

from sourcematters import metrics
from sourcematters.cohorts import Cohort
from sourcematters.confounders import Confounder, design
from sourcematters.errors import StudyError
from sourcematters.files import read_json, write_csv
from sourcematters.processes import cores, over_processes, progress
from sourcematters.runs.local import make_here
from sourcematters.runs.run_folder import (
    CHECKPOINT_SECONDS,
    Execution,
    Workspace,
    open_registered,
    register,
    renderings,
)
from sourcematters.runs.slurm import Slurm, make_in_jobs
from sourcematters.runs.specs import RunSpec, grid
from sourcematters.sources import Source, resolve
from sourcematters.training import image_bank
from sourcematters.training.recipe import Training

PLAN = ["run_id", "data", "task", "confounder", "p_art", "source", "backbone", "fold", "caution"]


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
    """Register the cohort, find the sources and return every run of the grid.

    Parameters
    ----------
    cohort, workspace
        The images, and where all that is made of them is kept.
    confounders, p_art, sources, folds
        The axes of the grid, see `specs.grid`; of a source its name, see `sources.resolve`.
    backbone
        The network, by timm's name.
    training
        The recipe. Precision auto becomes bf16 where `device` computes it in hardware, fp32 elsewhere: it changes the
        numbers, so it belongs to the run.
    weights
        Local files of sources, by name, see `sources.resolve`.
    seed
        Of everything drawn, see `RunSpec`.
    device
        What the runs will be made on, for precision auto only.

    Raises StudyError for an unknown source, an empty or repeated axis, p_art outside 0..1, or a cohort too small
    for the folds or for a confounder: before anything is trained.
    """
    for confounder in confounders:
        for fold, strength in itertools.product(range(folds), p_art):
            design.sets(cohort.table, confounder, p_art=strength, fold=fold, seed=seed)
    if training.precision == "auto":
        from sourcematters.training import devices

        training = training.replaced(precision=devices.best_precision(devices.choose(device)))
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
        caution=cohort.caution,
    )


def plan_table(specs: Sequence[RunSpec]) -> pd.DataFrame:
    """One row a run: run_id, data, task, confounder, p_art, source, backbone, fold, caution.

    The last column joins what a figure must say of the cohort and of the source; "" for nothing.
    """
    rows = [
        (
            spec.id,
            spec.data,
            spec.task,
            spec.confounder.name if spec.confounder else "none",
            spec.p_art,
            spec.source.name,
            spec.backbone,
            spec.fold,
            "; ".join(filter(None, (spec.caution, spec.source.caution))),
        )
        for spec in specs
    ]
    return pd.DataFrame(rows, columns=PLAN)


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
) -> pd.DataFrame:
    """Execute the runs that are not done yet and return the results table of all of them.

    Interrupt it at any time: what is finished stays, the rest is made by the next call, with the same numbers.
    A run that fails does not stop the others.

    Parameters
    ----------
    specs, workspace
        What `plan` returned, and where it was planned.
    name
        Of the grid: its list of runs is kept as plans/`name`.csv, for `status`.
    workers
        Processes; 0 means one for each core, or as many as fill a GPU (`devices.runs_at_once`).
    device, recompute, checkpoint_seconds
        As in `Execution`.
    executor, slurm
        local, or slurm for jobs of a cluster with these options (see `Slurm`); banks and weights are still made here.

    Raises StudyError naming the failed runs and where their tracebacks are, for an unknown executor or option, and for
    `recompute` of compiled networks.
    """
    if executor not in ("local", "slurm"):
        raise StudyError(f"executor = {executor!r}: it must be local or slurm.")
    if recompute and any(spec.training.compiled for spec in specs):
        raise StudyError("recompute and compiled exclude each other: set one of them to false.")
    options, execution = Slurm(**slurm or {}), Execution(device, recompute, checkpoint_seconds)
    table = plan_table(specs)
    write_csv(workspace.own(f"plans/{name}.csv"), table)
    todo = [spec for spec in specs if not (workspace.run(spec) / "done").exists()]
    if todo:
        _prepare(todo, workspace, workers or cores())
        if executor == "slurm":
            ended = make_in_jobs(todo, workspace, execution, name=name, options=options)
        else:
            ended = make_here(todo, workspace, execution, workers=workers or _suitable_workers(todo, device))
        _watch(ended, workspace, done=len(specs) - len(todo), total=len(specs))
    return collect(table, workspace)


def _watch(ended: Iterable[tuple[RunSpec, str]], workspace: Workspace, *, done: int, total: int) -> None:
    """Show the runs as they end. Raises StudyError after the last one if any failed."""
    failures = []
    with progress(total=total, initial=done, desc="runs", unit="run", mininterval=0) as bar:
        for spec, failure in ended:
            bar.set_postfix_str(f"{spec.id}: {'failed' if failure else _outcome(workspace.run(spec))}")
            bar.update()
            if failure:
                failures.append(failure)
    if failures:
        more = f"\n... and {len(failures) - 3} more" if len(failures) > 3 else ""
        raise StudyError(f"{len(failures)} of {total} runs failed:\n" + "\n".join(failures[:3]) + more)


def _outcome(folder: Path) -> str:
    loss = pd.read_csv(folder / "history.csv")["val_loss"].min()
    aucs = ", ".join(f"{row['test_set']} {row['auc']:.2f}" for row in read_json(folder / "metrics.json"))
    return f"val loss {loss:.2f}, AUC {aucs}"


def _suitable_workers(specs: Sequence[RunSpec], device: str) -> int:
    # Torch costs a notebook's kernel half a gigabyte: it is not asked where Linux shows no accelerator.
    nodes = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
    if device == "auto" and platform.system() == "Linux" and not any(map(os.path.exists, nodes)):
        return cores()
    from sourcematters.training import devices

    where = devices.choose(device)
    networks = {(spec.backbone, spec.training) for spec in specs}
    return min(devices.runs_at_once(backbone, training, where) for backbone, training in networks)


def _prepare(todo: Sequence[RunSpec], workspace: Workspace, workers: int) -> None:
    # Weights and banks are made before the workers start, so that they do not wait for one another.
    for backbone in {spec.backbone for spec in todo}:
        _fetch({spec.source for spec in todo if spec.backbone == backbone}, backbone, workers)
    for digest in {spec.cohort for spec in todo}:
        needed = {r for spec in todo if spec.cohort == digest for r in renderings(spec)}
        cohort = open_registered(digest, workspace)
        image_bank.build(cohort, sorted(needed, key=str), workspace.shared("bank"), workers=workers)


def _fetch(sources: Iterable[Source], backbone: str, workers: int) -> None:
    missing = sorted((source for source in sources if not source.at_hand), key=str)
    for _ in over_processes(methodcaller("fetch", backbone), missing, workers):
        pass


def prepare_sources(
    names: Sequence[str],
    backbone: str,
    workspace: Workspace,
    *,
    weights: Mapping[str, Any] | None = None,
    workers: int = 0,
) -> pd.DataFrame:
    """Fetch or train the sources called `names` now, and return one row about each.

    Columns: source, kind, identity, and whatever more a source has to say of itself (`Source.card`).
    """
    folder = workspace.shared("sources")
    found = [resolve(name, backbone, weights=weights, folder=folder) for name in names]
    _fetch(found, backbone, workers)
    rows = [
        {"source": source.name, "kind": source.kind, "identity": source.identity, **source.card} for source in found
    ]
    return pd.DataFrame(rows)


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


def collect_plans(workspace: Workspace) -> tuple[pd.DataFrame, list[str]]:
    """The results of every plan of this profile that is done, and a sentence for each that is not.

    Raises StudyError when no plan is done.
    """
    frames, missing = [], []
    for path in sorted(workspace.own("plans").glob("*.csv")):
        table = pd.read_csv(path, keep_default_na=False)
        try:
            frames.append(collect(table, workspace))
        except StudyError as error:
            missing.append(f"{path.stem}: {error}")
    if not frames:
        raise StudyError(
            f"{workspace.own('plans')}: no grid of runs is done there. Run the notebooks 20 to 25 first, "
            "or set `results` to the folder of a profile that was run."
        )
    return pd.concat(frames, ignore_index=True), missing
