"""The published numbers agree with one another, and ours are laid on the right ones with the right label."""

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import scipy.special
import scipy.stats

import sourcematters.demo.standins  # noqa: F401  (registers the stand-ins)
from sourcematters import checksums, metrics
from sourcematters.cohorts import published_splits
from sourcematters.cohorts.published_splits import digest
from sourcematters.errors import StudyError
from sourcematters.files import write_json, write_text
from sourcematters.results import figures, published, statistics
from sourcematters.runs.run_folder import Workspace, open_registered
from sourcematters.study.study import papers_runs
from sourcematters.training.recipe import Training


def test_means_are_those_of_the_figures():
    means = published.table("means")
    assert set(means["panel"]) == set(published.table("panels")["panel"])
    assert set(means["source"]) == {"ImageNet", "RadImageNet", "random"}
    assert means["mean_auc"].between(0, 1).all() and means["read_error"].isin([0.01, 0.03]).all()
    assert not means.duplicated(published.SAME).any()
    # Six strengths, three sources; o.o.d. in all six panels, i.i.d. in three.
    assert len(means) == 6 * 3 * (6 + 3)


def test_imagenet_folds_average_to_the_points_of_the_figures():
    folds = published.table("folds").groupby(published.SAME)["auc"].mean()
    means = published.table("means").set_index(published.SAME)
    apart = (folds - means.loc[folds.index, "mean_auc"]).abs()
    # Reading a marker off a figure is good to about a hundredth, and then half a digit of rounding.
    near = apart <= means.loc[folds.index, "read_error"] + 0.0005
    panels = near.groupby("panel").all()
    assert panels["tag"] and panels["denoising"] and panels["gender"]
    # The known defect: these folds are of other runs than the figure.
    assert apart["noise_xray", "ood", "ImageNet", 1.0] == pytest.approx(0.0911, abs=1e-4)
    assert not panels["noise_xray"]


def test_the_papers_p_values_are_shares_of_all_permutations():
    for row in published.table("tests").itertuples():
        n = row.n_imagenet_folds
        ways = math.comb(2 * n, n)
        assert row.p_permutation * ways == pytest.approx(round(row.p_permutation * ways), abs=2e-4), row
        # Two-sided with equal arms: each deal and its mirror image, so never fewer than two.
        assert round(row.p_permutation * ways) % 2 == 0 and row.p_permutation >= 2 / ways - 1e-6


PAPER = papers_runs()


def results(keras, source="imagenet", p_art=0.5, **columns):
    fixed = {"data": "cxr14", "task": "lung-mass", "confounder": "tag", "backbone": "resnet50", "test_set": "ood"}
    table = pd.DataFrame({"fold": range(len(keras)), "auc_keras": keras, "auc": 0.7, "source": source, "p_art": p_art})
    table = table.assign(caution="", **{**fixed, **columns})
    names = ["confounder", "source", "task", "p_art", "fold"]
    return table.assign(run_id=["-".join(map(str, row)) for row in table[names].itertuples(index=False)])


def whole(keras=0.4, sources=("imagenet",), **columns):
    """The results of every strength and fold of the paper."""
    return pd.concat([
        results([keras + k / 100 for k in range(5)], source=source, p_art=p, **columns)
        for source in sources for p in (0.0, 0.1, 0.2, 0.5, 0.8, 1.0)
    ])  # fmt: skip


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A workspace with the spec of each run in a table, as it is of the paper's profile but for what `edit` does."""
    workspace = Workspace(str(tmp_path / "any"))
    cohort = "image_id,path,patient_id,label,split\n" + "".join(f"{i},-,{i},{i % 2},{s}\n" for i, s in COHORT)
    for name, text in {"c0": cohort, "c1": cohort.replace("3,-,3,1,dev", "3,-,3,1,test")}.items():
        write_text(kept := tmp_path / "cohorts" / f"{name}.csv", text)
        checksums.seal(checksums.seal_of(kept), [kept])
    published_digest = digest(open_registered("c0", workspace))
    monkeypatch.setattr(published_splits, "LUNG_MASS", replace(published_splits.LUNG_MASS, digest=published_digest))
    # How intervals are computed is for the tests of statistics; here they are Student's over folds.
    monkeypatch.setattr(statistics, "summarise", over_folds)
    drawn = {spec.confounder.name: spec for spec in PAPER}

    def write(table, edit=lambda spec: None):
        for row in table.drop_duplicates("run_id").to_dict("records"):
            normalization = published.WEIGHTS.get(row["source"], {"kind": "mine", "mean": [0] * 3, "std": [1] * 3})
            own = {"p_art": row["p_art"], "fold": row["fold"], "cohort": "c0", "backbone": row["backbone"]}
            own["source"] = {"name": row["source"], "identity": "any", **normalization}
            spec = json.loads(json.dumps(drawn.get(row["confounder"], PAPER[0]).to_dict() | own))
            edit(spec)
            write_json(workspace.shared("runs") / row["run_id"] / "spec.json", spec)
        return published.compare(table, workspace, PAPER)

    yield write
    open_registered.cache_clear()


