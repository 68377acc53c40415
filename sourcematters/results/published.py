"""The paper's numbers as data, and our results laid on them; provenance and reading error in README.md there.

The published AUC is Keras's micro-average, so it is compared with `auc_keras` of our runs; the binary `auc` stands
beside it. A comparison says something only where data, task, sources, network and settings are the paper's: the
column `reason` names what is not.
"""

from collections.abc import Mapping
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from sourcematters import metrics
from sourcematters.errors import StudyError
from sourcematters.files import read_json
from sourcematters.sources import known


class Panel(NamedTuple):
    """One panel of Fig. 3 or 4: which of our confounders it shows, on what, and the settings behind it."""

    title: str
    confounder: str
    data: str
    task: str
    alteration: Mapping[str, Any]
    training: Mapping[str, Any]


LUNG_MASS = {"size": 512, "batch_size": 32, "epochs": 200, "patience": 30, "learning_rate": 1e-5, "bn_momentum": 0.01}
CT = LUNG_MASS | {"size": 362, "crop": 362}
ATELECTASIS = LUNG_MASS | {"size": 256, "batch_size": 64}
PANELS = {
    "tag": Panel("tag", "tag", "cxr14", "lung-mass", {"carrier": {"height": 64}}, LUNG_MASS),
    "denoising": Panel("denoising", "denoising", "cxr14", "lung-mass", {"carrier": {"diameter": 500}}, LUNG_MASS),
    "gender": Panel("gender", "gender", "cxr14", "atelectasis-gender", {}, ATELECTASIS),
    "noise_xray": Panel("noise, X-ray", "noise", "cxr14", "lung-mass", {"carrier": {"n0": 2e7}}, LUNG_MASS),
    "noise_ct": Panel("noise, CT", "noise", "lidc", "lung-mass-ct", {"carrier": {"n0": 2e7}}, CT),
    "noise_ct_high_vs_low": Panel(
        "noise, high vs low, CT",
        "noise_high_vs_low",
        "lidc",
        "lung-mass-ct",
        {"base": {"n0": 2e7}, "carrier": {"n0": 1.5e7}},
        CT,
    ),
}
"""The paper's settings (image and batch size, epochs and learning rate are recalled from it, not read in its code)."""


class Target(NamedTuple):
    """A row of Table 1: images for training and validation, and for the test; size in px; what of it is recalled."""

    confounders: str
    train_val: int
    test: int
    size: int
    batch_size: int
    recalled: str


TARGETS = {
    ("cxr14", "lung-mass"): Target(
        "tag, denoising, noise", 248, 83, LUNG_MASS["size"], LUNG_MASS["batch_size"], "size, batch_size"
    ),
    ("lidc", "lung-mass-ct"): Target(
        "noise, noise_high_vs_low", 1710, 500, CT["size"], CT["batch_size"], "train_val, test, size, batch_size"
    ),
    ("cxr14", "atelectasis-gender"): Target(
        "gender", 400, 400, ATELECTASIS["size"], ATELECTASIS["batch_size"], "size, batch_size"
    ),
}
"""Table 1 of the paper by data and task. Counts of X-rays are those of the authors' split files, checked there."""

SAME = ["panel", "test_set", "source", "p_art"]
COMPARISON = [
    *SAME, "published_source", "data", "task", "confounder", "backbone", "folds", "metric", "ours", "ci_low", "ci_high",
    "published", "read_error", "difference", "within_ci", "auc", "comparable", "reason",
]  # fmt: skip


SETTINGS = "other settings"


