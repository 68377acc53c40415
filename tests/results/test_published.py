"""The published numbers agree with one another, and ours are laid on the right ones with the right label."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats

import sourcematters.demo.standins  # noqa: F401  (registers the stand-ins)
from sourcematters import metrics
from sourcematters.errors import StudyError
from sourcematters.results import figures, published


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


SPEC = {
    "training": {
        "size": 512,
        "crop": 0,
        "batch_size": 32,
        "epochs": 200,
        "patience": 30,
        "learning_rate": 1e-5,
        "bn_momentum": 0.01,
    },
    "confounder": {"base": {"parameters": {}}, "carrier": {"parameters": {"height": 64}}},
}


def results(keras, source="imagenet", p_art=0.5, **columns):
    fixed = {"data": "cxr14", "task": "lung-mass", "confounder": "tag", "backbone": "resnet50", "test_set": "ood"}
    table = pd.DataFrame({"fold": range(len(keras)), "auc_keras": keras, "auc": 0.7, "source": source, "p_art": p_art})
    return table.assign(run_id=[f"{source}-{p_art}-{k}" for k in table["fold"]], **{**fixed, **columns})


@pytest.fixture
def runs(tmp_path):
    """A folder with the spec of each run in `table`, the paper's settings but for `training`."""

    def write(table, **training):
        for run_id in table["run_id"]:
            (tmp_path / run_id).mkdir(exist_ok=True)
            spec = SPEC | {"training": SPEC["training"] | training}
            (tmp_path / run_id / "spec.json").write_text(json.dumps(spec))
        return tmp_path

    return write


def test_ours_beside_theirs_by_hand(runs):
    # Published: tag, o.o.d., ImageNet, .5 is .38 (read to .01).
    keras = [0.36, 0.40, 0.41]
    table = results(keras)
    row = published.compare(table, runs(table)).iloc[0]
    low, high = scipy.stats.t.interval(0.95, 2, np.mean(keras), scipy.stats.sem(keras))
    assert (row["panel"], row["published"], row["read_error"], row["folds"]) == ("tag", 0.38, 0.01, 3)
    assert (row["ours"], row["ci_low"], row["ci_high"], row["auc"]) == pytest.approx((0.39, low, high, 0.7))
    assert row["difference"] == pytest.approx(0.01)
    assert row["within_ci"] and row["comparable"] and row["reason"] == ""
    assert published.verdict(published.compare(table, runs(table))).startswith("1 of 1 published points lie within")


@pytest.mark.parametrize(("keras", "within"), [([0.390, 0.391], True), ([0.46, 0.461], False), ([0.38], None)])
def test_within_the_interval_or_a_reading_error_of_it(runs, keras, within):
    table = results(keras)
    row = published.compare(table, runs(table)).iloc[0]
    assert pd.isna(row["within_ci"]) if within is None else row["within_ci"] == within


@pytest.mark.parametrize(
    ("columns", "training", "says"),
    [
        ({"data": "phantoms"}, {}, "data phantoms, not cxr14"),
        ({"task": "Pneumonia"}, {}, "task Pneumonia, not lung-mass"),
        ({"source": "natural-standin"}, {}, "source natural-standin, not ImageNet"),
        ({"backbone": "densenet121"}, {}, "backbone densenet121, not resnet50"),
        ({}, {"size": 64, "epochs": 2}, "other settings, the paper's in brackets: size 64 (512), epochs 2 (200)"),
    ],
)
def test_what_is_not_the_papers_is_named(runs, columns, training, says):
    table = results([0.3, 0.4], **columns)
    found = published.compare(table, runs(table, **training))
    assert found["reason"].tolist() == [says] and not found["comparable"].any()
    assert published.verdict(found) == f"This comparison means nothing: {'other settings' if training else says}."


def test_ct_and_x_rays_are_laid_on_their_own_panels(runs):
    table = pd.concat([
        results([0.3, 0.4], confounder="noise"),
        results([0.3, 0.4], confounder="noise", data="lidc", task="lung-mass-ct", p_art=0.2),
    ])  # fmt: skip
    folder = runs(table)
    for run_id in table["run_id"]:
        spec = SPEC | {"confounder": {"base": {"parameters": {}}, "carrier": {"parameters": {"n0": 2e7}}}}
        (folder / run_id / "spec.json").write_text(json.dumps(spec))
    found = published.compare(table, folder)
    assert found[["panel", "p_art", "published"]].values.tolist() == [
        ["noise_xray", 0.5, 0.31],
        ["noise_ct", 0.2, 0.47],
    ]
    assert found["comparable"].tolist() == [True, False]
    assert published.verdict(found) == "1 of 2 points mean nothing: other settings."


def test_a_perfect_ranking_that_exceeds_1_by_rounding_draws_no_negative_bar(runs):
    # Keras's AUC is a sum in float32.
    table = results([1.0 + 1e-7] * 2)
    figure = figures.against(data=published.compare(table, runs(table)).assign(ci_low=0.9, ci_high=1.1))
    segments = figure.axes[0].containers[0].lines[2][0].get_segments()
    assert segments[0][:, 1] == pytest.approx((0.9, 1.0))


def test_nothing_to_compare_is_said(runs):
    table = results([0.3, 0.4], source="mine")
    with pytest.raises(StudyError, match="no confounder, source and strength of it was published"):
        published.compare(table, runs(table))


def test_the_figure_draws_both(runs):
    table = pd.concat([
        results([0.3, 0.4], source=source, p_art=p, test_set=test_set)
        for source in ("imagenet", "random") for p in (0.0, 1.0) for test_set in ("ood", "iid")
    ])  # fmt: skip
    data = published.compare(table, runs(table))
    assert set(metrics.GROUP) <= set(data.columns)
    figure = figures.against(data=data, note="what it is worth")
    assert [axes.get_title() for axes in figure.axes] == ["tag", ""]
    for axes, test_set in zip(figure.axes, ("ood", "iid"), strict=True):
        drawn = {container.get_label(): container.lines for container in axes.containers}
        assert list(drawn) == ["imagenet", "random", "ImageNet, published", "random, published"]
        theirs = data[(data["test_set"] == test_set) & (data["source"] == "imagenet")]
        points, _, (bars,) = drawn["ImageNet, published"]
        assert points.get_ydata().tolist() == theirs["published"].tolist() and points.get_markerfacecolor() == "white"
        lengths = [np.ptp(segment[:, 1]) / 2 for segment in bars.get_segments()]
        assert lengths == pytest.approx(theirs["read_error"].tolist())
        assert drawn["imagenet"][0].get_ydata() == pytest.approx([0.35, 0.35])
    assert figure.legends[0].get_title().get_text() == "what it is worth"