def over_folds(results, runs, metric):
    groups = results.groupby(metrics.GROUP)[metric]
    table = groups.agg(folds="size", mean="mean", error="sem", lowest="min", highest="max").reset_index()
    half = scipy.stats.t.ppf(0.975, table["folds"] - 1) * table["error"]
    return table.assign(ci_low=table["mean"] - half, ci_high=table["mean"] + half)


COHORT = [(0, "dev"), (1, "dev"), (2, "dev"), (3, "dev"), (4, "test"), (5, "test")]


def set_to(path, value):
    """An edit of a spec: the value at a path of keys, which is made if it is not there."""

    def edit(spec):
        *above, last = path.split(".")
        for key in above:
            spec = spec[key]
        assert spec.get(last) != value, "nothing would change"
        spec[last] = value

    return edit


@pytest.mark.parametrize("confounder", ["tag", "denoising", "noise", "gender"])
@pytest.mark.parametrize("source", ["imagenet", "radimagenet-keras", "random"])
def test_the_papers_own_runs_on_x_rays_can_be_compared(made, confounder, source):
    task = "atelectasis-gender" if confounder == "gender" else "lung-mass"
    found = made(whole(sources=[source], confounder=confounder, task=task))
    assert found["reason"].tolist() == [""] * 6 and found["comparable"].all()


TRAINING = {
    "size": (500, "size 500 (512)"),
    "interpolation": ("antialias", "interpolation antialias (nearest)"),
    "crop": (400, "crop 400 (0)"),
    "window": ([40, 400], "window 40 400 (-600 1500)"),
    "epochs": (199, "epochs 199 (200)"),
    "patience": (29, "patience 29 (30)"),
    "learning_rate": (1.1e-5, "learning_rate 1.1e-05 (1e-05)"),
    "batch_size": (33, "batch_size 33 (32)"),
    "dropout": (0.4, "dropout 0.4 (0.5)"),
    "bn_momentum": (0.02, "bn_momentum 0.02 (0.01)"),
    "rotation": (0, "rotation 0 (10)"),
    "shift": (0, "shift 0 (0.1)"),
    "zoom": (0.2, "zoom 0.2 (0.1)"),
    "precision": ("bf16", "precision bf16 (fp32)"),
    "compiled": (True, "compiled True (False)"),
}
OTHERS = {
    "val_fraction": (0.2, "val_fraction 0.2 (0.15)"),
    "cohort": ("c1", "splits own (published)"),
    "source.kind": ("checkpoint", "source kind checkpoint (timm)"),
    "source.mean": ([0.5, 0.5, 0.5], "source mean 0.5 0.5 0.5 (0.485 0.456 0.406)"),
    "source.std": ([1, 1, 1], "source std 1 1 1 (0.229 0.224 0.225)"),
    "confounder.carrier.name": ("mine", "drawing mine (draw_tag)"),
    "confounder.carrier.parameters.height": (128, "height 128 (64)"),
    "confounder.carrier.parameters.letter": ("L", "letter L (R)"),
    "confounder.carrier.parameters.more": (1, "more 1 (none)"),
    "confounder.base.name": ("blurred", "base drawing blurred and original (original)"),
    "confounder.base.parameters.n0": (5, "base n0 5 (none)"),
    "base.name": ("blurred", "base drawing blurred and original (original)"),
}


