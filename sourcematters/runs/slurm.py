"""Runs made by jobs of a cluster under Slurm.

submitit (https://github.com/facebookincubator/submitit) writes the job array, and requeues a job that is preempted or
out of time, which goes on from its runs' checkpoints. Which job has which run is kept in `slurm/<job name>/runs.csv`,
before the jobs are submitted, and compared with squeue by their name: whenever a call is interrupted, a later one
submits no run twice, and no accounting (sacct) is needed.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ConfigDict, Field, model_validator

from sourcematters import checksums
from sourcematters.checked import Checked
from sourcematters.errors import StudyError, printable
from sourcematters.runs.run_folder import Execution, Workspace, attempt, is_complete, lacks_weights
from sourcematters.runs.specs import RunSpec

SILENT_POLLS = 20  # so many times in a row squeue may not answer while we wait: controllers restart


class Slurm(Checked):
    """How jobs are submitted, and whatever else sbatch takes, by submitit's names: partition, mem, account ...

    What submitit has no name for goes into its `additional_parameters`, by sbatch's name.
    """

    model_config = ConfigDict(extra="allow")

    # Slurm warns a job 90 s before its time is up, or up to 60 s earlier still (slurm.schedmd.com/sbatch.html,
    # --signal): a shorter job would be told to end before it has begun.
    time: int = Field(60, ge=5, description="minutes that a job may take")
    runs_per_job: int = Field(1, ge=1, description="runs of one job, one after the other")
    max_num_timeout: int = Field(10, ge=0, description="so often a job that is out of time is requeued")
    poll_seconds: float = Field(15, ge=0, description="s between two looks at the queue")

    @model_validator(mode="before")
    @classmethod
    def _spelt_as_by_submitit(cls, options: dict[str, Any]) -> dict[str, Any]:
        options = {name.replace("-", "_"): value for name, value in options.items()}
        if "job_name" in options:
            raise ValueError("job_name cannot be chosen. Jobs are named after their grid.")
        return options


def make_in_jobs(
    specs: Sequence[RunSpec], workspace: Workspace, execution: Execution, *, name: str, options: Slurm
) -> Iterator[tuple[RunSpec, str]]:
    """Submit the runs that no job has yet, and wait for all of `specs`; yields each with "" or why it failed.

    An interruption leaves the jobs alone. A job that was cancelled, killed or out of time once too often is not
    submitted again by this call, but by the next. Raises StudyError when sbatch refuses, or squeue does not answer.
    """
    folder = workspace.shared("slurm")
    queued = in_queue(folder)
    for job, record in _records(folder).items():  # logs of runs that are all done, by jobs that have ended
        if all(is_complete(workspace.shared("runs") / run_id) and run_id not in queued for _, run_id in record):
            shutil.rmtree(folder / job, ignore_errors=True)
    if new := [spec for spec in specs if spec.id not in queued or _failure(spec, workspace)]:
        _submit(new, workspace, execution, name, options)
    waiting, gone, silent = list(specs), set[str](), 0
    while True:
        try:
            # Asked before the files are read: a run ends before its job does.
            queued, silent = in_queue(folder), 0
        except StudyError:
            silent += 1
            if silent > SILENT_POLLS:
                raise
        lost = gone - queued
        outcomes = {spec: _outcome(spec, workspace, execution.keep, spec.id in lost) for spec in waiting}
        yield from ((spec, outcome) for spec, outcome in outcomes.items() if outcome is not None)
        waiting = [spec for spec in waiting if outcomes[spec] is None]
        if not waiting:
            return
        # Files of another machine may come into sight a little late: a job must be gone twice.
        gone = {spec.id for spec in waiting if spec.id not in queued}
        time.sleep(options.poll_seconds)


def _outcome(spec: RunSpec, workspace: Workspace, keep: str, lost: bool) -> str | None:
    """Nothing ("") if the run is done, why it failed, or None while its job has it; `lost` if no job has it."""
    if is_complete(folder := workspace.run(spec)) and not lacks_weights(spec, folder, keep):
        return ""
    failure = _failure(spec, workspace)
    if lost and not failure:
        end = last_words(spec.id, workspace.shared("slurm"))
        failure = f"{spec.id}: its job is gone; start again to resubmit it. {end}"
    return failure or None


def _failure(spec: RunSpec, workspace: Workspace) -> str:
    path = Path(f"{workspace.run(spec)}.failed/traceback.txt")
    if not path.exists():
        return ""
    told = path.read_text(encoding="utf-8").strip()
    # Our own sentences may have several lines; of a library's error the last one has its name.
    _, ours, sentence = told.rpartition(f"\n{StudyError.__module__}.StudyError: ")
    last = sentence if ours else told.splitlines()[-1]
    return f"{spec.id}: {last} ({path})"


def in_queue(folder: Path) -> set[str]:
    """The ids of the runs whose jobs are queued or running, of all submissions kept in `folder` (`results/slurm`).

    Raises StudyError when there are submissions and squeue does not answer.
    """
    records = _records(folder)
    if not records:
        return set()
    command = ["squeue", "--noheader", "--array", "--format=%j|%K", f"--name={','.join(records)}"]
    try:
        answer = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        why = (getattr(error, "stderr", None) or str(error)).strip()
        raise StudyError(
            f"squeue does not answer ({why}), so it is not known which jobs are queued. They go on; try again later, "
            f"on a machine of the cluster. If their cluster is no more, delete {folder}."
        ) from error
    jobs = {line.replace("|N/A", "|0") for line in answer.splitlines()}  # a single job is no array and has no task
    return {run_id for job, record in records.items() for task, run_id in record if f"{job}|{task}" in jobs}


def _records(folder: Path) -> dict[str, list[tuple[int, str]]]:
    """Of each submission: which task of its job array has which run. Raises StudyError for a damaged record."""
    paths = sorted(folder.glob("*/runs.csv"))
    for path in paths:
        mend = "Which runs its jobs make is not known: end them (`scancel --name {0.name}`) and delete {0}."
        checksums.demand(path, mend.format(path.parent))
    return {path.parent.name: list(pd.read_csv(path).itertuples(index=False, name=None)) for path in paths}


def last_words(run_id: str, folder: Path) -> str:
    """The last line of the newest log of the run's jobs: there Slurm says what ended them."""
    logs: list[Path] = []
    for job, record in _records(folder).items():
        is_array = len({task for task, _ in record}) > 1
        tasks = [f"{task}_" if is_array else "" for task, other in record if other == run_id]
        logs += [log for task in tasks for log in (folder / job).glob(f"*_{task}0_log.err")]
    if not logs:
        return "It never began (cancelled while it was queued?)"
    log = max(logs, key=lambda path: path.stat().st_mtime)
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f"Its last words: {lines[-1] if lines else 'none'} ({log})"


