"""Finished runs: what is drawn and said of them, and what is refused."""

import pandas as pd
import pytest
from tiny_runs import finished, planned

from sourcematters import checksums, confounders
from sourcematters.errors import StudyError
from sourcematters.runs.run_folder import Workspace
from sourcematters.sources import Source
from sourcematters.study.finished import FinishedRuns
from sourcematters.study.settings import Settings
from sourcematters.training.recipe import Training


def runs_of(workspace, *plans, **settings):
    return FinishedRuns(finished(pd.concat(plans), workspace), workspace, Settings(**settings), "runs", list)


def of(folder, *names, **settings):
    workspace = Workspace(str(folder / "made"))
    plan = planned(workspace, drawn=[confounders.make(name) for name in names], p_art=(0, 1))
    return runs_of(workspace, plan, **settings)


def test_a_figure_of_the_paper_is_drawn_where_one_of_its_confounders_was_run(tmp_path):
    runs = of(tmp_path, "noise", state_of_the_art={"mass": 0.9})
    assert runs.fig3() is None
    assert runs.fig4() is not None and runs.overview() is not None
    assert {path.name for path in tmp_path.glob("made/figures/*.csv")} == {"fig4.csv", "overview.csv"}


def test_a_figure_says_what_it_shows_to_those_who_do_not_see_it(tmp_path):
    alt = of(tmp_path, "tag").plot().alt
    # Where the tag misleads, the scores of `finished` are alike at p_art = 0, and wrong at 1.
    assert "from strength 0 to 1" in alt and "tag: random 0.50 to 0.00" in alt


def test_a_figure_that_is_not_drawn_leaves_none_of_before(tmp_path):
    runs = of(tmp_path, "tag")
    assert runs.fig3() is not None and runs.forest() is None
    kept = {path.name for path in tmp_path.glob("made/figures/fig3.*")}
    assert kept == {f"fig3.{kind}" for kind in ("png", "pdf", "svg", "csv", "sha256")}
    assert of(tmp_path, "noise").fig3() is None
    assert not list(tmp_path.glob("made/figures/fig3.*"))


def test_a_published_level_must_be_of_a_task_that_was_run(tmp_path):
    with pytest.raises(StudyError, match="state_of_the_art: unknown task `mas`. Did you mean mass?"):
        of(tmp_path, "tag", state_of_the_art={"mas": 0.9}).fig3()


def test_the_answer_names_task_and_size_and_the_runs_that_did_not_learn(tmp_path, capsys):
    table = of(tmp_path, "tag").answer()
    top, answer, *_, last = capsys.readouterr().out.splitlines()
    assert top == "No leaning was found on any of 1 confounders (1 with too little data to tell)."
    assert answer == (
        "too little data to tell whether random leans on tag (mass): the effect is 0.50; 2 of 4 networks rank no "
        "better than guessing (n = 30, 20 positive)."
    )
    assert last.startswith("2 of 4 runs did not learn")
    assert last.endswith("mass, tag, random at p_art 0, fold 0, 1 (one score for all images (0.500)).")
    kept = pd.read_csv(tmp_path / "made" / "tables" / "runs_answer.csv")
    assert kept["sentence"].tolist() == [answer] and kept["verdict"].tolist() == table["verdict"].tolist()
    assert table[["task", "n", "positives", "patients"]].to_numpy().tolist() == [["mass", 30, 20, 25]]


def test_rows_of_two_tasks_can_be_told_apart(tmp_path):
    workspace = Workspace(str(tmp_path / "made"))
    sources = [Source(name, name) for name in ("one", "two")]
    plans = [
        planned(workspace, sources=sources),
        planned(workspace, sources=sources, task="mass-ct", data="ct", backbone="resnet18"),
    ]
    runs = runs_of(workspace, *plans)
    tests = runs.permutation_tests()
    assert not tests[["task", "backbone", "confounder", "p_art", "a", "b"]].duplicated().any()
    assert len(tests) == 6 and set(zip(tests["task"], tests["backbone"], strict=True)) == {
        ("mass", "test_resnet"),
        ("mass-ct", "resnet18"),
    }
    assert (tests[["n", "positives"]] == [30, 20]).all(axis=None)
    assert runs.forest() is not None
    kept = {path.name for path in tmp_path.glob("made/figures/*")}
    assert kept == {f"forest.{kind}" for kind in ("png", "pdf", "svg", "csv", "sha256")}
    seal = tmp_path / "made" / "figures" / "forest.sha256"
    assert checksums.flaw(seal, ["forest.svg"]) == ""
    seal.with_suffix(".svg").write_text("another")
    assert "forest.svg" in checksums.flaw(seal, ["forest.svg"])


def test_without_a_pair_of_sources_there_is_no_forest(tmp_path):
    assert of(tmp_path, "tag").forest() is None and not list(tmp_path.glob("made/figures/*"))


def test_a_figure_says_in_which_settings_its_panels_differ(tmp_path):
    workspace = Workspace(str(tmp_path / "made"))
    both = [planned(workspace), planned(workspace, drawn=[confounders.Noise()], training=Training(size=96))]
    runs = runs_of(workspace, *both)
    assert runs._differences(["tag", "noise"]) == "size 512 (tag), 96 (noise)"
    assert runs._differences(["tag"]) == ""
    assert runs.settings_of_runs()["size"].tolist() == [512, 96]
    assert pd.read_csv(tmp_path / "made" / "tables" / "settings_of_runs.csv")["size"].tolist() == [512, 96]
