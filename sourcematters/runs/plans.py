"""Plans: which runs a grid has, kept in plans/NAME.csv of a profile for whoever asks for them, and how far
they are.
"""

import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from sourcematters import checksums, metrics
from sourcematters.errors import StudyError
from sourcematters.files import read_json
from sourcematters.runs import guards
from sourcematters.runs.doubts import doubt
from sourcematters.runs.run_folder import STATES, Workspace, state
from sourcematters.runs.slurm import in_queue

NAMES = ("run_id", "data", "task", "confounder", "source", "backbone", "caution")
MEND = (
    "Run the notebook that makes these runs again (20 to 25): it writes the plan anew and trains nothing twice. "
    "A plan that is not wanted is deleted with its .sha256."
)


def write(workspace: Workspace, name: str, table: pd.DataFrame) -> None:
    """Keep a plan, one row a run (`grids.plan_table`), as plans/`name`.csv; one that is damaged there is said."""
    path = workspace.own(f"plans/{name}.csv")
    checksums.usable(path, "it is written anew")
    checksums.write_csv(path, table)


def read(path: Path) -> pd.DataFrame:
    """The plan at `path`. Raises StudyError unless it is what was written."""
    checksums.demand(path, MEND)
    # Names are text, whatever they look like: a task may be called nan, or 1.
    text, blank = dict.fromkeys(NAMES, str), {column: [""] for column in guards.COLUMNS}
    return pd.read_csv(path, keep_default_na=False, na_values=blank, dtype=text)


def paths(folder: Path) -> list[Path]:
    """The plans of a profile's folder, or of all profiles' where `folder` holds several (`results`).

    One that is gone, but has its seal, is among them: it does not just drop out of the tables.
    """
    for place in ("plans", "[!.]*/plans"):
        there = set(folder.glob(f"{place}/[!.]*.csv"))
        listed = {seal.parent / name for seal in folder.glob(f"{place}/*.sha256") for name in checksums.read(seal)}
        if there | listed:
            return sorted(there | listed)
    return []


def status(folder: str | Path) -> str:
    """What a person wants to know of a results folder: per plan how many runs are in which state, and time left.

    Files are looked at, and no checksums of runs compared: `check` does that.
    `folder` is a profile's folder (`results/demo`) or `results` itself. Raises StudyError if no plan is in it.
    """
    folder = Path(folder)
    kept = paths(folder)
    if not kept:
        raise StudyError(f"{folder}: no plans/*.csv in it. Give a profile's folder, e.g. results/demo, after a start.")
    shared, notes, queued = kept[0].parents[2], [], set()
    try:
        queued = in_queue(shared / "slurm")
    except StudyError as error:
        notes.append(str(error))
    runs, frames, columns = shared / "runs", [], ["run_id", "p_art", "smallest_test", "train_n", "train_positives"]
    for path in kept:
        try:
            frames.append(read(path).reindex(columns=columns).assign(plan=f"{path.parents[1].name}/{path.stem}"))
        except StudyError as error:
            notes.append(str(error))
    table = pd.concat([pd.DataFrame(columns=[*columns, "plan"]), *frames], ignore_index=True)
    table["state"] = [state(run_id, runs, queued) for run_id in table["run_id"]]
    counts = pd.crosstab(table["plan"], table["state"]).reindex(columns=STATES, fill_value=0)
    counts = counts.assign(of=counts.sum(axis=1)).rename_axis(index=None, columns="plan")
    broken = [run_id for run_id in table.loc[table["state"] != "done", "run_id"].unique() if (runs / run_id).exists()]
    notes += [f"{runs / run_id}: is not whole, and will be made again" for run_id in broken]
    failed = table.loc[table["state"] == "failed", "run_id"].unique()
    notes[:0] = [f"failed: {runs / f'{run_id}.failed' / 'traceback.txt'}" for run_id in failed]
    done, running = table.loc[table["state"] == "done", "run_id"], max(1, (table["state"] == "running").sum())
    spent = [took for run_id in done if (took := _seconds(runs / run_id / "env.json")) is not None]
    if spent and len(done) < len(table):
        seconds = sum(spent) / len(spent)
        left = datetime.timedelta(seconds=round((len(table) - len(done)) * seconds / running))
        notes.insert(0, f"time left: about {left} ({seconds:.0f} s a run so far, {running} at a time)")
    finished = table[table["state"] == "done"].drop_duplicates("run_id")
    if weak := [(run["run_id"], why) for run in finished.to_dict("records") if (why := _doubt(run, runs))]:
        run_id, why = weak[0]
        notes.append(f"did not learn: {len(weak)} of {len(finished)} runs done, e.g. {runs / run_id} ({why})")
    return "\n".join([*([counts.to_string()] if frames else []), *notes])


def _doubt(run: dict[str, Any], runs: Path) -> str:
    """Of its files, why a run did not learn; "" where they are damaged: another call says so."""
    folder = runs / run["run_id"]
    try:
        scored = pd.read_csv(folder / "predictions.csv", keep_default_na=False)
        tests = pd.DataFrame(read_json(folder / "metrics.json"))
        return doubt(folder, scored, metrics.counted(tests, run["smallest_test"]), run)
    except (OSError, StudyError, KeyError, TypeError, ValueError):
        return ""


def _seconds(path: Path) -> float | None:
    """How long a run took, of its env.json; None where that is damaged: nothing else depends on it."""
    try:
        return float(read_json(path)["seconds"])
    except (OSError, StudyError, KeyError, TypeError, ValueError):
        return None
