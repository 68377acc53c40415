"""The paper's numbers as data (published.md says where they are from), and our results laid on them.

The published AUC is Keras's micro-average: `auc_keras` of our runs is compared with it, `auc` stands beside.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.resources import files as package_files
from typing import Any

import pandas as pd

from sourcematters import metrics
from sourcematters.checked import flat
from sourcematters.cohorts.published_splits import are_published
from sourcematters.errors import StudyError
from sourcematters.files import read_json
from sourcematters.results import statistics
from sourcematters.runs.run_folder import Workspace, open_registered
from sourcematters.runs.specs import RunSpec
from sourcematters.sources import IMAGENET_MEAN, IMAGENET_STD, known
from sourcematters.sources.radimagenet import KERAS, NORMALIZATION

SAME = ["panel", "test_set", "source", "p_art"]
COMPARISON = [
    *SAME, "published_source", "data", "task", "confounder", "backbone", "folds", "metric", "ours", "ci_low", "ci_high",
    "lowest", "highest", "published", "read_error", "difference", "within_ci", "auc", "caution", "comparable", "reason",
]  # fmt: skip
CT = "CT: the paper left cohort, split and noise open"
SETTINGS = "other settings"
REASONS = ["data", "task", "source", "backbone", "CT:", "other"]
# What the paper's sources are, of which its profile tells the names.
WEIGHTS: dict[str, dict[str, Any]] = {
    "imagenet": {"kind": "timm", "mean": IMAGENET_MEAN, "std": IMAGENET_STD},
    KERAS: {"kind": "keras", "mean": NORMALIZATION[KERAS][0], "std": NORMALIZATION[KERAS][1]},
    "random": {"kind": "random", "mean": IMAGENET_MEAN, "std": IMAGENET_STD},
}
# No choice of settings: names, axes of the grid, seeds, and the cohort's content, of which `splits` tells.
NO_SETTINGS = {
    "id", "fit", "data", "task", "cohort", "p_art", "fold", "seed", "split_seed", "backbone",
    "confounder.name", "confounder.leaf", "source.name", "source.identity",
}  # fmt: skip
NO_WORDS = {"training", "confounder", "carrier", "parameters"}


def table(name: str) -> pd.DataFrame:
    """One of the paper's tables, published_NAME.csv: means, folds, tests, panels or table1; columns in published.md."""
    with (package_files(__package__) / f"published_{name}.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file)


def compare(results: pd.DataFrame, workspace: Workspace, paper: Sequence[RunSpec]) -> pd.DataFrame:
    """Our curves on the published ones: `COMPARISON`, one row a panel, test set, source and strength.

    `results` is the results table, `workspace` keeps the runs, whose spec.json tells all of their settings, and their
    cohorts; `paper` are the runs of profile `paper` on X-rays. Ours is the mean of `auc_keras` over folds with its 95 %
    interval over folds and test patients, difference is ours minus published, and `within_ci` says if the published
    value, give or take its reading error, lies in that interval (missing for one fold, whose interval has the test
    patients only). `comparable` is False where `reason` names data, task, source, backbone, splits or settings that are
    not the paper's, and for CT, of which the paper published curves and no more; a number stands there all the same,
    and means nothing. Confounders, sources and strengths that the paper lacks are left out. Raises StudyError if
    nothing is left.
    """
    laid = [name for name, source in known().items() if source.curve]
    ours = results[results["source"].isin(laid)]
    on_ct = ours["task"].astype(str).str.endswith("-ct")
    panels, frames = table("panels").set_index("panel"), []
    for _, panel in panels.iterrows():
        # X-rays and CT share the names of their confounders; whatever is not CT is laid on the X-ray panels.
        shown = ours[(ours["confounder"] == panel["confounder"]) & (on_ct == (panel["data"] == "lidc"))]
        frames += [_of_panel(part, panel, workspace, paper) for _, part in shown.groupby("data", sort=False)]
    if not any(map(len, frames)):
        there = ", ".join(f"{panel['confounder']} at {name}" for name, panel in panels.iterrows())
        raise StudyError(
            f"results: no confounder, source and strength of it was published. The paper has {there}, sources "
            f"{', '.join(laid)}, strengths 0, 0.1, 0.2, 0.5, 0.8 and 1."
        )
    return pd.concat([frame for frame in frames if len(frame)], ignore_index=True)[COMPARISON]


def _of_panel(results: pd.DataFrame, panel: pd.Series, workspace: Workspace, paper: Sequence[RunSpec]) -> pd.DataFrame:
    first, of_run = results.iloc[0], ["source", "task", "backbone"]
    of_curve = results.groupby(of_run)
    reasons = {key: "; ".join(_reasons(part, panel, workspace, paper)) for key, part in of_curve}
    cautions = of_curve["caution"].first()
    binary = results.groupby(metrics.GROUP)["auc"].mean().reset_index()
    keras = statistics.summarise(results, workspace.shared("runs"), metric="auc_keras")
    both = keras.rename(columns={"mean": "ours"}).merge(binary)
    both = both.assign(panel=panel.name, data=first["data"], metric="auc_keras", p_art=both["p_art"].round(6))
    both["published_source"] = [known()[source].curve for source in both["source"]]
    curves = list(both[of_run].itertuples(index=False, name=None))
    both["reason"], both["caution"] = [reasons[curve] for curve in curves], [cautions[curve] for curve in curves]
    both["comparable"] = both["reason"] == ""
    theirs = table("means").rename(columns={"source": "published_source", "mean_auc": "published"})
    both = both.merge(theirs, on=["panel", "test_set", "published_source", "p_art"])
    both["difference"] = both["ours"] - both["published"]
    inside = both["published"].between(both["ci_low"] - both["read_error"], both["ci_high"] + both["read_error"])
    return both.assign(within_ci=inside.astype("boolean").where((both["folds"] > 1) & both["ci_low"].notna(), pd.NA))


def _reasons(results: pd.DataFrame, panel: pd.Series, workspace: Workspace, paper: Sequence[RunSpec]) -> Iterator[str]:
    """What of these runs (one source, task and backbone) is not the paper's; nothing if all is."""
    first, curve = results.iloc[0], known()[results["source"].iloc[0]].curve
    papers_source = next(spec.source.name for spec in paper if known()[spec.source.name].curve == curve)
    names = {"data": panel["data"], "task": panel["task"], "source": papers_source, "backbone": paper[0].backbone}
    yield from (f"{what} {first[what]}, not {theirs}" for what, theirs in names.items() if first[what] != theirs)
    if panel["data"] == "lidc":
        yield CT
        return
    theirs = [spec for spec in paper if spec.confounder and spec.confounder.name == panel["confounder"]]
    wanted = settings([spec.to_dict() | {"source": WEIGHTS[papers_source]} for spec in theirs])
    specs = [read_json(workspace.shared("runs") / run_id / "spec.json") for run_id in results["run_id"].unique()]
    found, cohorts = settings(specs), {spec["cohort"] for spec in specs}
    if first["data"] == panel["data"] and first["task"] == panel["task"]:
        wanted["splits"] = {"published"}
        found["splits"] = {
            "published" if are_published(open_registered(each, workspace)) else "own" for each in cohorts
        }
    if first["source"] != papers_source:  # which says enough of its weights
        wanted, found = ({k: v for k, v in each.items() if not k.startswith("source ")} for each in (wanted, found))
    if others := [
        f"{name} {_text(found.get(name, ()))} ({_text(wanted.get(name, ()))})"
        for name in dict.fromkeys([*wanted, *found])
        if found.get(name) != wanted.get(name)
    ]:
        yield f"{SETTINGS}, the paper's in brackets: {', '.join(others)}"


def settings(specs: Sequence[Mapping[str, Any]]) -> dict[str, set[Any]]:
    """Each setting of runs (`RunSpec.to_dict`) by a short name, `size`, `height`, `base n0`, with all its values."""
    strengths = tuple(sorted({spec["p_art"] for spec in specs}))
    found: dict[str, set[Any]] = {"folds": {len({spec["fold"] for spec in specs})}, "strengths": {strengths}}
    for spec in specs:
        for key, value in flat(spec).items():
            if key not in NO_SETTINGS:
                words = ("drawing" if word == "name" else word for word in key.split(".") if word not in NO_WORDS)
                found.setdefault(" ".join(words), set()).add(tuple(value) if isinstance(value, list) else value)
    return found


def _text(values: Iterable[Any]) -> str:
    """Values for people: `512`, `0 0.5 1`, `1e-05 and 0.001`, `none` for a setting that is not there."""

    def text(value: Any) -> str:
        if isinstance(value, tuple):
            return " ".join(map(text, value))
        return f"{value:.12g}" if isinstance(value, float) else str(value)

    return " and ".join(sorted(map(text, values))) or "none"


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


def readable(comparison: pd.DataFrame) -> bool:
    """Whether both curves in one figure tell anything: if a point of a table of `compare` is comparable, or a panel
    has the paper's data and task.

    Then the same images were asked the same question, and what differs (weights, network, splits, settings) may be
    what the reader wants to see. Curves of other images or of another disease only look alike.
    """
    elsewhere = comparison["reason"].str.contains(r"(?:^|; )(?:data|task) ")
    return bool((comparison["comparable"] | ~elsewhere).any())


def consistency() -> pd.DataFrame:
    """What the paper's own numbers say of each other: one row a point whose ImageNet folds the authors print.

    Columns: `SAME`, folds, mean_of_folds, mean_auc (read off the figure), read_error, difference, published_p.
    """
    folds = table("folds").groupby(SAME)["auc"].agg(folds="size", mean_of_folds="mean").reset_index()
    both = folds.merge(table("means"), on=SAME)
    both["difference"] = both["mean_of_folds"] - both["mean_auc"]
    printed = table("tests").rename(columns={"p_permutation": "published_p"})[["panel", "p_art", "published_p"]]
    return both.merge(printed, on=["panel", "p_art"], how="left")
