"""A grid of runs: plan it, run what is missing, collect its table."""

import os
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from operator import methodcaller
from typing import Any

import pandas as pd

from sourcematters import metrics
from sourcematters.cohorts import Cohort
from sourcematters.confounders import Confounder
from sourcematters.errors import StudyError
from sourcematters.files import read_json
from sourcematters.processes import apart, cores, over_processes, progress
from sourcematters.runs import guards, mixtures, plans, provenance
from sourcematters.runs.doubts import doubt
from sourcematters.runs.run_folder import (
    Execution,
    Workspace,
    attempt,
    lacks_weights,
    open_registered,
    predictions,
    register,
    renderings,
    usable,
)
from sourcematters.runs.slurm import Slurm, make_in_jobs, refuse
from sourcematters.runs.specs import RunSpec, grid
from sourcematters.seeds import uniform
from sourcematters.sources import Source, resolve
from sourcematters.training import image_bank, trials
from sourcematters.training.image_bank import Rendering
from sourcematters.training.recipe import Training

PROOF_IMAGES, PROOF_FEWEST = 128, 32  # of development patients, half of each label: what a proof of life looks at
PROOF_SIZE = 128  # px; of larger images it looks at fewer: ResNet50 takes a CPU core 35 s for 32 of 512 px


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
    smallest_test: int = 1,
    force: bool = False,
    workers: int = 1,
) -> list[RunSpec]:
    """Register the cohort, find the sources and return every run of the grid; print which test sets are too small.

    cohort, workspace  the images, and where all that is made of them is kept
    confounders, p_art, sources, folds  the axes of the grid, see `specs.grid`; of a source its name
    backbone           the network, by timm's name
    training           the recipe; precision auto becomes bf16 where `device` computes it in hardware, fp32 elsewhere
    weights            local files of sources, by name, see `sources.resolve`
    seed               of everything drawn, see `RunSpec`
    device             what the runs will be made on, for precision auto only
    smallest_test      images of each class that a test set must have: a smaller i.i.d. or clean test is left out
    force              go on where `guards` finds that the study would be empty or misleading; its cautions say so
    workers            processes that look at images for `guards`

    Raises StudyError for an unknown source, an empty or repeated axis, p_art outside 0..1, a cohort too small for the
    folds, for a confounder or for an o.o.d. test, and for what `guards` finds: before anything is trained.
    """
    counted: dict[Confounder | None, guards.Counts] = {
        each: guards.strengths(cohort, each, p_art=p_art, folds=folds, seed=seed, smallest=smallest_test)
        for each in confounders
    }
    look: dict[str, Any] = {"seed": seed, "force": force, "workers": workers}
    seen: dict[Confounder | None, tuple[dict[str, float], str]] = {
        each: guards.seen(cohort.table, each, training, **look) for each in confounders
    }
    if training.precision == "auto":
        from sourcematters.training import devices

        training = training.replaced(precision=devices.best_precision(devices.choose(device)))
    planned = grid(
        data=cohort.name,
        task=cohort.task,
        cohort=register(cohort, workspace),
        confounders=confounders,
        p_art=p_art,
        sources=[resolve(name, backbone, weights=weights, folder=workspace.shared("sources")) for name in sources],
        backbone=backbone,
        folds=folds,
        training=training,
        seed=seed,
        caution=cohort.caution,
        smallest_test=smallest_test,
    )
    specs = []
    for spec in planned:
        columns, unseen = seen[spec.confounder]
        came_out = {**counted[spec.confounder][spec.fold, spec.p_art], **columns}
        specs.append(_saying(spec, unseen).replaced(came_out=tuple(came_out.items())))
    return specs


def _saying(spec: RunSpec, caution: str) -> RunSpec:
    return spec.replaced(caution="; ".join(filter(None, (spec.caution, caution))))


