"""Setting `keep: weights`: what is kept, that nothing else changes, and how weights are had afterwards."""

import shutil

import pandas as pd
import pytest
import torch
from tiny_runs import files_of, make_cohort, plan

from sourcematters import checksums, confounders
from sourcematters.confounders import design
from sourcematters.errors import StudyError
from sourcematters.runs import check, grids, run_folder
from sourcematters.runs.run_folder import WEIGHTS, Execution, Workspace
from sourcematters.study.settings import Settings
from sourcematters.training import fine_tuning
from sourcematters.training.classifier import reproducible

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The same grid, once without weights and once with: (specs, workspace) of each."""
    folder, made = tmp_path_factory.mktemp("kept"), []
    cohort = make_cohort(folder)
    for keep in ("", "weights"):
        workspace = Workspace(str(folder / (keep or "none") / "demo"))
        specs = plan(cohort, workspace, folds=1)
        grids.run(specs, workspace, name="tag", workers=1, device="cpu", keep=keep)
        made.append((specs, workspace))
    return made


def without_weights(files):
    """Files of runs, seals without their line on the weights."""
    kept = {name: text for name, text in files.items() if not name.endswith(WEIGHTS)}
    return {
        name: b"\n".join(line for line in text.split(b"\n") if not line.endswith(WEIGHTS.encode()))
        for name, text in kept.items()
    }


def test_the_setting_is_one_of_two_and_no_part_of_a_runs_identity(both):
    assert Settings().keep == "" and Settings(keep="weights").keep == "weights"
    with pytest.raises(StudyError, match="keep"):
        Settings(keep="all")
    (plain, _), (keeping, _) = both
    assert [spec.id for spec in plain] == [spec.id for spec in keeping]


def test_only_the_weights_and_their_line_in_the_seal_are_new(both):
    (specs, plain), (_, keeping) = both
    before, after = files_of(plain), files_of(keeping)
    assert without_weights(before) == without_weights(after)
    trained = {f"{spec.fit.id}/{WEIGHTS}" for spec in specs}  # the one at strength 0 is of the run without confounder
    assert {name for name in after if name.endswith(WEIGHTS)} == trained and len(trained) == 2
    assert set(after) - set(before) == {f"{specs[1].id}/{WEIGHTS}"}
    assert WEIGHTS in checksums.read(keeping.run(specs[1]) / "done")


@pytest.mark.parametrize("strength", [0, 1])
def test_a_kept_network_makes_the_runs_predictions_again_to_the_last_digit(both, strength):
    _, (specs, workspace) = both
    spec = specs[strength]
    model = run_folder.network(spec, workspace)
    assert not model.training
    pixels = run_folder._pixels(spec.cohort, run_folder.renderings(spec), workspace)
    cohort = run_folder.open_registered(spec.cohort, workspace)
    sets = design.sets(cohort, spec.confounder, p_art=spec.p_art, fold=spec.fold, seed=spec.seed)
    tests = sets[sets["part"].isin(["iid", "ood", "clean"])]
    with reproducible(0, CPU):
        scores = fine_tuning.score(model, pixels, tests, spec.training, device=CPU)
    kept = pd.read_csv(workspace.run(spec) / "predictions.csv", dtype=str)
    assert kept["image_id"].tolist() == tests["image_id"].tolist()
    assert kept["score"].astype(float).tolist() == scores.tolist() and len(set(scores)) > 10


def test_a_run_without_weights_says_how_to_get_them_and_gets_them(both, tmp_path, capsys):
    (specs, plain), (_, keeping) = both
    shutil.copytree(plain.shared("runs").parent, tmp_path / "copy")
    workspace = Workspace(str(tmp_path / "copy" / "demo"))
    with pytest.raises(StudyError, match=r"weights\.safetensors: is not there\. .*`-p keep weights`"):
        run_folder.network(specs[1], workspace)
    grids.run(specs, workspace, name="tag", workers=1, device="cpu", keep="weights")
    said = capsys.readouterr()
    assert "1 runs that are done have kept no weights: they are trained again" in said.out
    assert "predicts otherwise" not in said.err
    assert files_of(workspace) == files_of(keeping)
    # Who does not ask for them keeps what is there.
    grids.run(specs, workspace, name="tag", workers=1, device="cpu")
    assert files_of(workspace) == files_of(keeping)


def test_a_run_that_predicts_otherwise_when_trained_again_is_told(both, tmp_path, capsys):
    (specs, plain), _ = both
    shutil.copytree(plain.shared("runs").parent, tmp_path / "copy")
    workspace = Workspace(str(tmp_path / "copy" / "demo"))
    folder = workspace.run(specs[1])
    table = pd.read_csv(folder / "predictions.csv", dtype=str)
    table.loc[0, "score"] = repr(float(table["score"][0]) + 0.125)
    table.to_csv(folder / "predictions.csv", index=False)
    checksums.seal(folder / "done", [folder / name for name in run_folder.FILES])
    run_folder.execute(specs[1], workspace, Execution("cpu", keep="weights"))
    said = capsys.readouterr().err
    assert specs[1].id in said and "predicts otherwise, by up to 0.12" in said


def test_damaged_weights_are_found_refused_and_made_again(both, tmp_path):
    _, (specs, keeping) = both
    shutil.copytree(keeping.shared("runs").parent, tmp_path / "copy")
    workspace = Workspace(str(tmp_path / "copy" / "demo"))
    path = workspace.run(specs[1]) / WEIGHTS
    path.write_bytes(b"x" + path.read_bytes()[1:])
    assert check.report(workspace.own(""))[1] == 1
    with pytest.raises(StudyError, match=rf"{WEIGHTS}: does not match its checksum"):
        run_folder.network(specs[1], workspace)
    run_folder.execute(specs[1], workspace, Execution("cpu", keep="weights"))
    assert files_of(workspace) == files_of(keeping) and check.report(workspace.own(""))[1] == 0


def test_a_sampled_confounder_keeps_its_networks_at_strength_0_too(tmp_path):
    workspace = Workspace(str(tmp_path / "r" / "demo"))
    specs = plan(make_cohort(tmp_path), workspace, confounders.Gender(), folds=1, p_art=[0])
    run_folder.execute(specs[0], workspace, Execution("cpu", keep="weights"))
    assert run_folder.network(specs[0], workspace).classifier.out_features == 2
