"""Runs of several plans side by side: with which settings they were made, and whether they may stand together.

A plan is a table of runs, plans/NAME.csv. All that a run was made with is in its spec.json, under the names that
settings have. One panel of a figure, a task and a confounder, must be of one make.
"""

import itertools
import textwrap
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pandas as pd

from sourcematters.checked import flat
from sourcematters.errors import StudyError
from sourcematters.files import read_json
from sourcematters.runs.run_folder import Workspace, open_registered

PANEL = ["task", "confounder"]
ALWAYS = ["data", "cohort", "images", "folds", "strengths", "backbone", "size", "epochs", "batch_size", "precision"]
_AXES = ("id", "fit", "p_art", "fold", "source", "confounder", "base")  # what runs of one panel differ in, as planned
_MEND = "Delete the plan that is not meant with its .sha256 (its runs stay), or keep it apart with --results FOLDER."

NAMED = 6  # so many kinds of runs that did not learn are named

Settings = dict[str, Any]


def settings_of_runs(results: pd.DataFrame, workspace: Workspace) -> pd.DataFrame:
    """With which settings the runs in `results` were made: one row a task and confounder.

    Columns: `PANEL`, `ALWAYS` (`cohort` is the digest under which it is kept, `images` how many it has, `strengths`
    lists p_art), then every other setting in which the rows differ. Raises StudyError if a cohort is not there.
    """
    rows = []
    for panel, runs in results.groupby(PANEL, sort=False):
        made = _made_with(read_json(workspace.shared("runs") / runs["run_id"].iloc[0] / "spec.json"))
        rows.append(made | dict(zip(PANEL, panel, strict=True)) | {
            "images": len(open_registered(made["cohort"], workspace)),
            "folds": runs["fold"].nunique(),
            "strengths": ", ".join(f"{p:g}" for p in sorted(runs["p_art"].unique())),
        })  # fmt: skip
    table = pd.DataFrame(rows)
    return table[
        [*PANEL, *ALWAYS, *(name for name in table if name not in (*PANEL, *ALWAYS) and _differs(table[name]))]
    ]


def told(settings: pd.DataFrame, width: int = 80) -> str:
    """In what the panels of one figure differ, as in "size 512 (tag), 256 (gender)"; "" for nothing.

    `settings` are those of the panels, from `settings_of_runs`. Not told: what a figure shows itself (folds and
    strengths), and that another task has another cohort.
    """
    parts = []
    for name in (name for name in settings if name not in (*PANEL, "images", "folds", "strengths")):
        by_task = settings.groupby("task")[name].agg(lambda column: len({str(value) for value in column}))
        own = by_task.max() == 1
        if not _differs(settings[name]) or (own and name in ("data", "cohort")):
            continue
        held: dict[str, list[str]] = {}
        for value, label in zip(settings[name].map(str), settings["task" if own else "confounder"], strict=True):
            held.setdefault(value, []).append(label)
        parts.append(f"{name} " + ", ".join(f"{value} ({', '.join(dict.fromkeys(of))})" for value, of in held.items()))
    return textwrap.fill("; ".join(parts), width)


def refuse(plans: Mapping[str, pd.DataFrame], workspace: Workspace) -> None:
    """Raise StudyError if runs of these plans, by name, may not stand in one table; it names both and what differs.

    Of one task and confounder, all runs have the same settings, and every source every strength and fold. A source is
    the same weights wherever it stands beside the same backbone.
    """
    runs = pd.concat([table.drop_duplicates("run_id").assign(plan=name) for name, table in plans.items()])
    specs = {run: read_json(workspace.shared("runs") / run / "spec.json") for run in runs["run_id"].unique()}
    for (task, confounder), panel in runs.groupby(PANEL, sort=False):
        where = f"{confounder} of task {task}"
        _one_make(panel, lambda run: _made_with(specs[run]) | flat({"confounder": specs[run]["confounder"]}), where)
        _one_grid(panel, where)
    for (source, backbone), of_source in runs.groupby(["source", "backbone"], sort=False):
        _one_make(of_source, lambda run: flat({"source": specs[run]["source"]}), f"source {source} of {backbone}")


def unlearned(results: pd.DataFrame) -> list[str]:
    """A sentence that names the runs that did not learn (`doubts.doubt`), with folds and why; none if all did."""
    runs = results.drop_duplicates("run_id")
    failed = runs[runs["learned"] == 0]
    groups = failed.groupby([*PANEL, "source", "p_art"], sort=False)
    names = [
        f"{task}, {confounder}, {source} at p_art {p:g}, fold {', '.join(map(str, part['fold']))} "
        f"({'; '.join(part['doubt'].unique())})"
        for (task, confounder, source, p), part in groups
    ]
    more = f"; and {len(names) - NAMED} more (`doubt` in tables/all_runs.csv)" if len(names) > NAMED else ""
    sentence = f"{len(failed)} of {len(runs)} runs did not learn: {'; '.join(names[:NAMED])}{more}."
    return [sentence] if names else []


def _one_make(runs: pd.DataFrame, made_with: Callable[[str], Settings], what: str) -> None:
    first, *others = runs.drop_duplicates(["plan", "run_id"]).itertuples()
    known = made_with(first.run_id)
    for run in others:
        found = made_with(run.run_id)
        if differ := [key for key in known | found if known.get(key) != found.get(key)]:
            values = [f"{key.rpartition('.')[2]} ({known.get(key)}, {found.get(key)})" for key in differ]
            more = f" and {len(values) - 5} more" if len(values) > 5 else ""
            raise StudyError(
                f"{what}: {_files(first.plan, run.plan)} differ in {', '.join(values[:5])}{more}; they may not "
                f"stand in one table. {_MEND}"
            )


def _one_grid(runs: pd.DataFrame, what: str) -> None:
    axes = ["source", "p_art", "fold"]
    there = set(runs[axes].itertuples(index=False, name=None))
    if len(there) == len(set(itertools.product(*(runs[axis].unique() for axis in axes)))):
        return
    by_plan = runs.groupby("plan", sort=False)
    held = {"strengths": by_plan["p_art"], "folds": by_plan["fold"]}
    texts = {name: of.agg(lambda values: " ".join(f"{x:g}" for x in sorted(set(values)))) for name, of in held.items()}
    differ = [f"{name} ({', '.join(of)})" for name, of in texts.items() if _differs(of)]
    raise StudyError(
        f"{what}: {_files(*by_plan.groups)} differ in {', '.join(differ) or 'runs that they lack'}; not every source "
        f"has every strength and fold. {_MEND}"
    )


def _files(*plans: str) -> str:
    return " and ".join(f"plans/{plan}.csv" for plan in dict.fromkeys(plans))


def _made_with(spec: Settings) -> Settings:
    return flat({key: value for key, value in spec.items() if key not in (*_AXES, "training")} | spec["training"])


def _differs(values: Iterable[Any]) -> bool:
    return len({str(value) for value in values}) > 1
