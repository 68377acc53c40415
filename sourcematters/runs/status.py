"""How far the grids of a results folder are."""

import datetime
import json
from pathlib import Path

import pandas as pd

from sourcematters.errors import StudyError
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