def test_every_setting_of_the_recipe_is_tried():
    assert set(TRAINING) == set(Training.model_fields)


@pytest.mark.parametrize("path", [*(f"training.{name}" for name in TRAINING), *OTHERS])
@pytest.mark.parametrize("where", ["in all runs", "in one run"])
def test_each_setting_that_is_not_the_papers_is_named(made, path, where):
    value, says = {**{f"training.{name}": told for name, told in TRAINING.items()}, **OTHERS}[path]
    change, runs = set_to(path, value), []

    def edit(spec):
        runs.append(spec)
        if where == "in all runs" or len(runs) == 17:
            change(spec)

    found = made(whole(), edit)
    assert not found["comparable"].any()
    (reason,) = found["reason"].unique()
    if where == "in all runs":
        assert reason == f"other settings, the paper's in brackets: {says}"
    else:
        name, theirs = path.split(".")[-1], says.rpartition(" (")[2]
        word = {"cohort": "splits", "name": "drawing"}.get(name, name)
        assert reason.startswith(f"{published.SETTINGS}, ") and f"{word} " in reason and reason.endswith(f"({theirs}")
        assert " and " in reason or "(none)" in reason
    assert published.verdict(found) == "This comparison means nothing: other settings."


def test_seeds_and_names_are_no_settings(made):
    def edit(spec):
        spec["seed"], spec["split_seed"], spec["confounder"]["leaf"] = 7, 8, "noise"
        spec["source"]["identity"] = "sha256:abc"

    assert made(whole(), edit)["comparable"].all()


def test_strengths_and_folds_are_the_papers_too(made):
    for part, says in (("fold < 3", "folds 3 (5)"), ("p_art != .2", "strengths 0 0.1 0.5 0.8 1 (0 0.1 0.2 0.5 0.8 1)")):
        found = made(whole().query(part))
        assert set(found["reason"]) == {f"other settings, the paper's in brackets: {says}"}


def test_gender_has_settings_of_its_own(made):
    asked = {"confounder": "gender", "task": "atelectasis-gender"}
    as_lung_mass = made(whole(**asked), lambda spec: spec["training"].update(size=512, batch_size=32))
    assert set(as_lung_mass["reason"]) == {
        "other settings, the paper's in brackets: size 512 (256), batch_size 32 (64)"
    }
    other = made(whole(**asked), lambda spec: spec["confounder"].update(attribute="view", value="AP", other="PA"))
    told = "attribute view (sex), value AP (F), other PA (M)"
    assert set(other["reason"]) == {f"other settings, the paper's in brackets: {told}"}


def test_ours_beside_theirs_by_hand(made):
    # Published: tag, o.o.d., ImageNet, .5 is .38 (read to .01).
    keras = [0.36, 0.40, 0.41, 0.36, 0.42]
    found = made(pd.concat([whole().query("p_art != .5"), results(keras)]))
    row = found[found["p_art"] == 0.5].iloc[0]
    low, high = scipy.stats.t.interval(0.95, 4, np.mean(keras), scipy.stats.sem(keras))
    assert (row["panel"], row["published"], row["read_error"], row["folds"]) == ("tag", 0.38, 0.01, 5)
    assert (row["ours"], row["ci_low"], row["ci_high"], row["auc"]) == pytest.approx((0.39, low, high, 0.7))
    assert row["difference"] == pytest.approx(0.01)
    assert row["within_ci"] and row["comparable"] and row["reason"] == ""
    assert published.verdict(found).endswith("of 6 published points lie within our 95 % confidence interval.")


@pytest.mark.parametrize(("keras", "within"), [([0.390, 0.391], True), ([0.46, 0.461], False), ([0.38], None)])
def test_within_the_interval_or_a_reading_error_of_it(made, keras, within):
    row = made(results(keras)).iloc[0]
    assert pd.isna(row["within_ci"]) if within is None else row["within_ci"] == within


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"data": "phantoms"}, "data phantoms, not cxr14"),
        ({"data": "cxr14-part"}, "data cxr14-part, not cxr14"),
        ({"task": "Pneumonia"}, "task Pneumonia, not lung-mass"),
        ({"source": "natural-standin"}, "source natural-standin, not imagenet"),
        ({"source": "radimagenet"}, "source radimagenet, not radimagenet-keras"),
        ({"backbone": "densenet121"}, "backbone densenet121, not resnet50"),
    ],
)
def test_what_is_not_the_papers_is_named(made, columns, says):
    sources = [columns.pop("source", "imagenet")]
    found = made(whole(sources=sources, **columns))
    assert {reason.split("; ")[0] for reason in found["reason"]} == {says} and not found["comparable"].any()
    assert published.verdict(found).startswith(f"This comparison means nothing: {says}")