def plan_table(specs: Sequence[RunSpec]) -> pd.DataFrame:
    """One row a run: run_id, data, task, confounder, p_art, source, backbone, fold, smallest_test, what came out
    (`guards.COLUMNS`; input_* are NaN of a sampled confounder), caution.

    The last column joins what a figure must say of the cohort and of the source; "" for nothing.
    """
    cautions = ["; ".join(filter(None, (spec.caution, spec.source.caution))) for spec in specs]
    rows = [{"run_id": spec.id, **spec.row, "smallest_test": spec.smallest_test} for spec in specs]
    came_out = pd.DataFrame([dict(spec.came_out) for spec in specs], columns=guards.COLUMNS)
    return pd.concat([pd.DataFrame(rows), came_out], axis=1).assign(caution=cautions)


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
    force: bool = False,
    keep: str = "",
) -> pd.DataFrame:
    """Execute the runs that are not done yet and return the results table of all of them.

    Interrupt it at any time: what is finished stays, the rest is made by the next call, with the same numbers.
    A run that fails does not stop the others.

    specs, workspace  what `plan` returned, and where it was planned
    name              of the grid: its list of runs is kept as plans/`name`.csv, for `status`
    workers           processes; 0 means one a core, or as many as fill a GPU (`devices.runs_at_once`)
    executor, slurm   local, or slurm for jobs of a cluster with these options; banks and weights are still made here
    device, recompute, keep  as in `Execution`
    force             go on with images that `guards.flaws` refuses, of which every figure then says so

    Raises StudyError naming the failed runs and where their tracebacks are, for an unknown executor or option, for
    `recompute` of compiled networks, and for precision tf32 on a device without it.
    """
    recipes = [spec.training for spec in specs]
    means: dict[str, Any] = dict(recompute=recompute, device=device, executor=executor, slurm=slurm or {})
    options = check_means(recipes, workspace, **means)
    execution = Execution(device, recompute, keep=keep)
    specs = _looked_through(specs, workspace, force=force, workers=workers)
    table = plan_table(specs)
    plans.write(workspace, name, table)
    todo = [spec for spec in specs if not usable(spec, workspace)]
    waiting = {spec.id for spec in todo}
    if again := [s for s in specs if s.id not in waiting and lacks_weights(s, workspace.run(s), keep)]:
        print(f"{len(again)} runs that are done have kept no weights: they are trained again, to the same predictions.")
        todo += again
    finished = {workspace.run(spec) for spec in specs} - {workspace.run(spec) for spec in todo}
    if note := provenance.made_by_other_code(sorted(finished)):
        print(f"note: {note}", file=sys.stderr)
    if todo:
        if executor == "local":
            for backbone, training in {(spec.backbone, spec.training) for spec in todo}:
                if backbone not in trials.TRIED:
                    trials.trial_step(backbone, training, device)
        _prepare(todo, workspace, workers or cores())
        if executor == "slurm":
            ended = make_in_jobs(todo, workspace, execution, name=name, options=options)
        else:
            at_once = min(workers or _suitable_workers(todo, device), len(todo))
            execution = replace(execution, memory_share=1 / at_once)
            # Of the first run its epochs are shown: until it ends, nothing else tells how long one takes.
            work = partial(_attempt, workspace=workspace, execution=execution, shown=todo[: 1 if at_once > 1 else None])
            ended = over_processes(work, todo, at_once)
        _watch(ended, workspace, done=len(specs) - len(todo), total=len(specs))
    return collect(table, workspace)


def _attempt(spec: RunSpec, workspace: Workspace, execution: Execution, shown: Sequence[RunSpec]) -> str:
    return attempt(spec, workspace, execution, show=spec in shown)


def _looked_through(specs: Sequence[RunSpec], workspace: Workspace, *, force: bool, workers: int) -> list[RunSpec]:
    """The same runs, whose caution tells also of images that are blank or in two parts. Their banks are built."""
    folder, found = workspace.shared("bank"), dict[tuple[str, Training], str]()
    for name, digest, training in dict.fromkeys((spec.data, spec.cohort, spec.training) for spec in specs):
        cohort = open_registered(digest, workspace)
        found[digest, training] = guards.flaws(name, cohort, training, folder, force=force, workers=workers)
    return [_saying(spec, found[spec.cohort, spec.training]) for spec in specs]


def check_means(
    recipes: Sequence[Training],
    workspace: Workspace,
    *,
    recompute: bool,
    device: str,
    executor: str,
    slurm: Mapping[str, Any],
) -> Slurm:
    """The options of a cluster's jobs. Raises StudyError where runs of these recipes cannot be made by such means."""
    if executor not in ("local", "slurm"):
        raise StudyError(f"executor = {executor!r}: it must be local or slurm.")
    if recompute and any(training.compiled for training in recipes):
        raise StudyError("recompute and compiled exclude each other: set one of them to false.")
    # What jobs run on, only they know.
    if executor == "local" and any(training.precision == "tf32" for training in recipes):
        from sourcematters.training import devices

        devices.check_precision("tf32", devices.choose(device))
    options = Slurm(**slurm)
    if executor == "slurm":
        refuse(options, workspace.shared("slurm"))
    return options


def _watch(ended: Iterable[tuple[RunSpec, str]], workspace: Workspace, *, done: int, total: int) -> None:
    """Show the runs as they end. Raises StudyError after the last one if any failed."""
    failures = []
    with progress(total=total, initial=done, desc="runs", unit="run", mininterval=0) as bar:
        for spec, failure in ended:
            outcome = "failed"
            if failure:
                failures.append(failure)
            else:
                loss = pd.read_csv(workspace.run(spec) / "history.csv")["val_loss"].min()
                tests = read_json(workspace.run(spec) / "metrics.json")
                aucs = ", ".join(f"{row['test_set']} {row['auc']:.2f}" for row in tests)
                outcome = f"val loss {loss:.2f}, AUC {aucs}"
            bar.set_postfix_str(f"{spec.id}: {outcome}")
            bar.update()
    if failures:
        more = f"\n... and {len(failures) - 3} more" if len(failures) > 3 else ""
        raise StudyError(f"{len(failures)} of {total} runs failed:\n" + "\n".join(failures[:3]) + more)


