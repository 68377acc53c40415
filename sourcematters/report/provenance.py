"""By what the results were made: versions, commit and device, as the runs themselves tell."""

import contextlib
from pathlib import Path
from typing import Any

from sourcematters import __version__
from sourcematters.errors import StudyError
from sourcematters.files import read_json
from sourcematters.report.executed import Executed
from sourcematters.report.tables import every
from sourcematters.report.words import lasting, listed

VERSIONS = ("sourcematters", "python", "torch", "timm", "numpy", "pandas")


def provenance(folder: Path, notebooks: list[Executed]) -> list[tuple[str, str]]:
    """What is known of the making, a pair of words and values each, all found distinct values of each.

    Runs lie beside the results folder; where they do not, as in one that was sent, what they tell is left out.
    """
    told = [("page made by", f"sourcematters {__version__}")]
    if notebooks:
        ended = [each.ended for each in notebooks if each.ended]
        took = lasting(sum(each.seconds for each in notebooks))
        told.append(("notebooks", f"{len(notebooks)}, the last ended {max(ended, default='unknown')}, {took} in all"))
    if not (runs := _runs(folder)):
        return told
    seconds = sum(float(run.get("seconds") or 0) for run in runs)
    times = sorted(str(run["finished"])[:10] for run in runs if run.get("finished"))
    when = f", finished {times[0]}" + (f" to {times[-1]}" if times[0] != times[-1] else "") if times else ""
    told.append(("runs", f"{len(runs)}, {lasting(seconds)} of work{when}"))
    commits = {f"{run['commit']}{' and changes' * bool(run.get('changed'))}" for run in runs if run.get("commit")}
    told.append(("made at commit", listed(sorted(commits), 3) or "unknown"))
    told += [("on", _distinct(runs, "device"))]
    return told + [(name, found) for name in VERSIONS if (found := _distinct(runs, name))]


def _distinct(runs: list[dict[str, Any]], name: str) -> str:
    return listed(sorted({str(run[name]) for run in runs if run.get(name)}), 3)


def _runs(folder: Path) -> list[dict[str, Any]]:
    found = []
    for run_id in sorted({row["run_id"] for _, plan in every(folder, "plans/*.csv", "run_id") for row in plan}):
        with contextlib.suppress(OSError, StudyError, ValueError, TypeError):  # env.json is no part of the numbers
            about = read_json(folder.parent / "runs" / run_id / "env.json")
            found += [about] if isinstance(about, dict) and float(about.get("seconds") or 0) >= 0 else []
    return found