class Bundle:
    """The runs of one job, one after the other; submitit asks for its `checkpoint` when the job has to end."""

    def __init__(self, specs: Sequence[RunSpec], workspace: Workspace, execution: Execution):
        self.specs, self.workspace, self.execution, self.ending = specs, workspace, execution, False

    def __call__(self) -> None:
        """Make the runs that are not done; a failed one does not stop the others."""
        printable()
        os.environ["SOURCEMATTERS_HEADLESS"] = "1"
        self.ending = False
        for spec in self.specs:
            if not self.ending:
                print(attempt(spec, self.workspace, self.execution) or f"{spec.id}: done", flush=True)

    def checkpoint(self) -> Any:
        """What the requeued job has to do: the same, from the checkpoints that its runs keep themselves."""
        from submitit.helpers import DelayedSubmission

        self.ending = True
        return DelayedSubmission(self)


def bundles(specs: Sequence[RunSpec], runs_per_job: int) -> list[list[RunSpec]]:
    """Deal runs out to jobs, in order; those that score one network stay together, or two jobs would wait for it."""
    together: dict[str, list[RunSpec]] = {}
    for spec in specs:
        together.setdefault(spec.fit.id, []).append(spec)
    jobs: list[list[RunSpec]] = []
    for group in together.values():
        if jobs and len(jobs[-1]) + len(group) <= runs_per_job:
            jobs[-1] += group
        else:
            jobs.append(group)
    return jobs


def refuse(options: Slurm, folder: Path) -> None:
    """Raise StudyError unless jobs with these options can be submitted from here; nothing is submitted or written."""
    if found := re.search(r"%\w|\\", str(folder)):  # slurm.schedmd.com/sbatch.html, "filename pattern"
        raise StudyError(f"executor slurm: {folder} holds {found[0]}, which Slurm reads as its own. Rename the folder.")
    if not shutil.which("sbatch"):
        raise StudyError("executor slurm: there is no sbatch here. Start on a machine of the cluster, or choose local.")
    try:
        _executor(folder, options, "check")
    except (ValueError, TypeError, RuntimeError) as error:
        raise StudyError(f"executor slurm: sbatch's options do not fit. {error}") from error


def _executor(folder: Path, options: Slurm, job_name: str) -> Any:
    import submitit

    sbatch = dict(options.model_extra or {})
    sbatch["additional_parameters"] = {"requeue": True, **sbatch.get("additional_parameters", {})}
    executor = submitit.SlurmExecutor(folder, max_num_timeout=options.max_num_timeout)
    executor.update_parameters(job_name=job_name, time=options.time, **sbatch)
    return executor


def _submit(specs: Sequence[RunSpec], workspace: Workspace, execution: Execution, name: str, options: Slurm) -> None:
    import submitit

    jobs = bundles(specs, options.runs_per_job)
    job_name = f"{name}-{uuid.uuid4().hex[:8]}"
    folder = workspace.shared("slurm") / job_name
    record = [(task, spec.id) for task, job in enumerate(jobs) for spec in job]
    checksums.write_csv(folder / "runs.csv", pd.DataFrame(record, columns=["task", "run_id"]))
    for spec in specs:
        shutil.rmtree(f"{workspace.run(spec)}.failed", ignore_errors=True)
    # A notebook may itself run in a job, whose variables the new jobs must not inherit.
    inherited = submitit.helpers.clean_env() if "SLURM_JOB_ID" in os.environ else contextlib.nullcontext()
    conf = {name: value for name, value in os.environ.items() if name == "SLURM_CONF"}
    try:
        with inherited:
            os.environ.update(conf)
            _executor(folder, options, job_name).submit_array([Bundle(job, workspace, execution) for job in jobs])
    except (ValueError, TypeError, RuntimeError) as error:
        raise StudyError(f"executor slurm: the jobs were not submitted. {error}") from error
    print(f"{len(jobs)} jobs submitted as {job_name}; their logs: {folder}", file=sys.stderr)