def test_ct_is_laid_on_its_own_panels_and_never_comparable(made):
    x_ray, ct = whole(confounder="noise"), whole(confounder="noise", data="lidc", task="lung-mass-ct")
    found = made(pd.concat([x_ray, ct]))
    points = found[found["p_art"].isin([0.2, 0.5])][["panel", "p_art", "published"]].values.tolist()
    assert ["noise_xray", 0.5, 0.31] in points and ["noise_ct", 0.2, 0.47] in points and len(points) == 4
    on_ct = found["panel"] == "noise_ct"
    assert found["comparable"].tolist() == (~on_ct).tolist() and on_ct.sum() == 6
    assert set(found.loc[on_ct, "reason"]) == {"CT: the paper left cohort, split and noise open"}
    assert published.verdict(found) == f"6 of 12 points mean nothing: {published.CT}."
    drawn = made(ct.assign(data="ct-phantoms"))
    assert set(drawn["reason"]) == {f"data ct-phantoms, not lidc; {published.CT}"}


def test_a_perfect_ranking_that_exceeds_1_by_rounding_draws_no_negative_bar(made):
    # Keras's AUC is a sum in float32.
    figure = figures.against(data=made(results([1.0 + 1e-7] * 2)).assign(folds=5, ci_low=0.9, ci_high=1.0))
    segments = figure.axes[0].containers[0].lines[2][0].get_segments()
    assert segments[0][:, 1] == pytest.approx((0.9, 1.0))
    assert not [line for line in figure.axes[0].lines if line.get_marker() == "^" and line.get_markersize() == 3.5]


def test_a_figure_is_drawn_where_data_and_task_are_the_papers_or_a_point_is_comparable():
    def of(*reasons):
        return pd.DataFrame({"reason": reasons, "comparable": [reason == "" for reason in reasons]})

    assert published.readable(of("", "task lesion, not lung-mass"))
    assert published.readable(of("source mine, not imagenet; other settings, the paper's in brackets: size 64 (512)"))
    assert published.readable(of(published.CT))
    assert not published.readable(of("data phantoms, not cxr14; task lesion, not lung-mass"))
    assert not published.readable(of("task Pneumonia, not lung-mass; splits own (published)"))
    assert not published.readable(of(f"data ct-phantoms, not lidc; {published.CT}"))


def test_nothing_to_compare_is_said(made):
    with pytest.raises(StudyError, match="no confounder, source and strength of it was published"):
        made(results([0.3, 0.4], source="mine"))


def test_the_figure_draws_both(made):
    table = pd.concat([
        results([0.3, 0.4], source=source, p_art=p, test_set=test_set)
        for source in ("imagenet", "random") for p in (0.0, 1.0) for test_set in ("ood", "iid")
    ])  # fmt: skip
    data = made(table)
    assert set(metrics.GROUP) <= set(data.columns)
    figure = figures.against(data=data, note="what it is worth")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["tag", ""]
    for axes, test_set in zip(figure.axes, ("ood", "iid"), strict=True):
        drawn = {container.get_label(): container.lines for container in axes.containers}
        assert list(drawn) == ["ImageNet", "random", "ImageNet, published", "random, published"]
        theirs = data[(data["test_set"] == test_set) & (data["source"] == "imagenet")]
        points, _, (bars,) = drawn["ImageNet, published"]
        assert points.get_ydata().tolist() == theirs["published"].tolist() and points.get_markerfacecolor() == "white"
        lengths = [np.ptp(segment[:, 1]) / 2 for segment in bars.get_segments()]
        assert lengths == pytest.approx(theirs["read_error"].tolist())
        assert drawn["ImageNet"][0].get_ydata() == pytest.approx([0.35, 0.35])
    assert figure.legends[0].get_title().get_text() == "what it is worth"
