"""Finished runs: what is drawn and said of them, and what is refused."""

import pandas as pd
import pytest
from tiny_runs import planned

from sourcematters import confounders
from sourcematters.errors import StudyError
from sourcematters.runs.run_folder import Workspace
from sourcematters.sources import Source
from sourcematters.study.finished import FinishedRuns
from sourcematters.study.settings import Settings
from sourcematters.training.recipe import Training


def scored(plan):
    """Results of a plan: o.o.d. AUC .5 + p_art / 4 with 20 + 10 images of 25 patients, i.i.d. with 24 of them."""
    tests = [plan.assign(test_set="ood", n=30, positives=20), plan.assign(test_set="iid", n=24, positives=14)]
    table = pd.concat(tests, ignore_index=True)
    return table.assign(patients=25, learned=1, auc=0.5 + table["p_art"] / 4, auc_keras=0.9)


def finished(folder, *names, **settings):
    workspace = Workspace(str(folder))
    plan = planned(workspace, drawn=[confounders.make(name) for name in names], p_art=(0, 1))
    return FinishedRuns(scored(plan), workspace, Settings(**settings), "runs", list)


def test_a_figure_of_the_paper_is_drawn_where_one_of_its_confounders_was_run(tmp_path):
    runs = finished(tmp_path, "noise", state_of_the_art={"mass": 0.9})
    assert runs.fig3() is None
    assert runs.fig4() is not None and runs.overview() is not None
    assert {path.name for path in tmp_path.glob("figures/*.csv")} == {"fig4.csv", "overview.csv"}


def test_a_published_level_must_be_of_a_task_that_was_run(tmp_path):
    with pytest.raises(StudyError, match="state_of_the_art: unknown task `mas`. Did you mean mass?"):
        finished(tmp_path, "tag", state_of_the_art={"mas": 0.9}).fig3()


def test_the_answer_names_task_and_size_and_the_runs_that_did_not_learn(tmp_path, capsys):
    runs = finished(tmp_path, "tag")
    weak = runs.table["p_art"] == 0
    runs = FinishedRuns(runs.table.assign(learned=1 - weak), runs.workspace, runs.settings, "runs", list)
    table = runs.answer()
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("mass, tag, random: ") and "(n = 30, 20 positive)" in first
    assert second.startswith("2 of 4 runs did not learn") and second.endswith(
        "mass, tag, random at p_art 0, fold 0, 1."
    )
    assert table[["task", "n", "positives", "patients"]].to_numpy().tolist() == [["mass", 30, 20, 25]]


def test_rows_of_two_tasks_can_be_told_apart(tmp_path):
    workspace = Workspace(str(tmp_path))
    sources = [Source(name, name) for name in ("one", "two")]
    plans = [
        planned(workspace, sources=sources),
        planned(workspace, sources=sources, task="mass-ct", data="ct", backbone="resnet18"),
    ]
    runs = FinishedRuns(scored(pd.concat(plans)), workspace, Settings(), "runs", list)
    tests = runs.permutation_tests()
    assert not tests[["task", "backbone", "confounder", "test_set", "p_art", "a", "b"]].duplicated().any()
    assert len(tests) == 6 and set(zip(tests["task"], tests["backbone"], strict=True)) == {
        ("mass", "test_resnet"),
        ("mass-ct", "resnet18"),
    }
    assert (tests[["n", "positives"]] == [30, 20]).all(axis=None)
    assert "backbone" not in finished(tmp_path, "tag", "noise").permutation_tests()


def test_a_figure_says_in_which_settings_its_panels_differ(tmp_path):
    workspace = Workspace(str(tmp_path))
    both = [planned(workspace), planned(workspace, drawn=[confounders.Noise()], training=Training(size=96))]
    runs = FinishedRuns(scored(pd.concat(both)), workspace, Settings(), "runs", list)
    assert runs._differences(["tag", "noise"]) == "size 512 (tag), 96 (noise)"
    assert runs._differences(["tag"]) == ""
    assert runs.settings_of_runs()["size"].tolist() == [512, 96]
    assert pd.read_csv(tmp_path / "tables" / "settings_of_runs.csv")["size"].tolist() == [512, 96]
