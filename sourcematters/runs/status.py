"""How far the grids of a results folder are."""

import datetime
from pathlib import Path

import pandas as pd

from sourcematters.errors import StudyError
from sourcematters.files import read_json
from sourcematters.runs import plans
from sourcematters.runs.run_folder import STATES, state
from sourcematters.runs.slurm import in_queue


def status(folder: str | Path) -> str:
    """What a person wants to know of a results folder: per plan how many runs are in which state, and time left.

    Files are looked at, and no checksums of runs compared: `check` does that.
    `folder` is a profile's folder (`results/demo`) or `results` itself. Raises StudyError if no plan is in it.
    """
    folder = Path(folder)
    kept = plans.paths(folder)
    if not kept:
        raise StudyError(f"{folder}: no plans/*.csv in it. Give a profile's folder, e.g. results/demo, after a start.")
    shared, notes, queued = kept[0].parents[2], [], set()
    try:
        queued = in_queue(shared / "slurm")
    except StudyError as error:
        notes.append(str(error))
    runs, frames = shared / "runs", []
    for path in kept:
        try:
            frames.append(plans.read(path)[["run_id"]].assign(plan=f"{path.parents[1].name}/{path.stem}"))
        except StudyError as error:
            notes.append(str(error))
    table = pd.concat([pd.DataFrame(columns=["run_id", "plan"]), *frames], ignore_index=True)
    table["state"] = [state(run_id, runs, queued) for run_id in table["run_id"]]
    counts = pd.crosstab(table["plan"], table["state"]).reindex(columns=STATES, fill_value=0)
    counts = counts.assign(of=counts.sum(axis=1)).rename_axis(index=None, columns="plan")
    failed = table.loc[table["state"] == "failed", "run_id"].unique()
    notes[:0] = [f"failed: {runs / f'{run_id}.failed' / 'traceback.txt'}" for run_id in failed]
    done, running = table.loc[table["state"] == "done", "run_id"], max(1, (table["state"] == "running").sum())
    spent = [took for run_id in done if (took := _seconds(runs / run_id / "env.json")) is not None]
    if spent and len(done) < len(table):
        seconds = sum(spent) / len(spent)
        left = datetime.timedelta(seconds=round((len(table) - len(done)) * seconds / running))
        notes.insert(0, f"time left: about {left} ({seconds:.0f} s a run so far, {running} at a time)")
    return "\n".join([counts.to_string(), *notes])


def _seconds(path: Path) -> float | None:
    """How long a run took, of its env.json; None where that is damaged: nothing else depends on it."""
    try:
        return float(read_json(path)["seconds"])
    except (OSError, StudyError, KeyError, TypeError, ValueError):
        return None