def _suitable_workers(specs: Sequence[RunSpec], device: str) -> int:
    # Torch costs a notebook's kernel half a gigabyte: it is not asked where Linux shows no accelerator.
    nodes = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
    if device == "auto" and platform.system() == "Linux" and not any(map(os.path.exists, nodes)):
        return cores()
    from sourcematters.training import devices

    networks = {(spec.backbone, spec.training) for spec in specs}
    return min(devices.runs_at_once(backbone, training, devices.choose(device)) for backbone, training in networks)


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
    fetched = over_processes(methodcaller("fetch", backbone), missing, workers)
    list(progress(fetched, total=len(missing), desc="sources", unit="source", mininterval=0, disable=not missing))


def prepare_sources(
    names: Sequence[str],
    backbone: str,
    workspace: Workspace,
    *,
    weights: Mapping[str, Any] | None = None,
    workers: int,
    cohort: pd.DataFrame | None = None,
    rendering: Rendering | None = None,
) -> pd.DataFrame:
    """Fetch or train the sources called `names` now, and return one row about each.

    Columns: source, kind, identity, and whatever more a source has to say of itself (`Source.card`); with a `cohort`
    and a `rendering`, those of `proof.proof_of_life` on some of its images, but for networks without weights.
    What speaks against a source is printed too.
    """
    folder = workspace.shared("sources")
    found = [resolve(name, backbone, weights=weights, folder=folder) for name in names]
    _fetch(found, backbone, workers)
    pretrained, proofs = [source for source in found if source.kind != "random"], dict[str, dict[str, Any]]()
    if cohort is not None and rendering is not None and pretrained:
        bank = image_bank.build(cohort, [rendering], workspace.shared("bank"), workers=workers)[0]
        rank = pd.Series(uniform(0, cohort["image_id"].tolist(), "proof of life"))
        label, dev = cohort["label"].to_numpy(), (cohort["split"] == "dev").to_numpy()
        number = int(max(PROOF_FEWEST, PROOF_IMAGES * min(1, PROOF_SIZE / rendering.size) ** 2))
        chosen = sorted(row for y in (0, 1) for row in rank[dev & (label == y)].nsmallest(number // 2).index)
        patients = cohort["patient_id"].iloc[chosen].tolist()
        shown = {"images": bank[chosen], "labels": label[chosen], "patients": patients}
        # Torch stays out of a notebook's kernel.
        proofs = apart(partial(_prove, backbone=backbone, shown=shown), pretrained)
    for name, columns in proofs.items():
        if columns["warning"]:
            print(f"WARNING: source {name}: {columns['warning']}.", file=sys.stderr)
    return pd.DataFrame(
        [{"source": s.name, "kind": s.kind, "identity": s.identity, **s.card, **proofs.get(s.name, {})} for s in found]
    )


def _prove(sources: Sequence[Source], backbone: str, shown: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    from sourcematters.training.proof import proof_of_life

    return {source.name: proof_of_life(source, backbone, **shown) for source in sources}


def collect(table: pd.DataFrame, workspace: Workspace) -> pd.DataFrame:
    """The tidy results of the runs in a plan: one row a run and test set, metrics recomputed from predictions.

    Columns: those of `plan_table`, then test_set, n, positives, patients, learned (0 if there is a doubt), doubt
    (`doubts.doubt`), auc, auc_keras.
    An i.i.d. or clean test with fewer than the plan's `smallest_test` images of a class is left out. Raises StudyError
    naming a run that is not done, or a file that is not what was written.
    """
    if missing := _not_done(table, workspace):
        raise StudyError(missing)
    frames = []
    for row in table.to_dict("records"):
        scored = predictions(folder := workspace.shared("runs") / row["run_id"])
        tests = metrics.counted(metrics.by_test_set(scored), row["smallest_test"])
        why = doubt(folder, scored, tests, row)
        frames.append(tests.assign(**row, learned=int(not why), doubt=why))
    columns = [*table.columns, "test_set", *metrics.SIZE, "learned", "doubt", *metrics.METRICS]
    return pd.concat(frames, ignore_index=True)[columns]


def _not_done(table: pd.DataFrame, workspace: Workspace) -> str:
    missing = [run_id for run_id in table["run_id"] if not (workspace.shared("runs") / run_id).exists()]
    if not missing:
        return ""
    return f"{len(missing)} of {len(table)} runs are not done, e.g. {missing[0]}. Run the grid first."


def collect_plans(workspace: Workspace) -> tuple[pd.DataFrame, list[str]]:
    """The results of every plan of this profile that is done, each run once, and a sentence for each that is not.

    Raises StudyError when no plan is done, for a plan or a run that is damaged, and when runs of two plans may not
    stand together (`mixtures.refuse`).
    """
    found, missing = {}, []
    for path in plans.paths(workspace.own("")):
        table = plans.read(path)
        if sentence := _not_done(table, workspace):
            missing.append(f"{path.stem}: {sentence}")
        else:
            found[path.stem] = collect(table, workspace)
    if not found:
        raise StudyError(
            f"{workspace.own('plans')}: no grid of runs is done there. Run the notebooks 20 to 25 first, "
            "or set `results` to the folder of a profile that was run."
        )
    mixtures.refuse(found, workspace)
    return pd.concat(found.values(), ignore_index=True).drop_duplicates(["run_id", "test_set"]), missing
