"""Plans side by side: what may not stand in one table is refused by name, the rest is told."""

import pandas as pd
import pytest
from tiny_runs import planned

from sourcematters import confounders
from sourcematters.errors import StudyError
from sourcematters.runs import mixtures
from sourcematters.runs.run_folder import Workspace
from sourcematters.sources import Source
from sourcematters.training.recipe import Training


@pytest.fixture
def workspace(tmp_path):
    return Workspace(str(tmp_path / "made"))


@pytest.mark.parametrize(
    ("changes", "differ"),
    [
        ({"training": Training(size=96)}, r"size \(512, 96\)"),
        ({"training": Training(epochs=7, precision="bf16")}, r"epochs \(200, 7\), precision \(fp32, bf16\)"),
        ({"backbone": "resnet18"}, r"backbone \(test_resnet, resnet18\)"),
        ({"seed": 3}, r"seed \(0, 3\)"),
        ({"digest": "other"}, r"cohort \(made-mass-40, other\)"),
        ({"data": "mine"}, r"data \(made, mine\), cohort \(made-mass-40, mine-mass-40\)"),
        ({"drawn": [confounders.Tag(height=32)]}, r"height \(64, 32\)"),
        ({"folds": 3, "p_art": (0, 1)}, r"strengths \(0 0\.5 1, 0 1\), folds \(0 1, 0 1 2\); not every source"),
        ({"sources": [Source("one", "x")], "p_art": (0, 1)}, r"strengths \(0 0\.5 1, 0 1\); not every source"),
    ],
    ids=lambda value: ", ".join(value) if isinstance(value, dict) else "",
)
def test_one_task_and_confounder_is_of_one_make(workspace, changes, differ):
    both = {"tag": planned(workspace), "other": planned(workspace, **changes)}
    with pytest.raises(StudyError, match=rf"tag of task mass: plans/tag\.csv and plans/other\.csv differ in {differ}"):
        mixtures.refuse(both, workspace)
    for name, table in both.items():
        mixtures.refuse({name: table}, workspace)


def test_what_another_confounder_or_task_was_made_with_is_no_mixture(workspace):
    found = {
        "tag": planned(workspace),
        "gender": planned(workspace, drawn=[confounders.Gender()], training=Training(size=256), folds=3),
        "ct": planned(workspace, task="mass-ct", data="ct", training=Training(size=362), p_art=(0, 1)),
    }
    mixtures.refuse(found, workspace)


def test_a_source_or_more_folds_and_strengths_of_all_may_be_run_later(workspace):
    first = planned(workspace)
    for changes in ({"sources": [Source("one", "x")]}, {"folds": 3}, {"p_art": (0, 0.2, 0.5, 1)}):
        mixtures.refuse({"tag": first, "more": planned(workspace, **changes)}, workspace)


def test_the_same_runs_in_two_plans_are_no_mixture(workspace):
    mixtures.refuse({"tag": planned(workspace), "again": planned(workspace, p_art=(0, 1), folds=1)}, workspace)


def test_a_name_means_the_same_weights_beside_the_same_backbone(workspace):
    def of(identity, **changes):
        return planned(workspace, sources=[Source("mine", identity), Source("random", "")], **changes)

    noise = {"drawn": [confounders.Noise()]}
    mixtures.refuse({"tag": of("a"), "noise": of("a", **noise), "vgg": of("b", task="t", backbone="vgg")}, workspace)
    with pytest.raises(
        StudyError, match=r"source mine of test_resnet: plans/tag\.csv and plans/noise\.csv differ in identity \(a, b\)"
    ):
        mixtures.refuse({"tag": of("a"), "noise": of("b", **noise)}, workspace)


def test_settings_of_runs_are_a_row_a_task_and_confounder(workspace):
    tag, gender = planned(workspace), planned(
        workspace, drawn=[confounders.Gender()], training=Training(size=256, rotation=0), p_art=(0, 1), images=60
    )  # fmt: skip
    table = mixtures.settings_of_runs(pd.concat([tag, gender]), workspace)
    assert table.columns.tolist() == [*mixtures.PANEL, *mixtures.ALWAYS, "rotation"]
    assert table[["confounder", "images", "folds", "strengths", "size", "rotation"]].to_numpy().tolist() == [
        ["tag", 40, 2, "0, 0.5, 1", 512, 10],
        ["gender", 60, 2, "0, 1", 256, 0],
    ]
    assert mixtures.told(table) == (
        "cohort made-mass-40 (tag), made-mass-60 (gender); size 512 (tag), 256 (gender);\n"
        "rotation 10.0 (tag), 0.0 (gender)"
    )
    assert mixtures.told(table[:1]) == ""


def test_that_another_task_has_another_cohort_goes_without_saying(workspace):
    both = [planned(workspace), planned(workspace, task="mass-ct", data="ct", folds=1)]
    assert mixtures.told(mixtures.settings_of_runs(pd.concat(both), workspace)) == ""
    both[1] = planned(workspace, task="mass-ct", data="ct", training=Training(size=362))
    assert mixtures.told(mixtures.settings_of_runs(pd.concat(both), workspace)) == "size 512 (mass), 362 (mass-ct)"


def test_runs_that_did_not_learn_are_named(workspace):
    table = planned(workspace).assign(learned=1, doubt="")
    assert mixtures.unlearned(table) == []
    weak = (table["p_art"] == 0) | ((table["p_art"] == 1) & (table["fold"] == 1))
    (sentence,) = mixtures.unlearned(
        pd.concat([table.assign(learned=1 - weak, doubt=weak.map({True: "why", False: ""}))] * 2)
    )  # two tests of a run
    assert sentence.startswith("3 of 6 runs did not learn: ")
    assert sentence.endswith(
        "mass, tag, random at p_art 0, fold 0, 1 (why); mass, tag, random at p_art 1, fold 1 (why)."
    )
