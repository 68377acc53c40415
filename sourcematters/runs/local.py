"""Runs made by processes of this machine."""

import shutil
import subprocess
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from sourcematters.files import write_json, write_text
from sourcematters.processes import over_processes
from sourcematters.runs.run_folder import Execution, Workspace, execute
from sourcematters.runs.specs import RunSpec


def attempt(spec: RunSpec, workspace: Workspace, execution: Execution, show: bool = False) -> str:
    """Make one run; return "", or a sentence on why it failed after keeping the traceback in `<id>.failed/`."""
    failure = Path(f"{workspace.run(spec)}.failed")
    try:
        execute(spec, workspace, execution, show=show)
    except subprocess.CalledProcessError:
        # Not the run's failure: submitit cannot requeue a job that Slurm, without grace time, has requeued already.
        raise
    except Exception as error:
        write_json(failure / "spec.json", spec.to_dict())
        write_text(failure / "traceback.txt", traceback.format_exc())
        return f"{spec.id}: {error} ({failure / 'traceback.txt'})"
    shutil.rmtree(failure, ignore_errors=True)
    return ""


def make_here(
    specs: Sequence[RunSpec], workspace: Workspace, execution: Execution, *, workers: int
) -> Iterator[tuple[RunSpec, str]]:
    """Make the runs in `workers` processes, or in this one; yields each with "" or why it failed, as they end."""
    at_once = min(workers, len(specs))
    execution = replace(execution, memory_share=execution.memory_share / at_once)
    make = partial(attempt, workspace=workspace, execution=execution, show=at_once == 1)
    yield from over_processes(make, specs, workers)
