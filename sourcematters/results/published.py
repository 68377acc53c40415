"""The paper's numbers as data, and our results laid on them; provenance and reading error in published.md.

The published AUC is Keras's micro-average, so it is compared with `auc_keras` of our runs; the binary `auc` stands
beside it. A comparison says something only where data, task, sources, network and settings are the paper's: the
column `reason` names what is not.
"""

from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

import pandas as pd

from sourcematters import metrics
from sourcematters.errors import StudyError
from sourcematters.files import read_json
from sourcematters.sources import known

SAME = ["panel", "test_set", "source", "p_art"]
COMPARISON = [
    *SAME, "published_source", "data", "task", "confounder", "backbone", "folds", "metric", "ours", "ci_low", "ci_high",
    "published", "read_error", "difference", "within_ci", "auc", "comparable", "reason",
]  # fmt: skip


SETTINGS = "other settings"
REASONS = ["data", "task", "source", "backbone", "other"]


def _table(name: str) -> pd.DataFrame:
    with (package_files(__package__) / f"published_{name}.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file)


def panels() -> pd.DataFrame:
    """The panels of Figs. 3 and 4: title, confounder, data, task, and the paper's settings; indexed by panel.

    Settings called `base.` or `carrier.` are parameters of the confounder. A panel lacks those that it does not have.
    """
    return _table("panels").set_index("panel")


def targets() -> pd.DataFrame:
    """Table 1: data, task, confounders, train_val and test (images), size (px), batch_size, recalled."""
    return _table("table1")


def means() -> pd.DataFrame:
    """Mean AUC over folds, read off Figs. 3 and 4: panel, test_set, source, p_art, mean_auc, read_error."""
    return _table("means")


def folds() -> pd.DataFrame:
    """O.o.d. AUC of each ImageNet fold, as the authors print it: panel, test_set, source, p_art, row, auc."""
    return _table("folds")


def tests() -> pd.DataFrame:
    """The paper's tests: panel, p_art, n_imagenet_folds, t_imagenet_minus_radimagenet, p_permutation."""
    return _table("tests")


def compare(results: pd.DataFrame, runs: str | Path) -> pd.DataFrame:
    """Our curves on the published ones: `COMPARISON`, one row a panel, test set, source and strength.

    `results` is the results table, `runs` the folder of its run folders, whose spec.json tells the settings. Ours
    is the mean of `auc_keras` over folds with its 95 % interval, difference is ours minus published, and
    `within_ci` says if the published value, give or take its reading error, lies in that interval (missing for one
    fold). `comparable` is False where `reason` names something that is not the paper's; a number stands there all
    the same, and means nothing. Confounders, sources and strengths that the paper lacks are left out. Raises
    StudyError if nothing is left.
    """
    metrics.check(results, ["run_id", "data", "fold", *metrics.GROUP, *metrics.METRICS], "results")
    laid = [name for name, source in known().items() if source.curve]
    ours = results[results["source"].isin(laid)]
    on_ct = ours["task"].astype(str).str.endswith("-ct")
    frames = []
    for _, panel in panels().iterrows():
        # X-rays and CT share the names of their confounders; whatever is not CT is laid on the X-ray panels.
        shown = ours[(ours["confounder"] == panel["confounder"]) & (on_ct == (panel["data"] == "lidc"))]
        frames += [_of_panel(part, panel, Path(runs)) for _, part in shown.groupby("data", sort=False)]
    if not any(map(len, frames)):
        there = ", ".join(f"{panel['confounder']} at {name}" for name, panel in panels().iterrows())
        raise StudyError(
            f"results: no confounder, source and strength of it was published. The paper has {there}, sources "
            f"{', '.join(laid)}, strengths 0, .1, .2, .5, .8 and 1."
        )
    return pd.concat([frame for frame in frames if len(frame)], ignore_index=True)[COMPARISON]


def _of_panel(results: pd.DataFrame, panel: pd.Series, runs: Path) -> pd.DataFrame:
    summary = metrics.summarise(results, metric="auc_keras").rename(columns={"mean": "ours"})
    binary = metrics.summarise(results)[[*metrics.GROUP, "mean"]].rename(columns={"mean": "auc"})
    table = summary.merge(binary, on=metrics.GROUP).assign(
        panel=panel.name,
        data=results["data"].iloc[0],
        metric="auc_keras",
        published_source=lambda table: [known()[source].curve for source in table["source"]],
        p_art=lambda table: table["p_art"].round(6),
    )
    theirs = means().rename(columns={"source": "published_source", "mean_auc": "published"})
    table = table.merge(theirs, on=["panel", "test_set", "published_source", "p_art"])
    table["difference"] = table["ours"] - table["published"]
    inside = table["published"].between(table["ci_low"] - table["read_error"], table["ci_high"] + table["read_error"])
    table["within_ci"] = inside.astype("boolean").where(table["ci_low"].notna(), pd.NA)
    reasons = {key: _reason(part, panel, runs) for key, part in results.groupby(["source", "task", "backbone"])}
    table["reason"] = [reasons[row.source, row.task, row.backbone] for row in table.itertuples()]
    return table.assign(comparable=table["reason"] == "")


def spec_of(run_id: str, runs: Path) -> dict[str, Any]:
    """The spec.json of a run in the folder `runs`. Raises StudyError if it is not there."""
    path = runs / run_id / "spec.json"
    if not path.exists():
        raise StudyError(f"{path}: no such file. Run the grid again, or give the folder of the runs.")
    return read_json(path)


def _reason(results: pd.DataFrame, panel: pd.Series, runs: Path) -> str:
    """What of these runs (one source, task and backbone) is not the paper's; empty if nothing is."""
    first = results.iloc[0]
    reasons = []
    if not first["data"].startswith(panel["data"]):
        reasons.append(f"data {first['data']}, not {panel['data']}")
    if first["task"] != panel["task"]:
        reasons.append(f"task {first['task']}, not {panel['task']}")
    source = known()[first["source"]]
    if source.curve not in source.title:  # it is laid on the curve of the source that it stands for
        reasons.append(f"source {source.name}, not {source.curve}")
    if first["backbone"] != "resnet50":
        reasons.append(f"backbone {first['backbone']}, not resnet50")
    spec = spec_of(results["run_id"].iloc[results["p_art"].argmax()], runs)
    others = []
    for setting, wanted in panel.drop(["title", "confounder", "data", "task"]).dropna().items():
        side, _, name = setting.rpartition(".")
        value = (spec["confounder"][side]["parameters"] if side else spec["training"])[name]
        if value != wanted:
            others.append(f"{name} {value:g} ({wanted:g})")
    if others:
        reasons.append(f"{SETTINGS}, the paper's in brackets: {', '.join(others)}")
    return "; ".join(reasons)


def verdict(comparison: pd.DataFrame) -> str:
    """A sentence for the reader of a table of `compare`: what the comparison is worth, and why."""
    apart = comparison[~comparison["comparable"]]
    if apart.empty:
        within = comparison["within_ci"].dropna()
        if within.empty:
            return f"{len(comparison)} points, one fold: no confidence interval to compare with."
        return f"{int(within.sum())} of {len(within)} published points lie within our 95 % confidence interval."
    # Which settings differ is told in the column `reason`; here it is enough that some do.
    parts = {SETTINGS if part.startswith(SETTINGS) else part for part in "; ".join(apart["reason"]).split("; ")}
    why = "; ".join(sorted(parts, key=lambda part: (REASONS.index(part.split()[0]), part)))
    if len(apart) == len(comparison):
        return f"This comparison means nothing: {why}."
    return f"{len(apart)} of {len(comparison)} points mean nothing: {why}."


def consistency() -> pd.DataFrame:
    """What the paper's own numbers say of each other: one row a point whose ImageNet folds the authors print.

    Columns: panel, test_set, source, p_art, folds, mean_of_folds, mean_auc (read off the figure), read_error,
    difference, published_p.
    """
    keys = ["panel", "test_set", "source", "p_art"]
    table = folds().groupby(keys)["auc"].agg(folds="size", mean_of_folds="mean").reset_index().merge(means(), on=keys)
    table["difference"] = table["mean_of_folds"] - table["mean_auc"]
    printed = tests().rename(columns={"p_permutation": "published_p"})[["panel", "p_art", "published_p"]]
    return table.merge(printed, on=["panel", "p_art"], how="left")
