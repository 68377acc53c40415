"""The paper's numbers as data (published.md says where they are from), and our results laid on them.

The published AUC is Keras's micro-average: `auc_keras` of our runs is compared with it, `auc` stands beside.
"""

from importlib.resources import files as package_files
from pathlib import Path

import pandas as pd

from sourcematters import metrics
from sourcematters.errors import StudyError
from sourcematters.files import read_json
from sourcematters.results import statistics
from sourcematters.sources import known

SAME = ["panel", "test_set", "source", "p_art"]
COMPARISON = [
    *SAME, "published_source", "data", "task", "confounder", "backbone", "folds", "metric", "ours", "ci_low", "ci_high",
    "published", "read_error", "difference", "within_ci", "auc", "comparable", "reason",
]  # fmt: skip
SETTINGS = "other settings"
REASONS = ["data", "task", "source", "backbone", "other"]


def table(name: str) -> pd.DataFrame:
    """One of the paper's tables, published_NAME.csv: means, folds, tests, panels or table1; columns in published.md."""
    with (package_files(__package__) / f"published_{name}.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file)


def compare(results: pd.DataFrame, runs: Path) -> pd.DataFrame:
    """Our curves on the published ones: `COMPARISON`, one row a panel, test set, source and strength.

    `results` is the results table, `runs` the folder of its run folders, whose spec.json tells the settings. Ours
    is the mean of `auc_keras` over folds with its 95 % interval over folds and test patients, difference is ours minus
    published, and `within_ci` says if the published value, give or take its reading error, lies in that interval
    (missing for one fold, whose interval has the test patients only). `comparable` is False where `reason` names data,
    task, source, backbone or settings that are not the paper's; a number stands there all the same, and means nothing.
    Confounders, sources and strengths that the paper lacks are left out. Raises StudyError if nothing is left.
    """
    laid = [name for name, source in known().items() if source.curve]
    ours = results[results["source"].isin(laid)]
    on_ct = ours["task"].astype(str).str.endswith("-ct")
    panels, frames = table("panels").set_index("panel"), []
    for _, panel in panels.iterrows():
        # X-rays and CT share the names of their confounders; whatever is not CT is laid on the X-ray panels.
        shown = ours[(ours["confounder"] == panel["confounder"]) & (on_ct == (panel["data"] == "lidc"))]
        frames += [_of_panel(part, panel, runs) for _, part in shown.groupby("data", sort=False)]
    if not any(map(len, frames)):
        there = ", ".join(f"{panel['confounder']} at {name}" for name, panel in panels.iterrows())
        raise StudyError(
            f"results: no confounder, source and strength of it was published. The paper has {there}, sources "
            f"{', '.join(laid)}, strengths 0, .1, .2, .5, .8 and 1."
        )
    return pd.concat([frame for frame in frames if len(frame)], ignore_index=True)[COMPARISON]


def _of_panel(results: pd.DataFrame, panel: pd.Series, runs: Path) -> pd.DataFrame:
    first, of_run = results.iloc[0], ["source", "task", "backbone"]
    reasons = {key: _reason(part, panel, runs) for key, part in results.groupby(of_run)}
    binary = results.groupby(metrics.GROUP)["auc"].mean().reset_index()
    both = statistics.summarise(results, runs, metric="auc_keras").rename(columns={"mean": "ours"}).merge(binary)
    both = both.assign(panel=panel.name, data=first["data"], metric="auc_keras", p_art=both["p_art"].round(6))
    both["published_source"] = [known()[source].curve for source in both["source"]]
    both["reason"] = [reasons[key] for key in both[of_run].itertuples(index=False, name=None)]
    both["comparable"] = both["reason"] == ""
    theirs = table("means").rename(columns={"source": "published_source", "mean_auc": "published"})
    both = both.merge(theirs, on=["panel", "test_set", "published_source", "p_art"])
    both["difference"] = both["ours"] - both["published"]
    inside = both["published"].between(both["ci_low"] - both["read_error"], both["ci_high"] + both["read_error"])
    return both.assign(within_ci=inside.astype("boolean").where((both["folds"] > 1) & both["ci_low"].notna(), pd.NA))


def _reason(results: pd.DataFrame, panel: pd.Series, runs: Path) -> str:
    """What of these runs (one source, task and backbone) is not the paper's; empty if nothing is."""
    first, source = results.iloc[0], known()[results["source"].iloc[0]]
    compared = [
        ("data", first["data"], panel["data"], first["data"].startswith(panel["data"])),
        ("task", first["task"], panel["task"], first["task"] == panel["task"]),
        ("source", source.name, source.curve, source.curve in source.title),  # a stand-in's title is its own
        ("backbone", first["backbone"], "resnet50", first["backbone"] == "resnet50"),
    ]
    reasons = [f"{what} {ours}, not {theirs}" for what, ours, theirs, same in compared if not same]
    spec = read_json(runs / results["run_id"].iloc[results["p_art"].argmax()] / "spec.json")
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
    apart, within = comparison[~comparison["comparable"]], comparison["within_ci"].dropna()
    if apart.empty and within.empty:
        return f"{len(comparison)} points, one fold: no confidence interval to compare with."
    if apart.empty:
        return f"{int(within.sum())} of {len(within)} published points lie within our 95 % confidence interval."
    # Which settings differ is told in the column `reason`; here it is enough that some do.
    parts = {SETTINGS if part.startswith(SETTINGS) else part for part in "; ".join(apart["reason"]).split("; ")}
    why = "; ".join(sorted(parts, key=lambda part: (REASONS.index(part.split()[0]), part)))
    all_apart = len(apart) == len(comparison)
    return (
        f"{'This comparison means' if all_apart else f'{len(apart)} of {len(comparison)} points mean'} nothing: {why}."
    )


def consistency() -> pd.DataFrame:
    """What the paper's own numbers say of each other: one row a point whose ImageNet folds the authors print.

    Columns: `SAME`, folds, mean_of_folds, mean_auc (read off the figure), read_error, difference, published_p.
    """
    folds = table("folds").groupby(SAME)["auc"].agg(folds="size", mean_of_folds="mean").reset_index()
    both = folds.merge(table("means"), on=SAME)
    both["difference"] = both["mean_of_folds"] - both["mean_auc"]
    printed = table("tests").rename(columns={"p_permutation": "published_p"})[["panel", "p_art", "published_p"]]
    return both.merge(printed, on=["panel", "p_art"], how="left")
