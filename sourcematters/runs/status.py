"""How far the grids of a results folder are."""

import datetime
from collections import Counter
from pathlib import Path

import pandas as pd

from sourcematters.errors import StudyError
from sourcematters.files import read_json
from sourcematters.runs.run_folder import state
from sourcematters.runs.slurm import in_queue


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
        queued = in_queue(shared / "slurm")
    except StudyError as error:
        notes.append(str(error))
    runs = shared / "runs"
    table = pd.concat([pd.read_csv(plan, usecols=["run_id"]).assign(plan=plan) for plan in plans], ignore_index=True)
    table["state"] = [state(run_id, runs, queued) for run_id in table["run_id"]]
    failed = table.loc[table["state"] == "failed", "run_id"].unique()
    tracebacks = [f"failed: {runs / f'{run_id}.failed' / 'traceback.txt'}" for run_id in failed]
    return "\n".join([*_counts(table), *_time_left(table, runs), *tracebacks, *notes])


def _counts(table: pd.DataFrame) -> list[str]:
    # Queued and lost are shown where there are any: without a cluster, or a kill, there are none.
    found, always = set(table["state"]), {"done", "running", "failed", "missing"}
    states = [s for s in ("done", "running", "queued", "failed", "lost", "missing") if s in always | found]
    widths = {name: max(8, len(name) + 2) for name in states}
    lines = [f"{'plan':<32}" + "".join(f"{name:>{widths[name]}}" for name in states) + f"{'of':>6}"]
    for plan, runs in table.groupby("plan"):
        count = Counter(runs["state"])
        numbers = "".join(f"{count[name]:>{widths[name]}}" for name in states)
        lines.append(f"{f'{plan.parents[1].name}/{plan.stem}':<32}{numbers}{len(runs):>6}")
    return lines


def _time_left(table: pd.DataFrame, runs: Path) -> list[str]:
    done, running = table.loc[table["state"] == "done", "run_id"], max(1, (table["state"] == "running").sum())
    todo = len(table) - len(done)
    if not todo or done.empty:
        return []
    seconds = sum(read_json(runs / run_id / "env.json")["seconds"] for run_id in done) / len(done)
    left = datetime.timedelta(seconds=round(todo * seconds / running))
    return [f"time left: about {left} ({seconds:.0f} s a run so far, {running} at a time)"]