def _table(name: str) -> pd.DataFrame:
    with (package_files(__package__) / f"published_{name}.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file)


def means() -> pd.DataFrame:
    """Mean AUC over folds, read off Figs. 3 and 4: panel, test_set, source, p_art, mean_auc, read_error."""
    return _table("means")


def folds() -> pd.DataFrame:
    """O.o.d. AUC of each ImageNet fold, as the authors print it: panel, test_set, source, p_art, row, auc."""
    return _table("folds")


def tests() -> pd.DataFrame:
    """The paper's tests: panel, p_art, n_imagenet_folds, t_imagenet_minus_radimagenet, p_permutation."""
    return _table("tests")


def curves() -> dict[str, str]:
    """Our sources -> the published curve; a stand-in is laid on the curve of the source that it stands for."""
    return {name: source.curve for name, source in known().items() if source.curve}


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
    frames = []
    for name, panel in PANELS.items():
        # X-rays and CT share the names of their confounders; whatever is not CT is laid on the X-ray panels.
        on_ct = results["task"].astype(str).str.endswith("-ct")
        ours = results[(results["confounder"] == panel.confounder) & (on_ct == (panel.data == "lidc"))]
        ours = ours[ours["source"].isin(list(curves()))]
        for data, part in ours.groupby("data", sort=False):
            frames.append(_of_panel(part, name, panel, str(data), Path(runs)))
    table = pd.concat([frame for frame in frames if len(frame)]) if any(map(len, frames)) else pd.DataFrame()
    if table.empty:
        said = ", ".join(f"{panel.confounder} at {name}" for name, panel in PANELS.items())
        raise StudyError(
            f"results: no confounder, source and strength of it was published. The paper has {said}, sources "
            f"{', '.join(curves())}, strengths 0, .1, .2, .5, .8 and 1."
        )
    return table[COMPARISON].reset_index(drop=True)


def _of_panel(results: pd.DataFrame, name: str, panel: Panel, data: str, runs: Path) -> pd.DataFrame:
    summary = metrics.summarise(results, metric="auc_keras").rename(columns={"mean": "ours"})
    binary = metrics.summarise(results)[[*metrics.GROUP, "mean"]].rename(columns={"mean": "auc"})
    reasons = {key: _reason(part, panel, data, runs) for key, part in results.groupby(["source", "task", "backbone"])}
    table = summary.merge(binary, on=metrics.GROUP).assign(panel=name, data=data, metric="auc_keras")
    table["published_source"] = table["source"].map(curves())
    table["p_art"] = table["p_art"].round(6)
    theirs = means().rename(columns={"source": "published_source", "mean_auc": "published"})
    table = table.merge(theirs, on=["panel", "test_set", "published_source", "p_art"])
    table["difference"] = table["ours"] - table["published"]
    inside = table["published"].between(table["ci_low"] - table["read_error"], table["ci_high"] + table["read_error"])
    table["within_ci"] = inside.astype("boolean").where(table["ci_low"].notna(), pd.NA)
    table["reason"] = [reasons[row.source, row.task, row.backbone] for row in table.itertuples()]
    return table.assign(comparable=table["reason"] == "")


def _reason(results: pd.DataFrame, panel: Panel, data: str, runs: Path) -> str:
    """What of these runs (one source, task and backbone) is not the paper's; empty if nothing is."""
    first = results.iloc[0]
    said = []
    if not data.startswith(panel.data):
        said.append(f"data {data}, not {panel.data}")
    if first["task"] != panel.task:
        said.append(f"task {first['task']}, not {panel.task}")
    if str(first["source"]).endswith("-standin"):
        said.append(f"source {first['source']}, not {curves()[first['source']]}")
    if first["backbone"] != "resnet50":
        said.append(f"backbone {first['backbone']}, not resnet50")
    strongest = results["run_id"].iloc[results["p_art"].argmax()]
    path = runs / strongest / "spec.json"
    if not path.exists():
        raise StudyError(f"{path}: no such file. Run the grid again, or give the folder of the runs.")
    spec = read_json(path)
    settings = [(key, spec["training"][key], wanted) for key, wanted in panel.training.items()]
    for side, parameters in panel.alteration.items():
        found = spec["confounder"][side]["parameters"]
        settings += [(key, found[key], wanted) for key, wanted in parameters.items()]
    if others := [f"{key} {value:g} ({wanted:g})" for key, value, wanted in settings if value != wanted]:
        said.append(f"{SETTINGS}, the paper's in brackets: {', '.join(others)}")
    return "; ".join(said)


def _rank(part: str) -> tuple[int, str]:
    return ["data", "task", "source", "backbone", "other"].index(part.split()[0]), part


def verdict(comparison: pd.DataFrame) -> str:
    """A sentence for the reader of a table of `compare`: what the comparison is worth, and why."""
    apart = comparison[~comparison["comparable"]]
    parts = [part for reason in dict.fromkeys(apart["reason"]) for part in reason.split("; ")]
    why = "; ".join(sorted({SETTINGS if part.startswith(SETTINGS) else part: 0 for part in parts}, key=_rank))
    if apart.empty:
        known = comparison["within_ci"].dropna()
        if known.empty:
            return f"{len(comparison)} points, one fold: no confidence interval to compare with."
        return f"{int(known.sum())} of {len(known)} published points lie within our 95 % confidence interval."
    if len(apart) == len(comparison):
        return f"This comparison means nothing: {why}."
    return f"{len(apart)} of {len(comparison)} points mean nothing: {why}."
