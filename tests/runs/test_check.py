"""What becomes of damaged runs, plans and cohorts, and what `check` says of a results folder."""

import os
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from tiny_runs import files_of, make_cohort, plan

from sourcematters import checksums
from sourcematters.errors import StudyError
from sourcematters.runs import check, grids, plans, run_folder
from sourcematters.runs.plans import status
from sourcematters.runs.run_folder import Execution, Workspace


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return make_cohort(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def finished(cohort, tmp_path_factory):
    """A grid of two runs, one of them at strength 0, and the run whose network that one scores."""
    workspace = Workspace(str(tmp_path_factory.mktemp("finished") / "made"))
    specs = plan(cohort, workspace, folds=1)
    return workspace, specs, grids.run(specs, workspace, name="g", workers=1, device="cpu")


@pytest.fixture
def made(finished, tmp_path):
    """A copy of it, to be damaged."""
    workspace, specs, table = finished
    shutil.copytree(workspace.shared("runs").parent, tmp_path / "results")
    run_folder.open_registered.cache_clear()
    run_folder._pixels.cache_clear()
    return Workspace(str(tmp_path / "results" / "made")), specs, table


def edit(old, new):
    def change(path):
        content = path.read_bytes()
        assert old in content
        path.write_bytes(content.replace(old, new, 1))

    return change


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGES = {
    "a score": ("predictions.csv", edit(b"0.", b"1.")),
    "a label": ("predictions.csv", edit(b",0,", b",1,")),
    "ten rows": ("predictions.csv", lambda path: path.write_text("".join(path.read_text().splitlines(True)[:-10]))),
    "cut": ("predictions.csv", cut),
    "empty": ("predictions.csv", lambda path: path.write_text("")),
    "deleted": ("predictions.csv", Path.unlink),
    "history": ("history.csv", edit(b"0.", b"1.")),
    "spec": ("spec.json", edit(b'"seed": 0', b'"seed": 1')),
    "metrics": ("metrics.json", cut),
    "seal deleted": ("done", Path.unlink),
    "seal emptied": ("done", lambda path: path.write_text("")),
    "seal cut": ("done", cut),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_run_is_refused_where_it_is_read_and_made_again_where_runs_are_made(made, damage, capfd):
    workspace, specs, table = made
    before, (name, change) = files_of(workspace), DAMAGES[damage]
    folder = workspace.run(specs[1])
    change(folder / name)
    with pytest.raises(StudyError, match=rf"{specs[1].id}/[a-z]+\..*Run its notebook again"):
        grids.collect_plans(workspace)
    with pytest.raises(StudyError, match=f"{specs[1].id}/"):
        run_folder.predictions(folder)
    text, wrong = check.report(workspace.results)
    assert wrong == 1 and "would be made again:\n" in text and f"/{specs[1].id}/" in text
    assert "made/g" in status(workspace.results)
    capfd.readouterr()
    again = grids.run(specs, workspace, name="g", workers=1, device="cpu")
    pd.testing.assert_frame_equal(again, table)
    assert files_of(workspace) == before and (folder / "env.json").exists()
    said = capfd.readouterr().err
    assert said.count("the run is made again") == 1 and f"{folder}/" in said
    assert check.report(workspace.results)[1] == 0


def test_another_runs_folder_under_a_runs_name_is_not_taken_for_it(made):
    workspace, specs, table = made
    shutil.rmtree(workspace.run(specs[0]))
    shutil.copytree(workspace.run(specs[1]), workspace.run(specs[0]))
    with pytest.raises(StudyError, match=f"{specs[0].id}/spec.json: is of another run, {specs[1].id}"):
        grids.collect_plans(workspace)
    pd.testing.assert_frame_equal(grids.run(specs, workspace, name="g", workers=1, device="cpu"), table)


@pytest.mark.parametrize("change", [cut, Path.unlink, edit(b"\x00\x00\x00\x00", b"\x00\x00\x00\x01")])
def test_damaged_weights_of_strength_0_are_trained_again_before_they_are_scored(made, change, capfd):
    workspace, specs, table = made
    before, at_zero = files_of(workspace), specs[0]
    change(workspace.run(at_zero.fit) / "weights.safetensors")
    text, wrong = check.report(workspace.results)
    assert wrong == 1 and "weights.safetensors" in text
    pd.testing.assert_frame_equal(grids.run(specs, workspace, name="g", workers=1, device="cpu"), table)
    shutil.rmtree(workspace.run(at_zero))
    capfd.readouterr()
    pd.testing.assert_frame_equal(grids.run(specs, workspace, name="g", workers=1, device="cpu"), table)
    assert files_of(workspace) == before
    assert capfd.readouterr().err.count("weights.safetensors: ") == 1


@pytest.mark.skipif(not shutil.which("sha256sum"), reason="coreutils are not here")
def test_a_person_can_check_a_run_with_coreutils(made):
    workspace, specs, _ = made
    for spec in (specs[0].fit, specs[1]):
        checked = subprocess.run(["sha256sum", "-c", "--strict", "done"], cwd=workspace.run(spec), capture_output=True)
        listed = {line.split(b":")[0].decode() for line in checked.stdout.splitlines()}
        assert checked.returncode == 0
        assert listed == {path.name for path in workspace.run(spec).iterdir()} - {"done", "env.json"}


def test_env_json_is_an_account_that_no_number_depends_on(made):
    workspace, specs, table = made
    for change in (cut, lambda path: path.write_text("[]"), Path.unlink):
        change(workspace.run(specs[1]) / "env.json")
        pd.testing.assert_frame_equal(grids.run(specs, workspace, name="g", workers=1), table)
        shutil.rmtree(workspace.run(specs[0]), ignore_errors=True)
        assert "time left" not in status(workspace.results)
        (workspace.run(specs[1]) / "env.json").write_text('{"seconds": 5}')
        assert "about 0:00:05 (5 s a run" in status(workspace.results)


@pytest.mark.parametrize(
    "change", [lambda path: path.write_text("".join(path.read_text().splitlines(True)[:-1])), cut,
               lambda path: path.write_text(""), lambda path: path.write_text("<html>\n"),
               lambda path: path.with_suffix(".sha256").unlink()],
    ids=["a row less", "cut", "empty", "no table", "not sealed"],
)  # fmt: skip
def test_a_damaged_plan_is_refused_told_and_written_anew(made, change, capfd):
    workspace, specs, table = made
    path = workspace.own("plans/g.csv")
    before = path.read_bytes()
    change(path)
    with pytest.raises(StudyError, match=r"plans/g\.csv: .*Run the notebook that makes these runs again"):
        grids.collect_plans(workspace)
    assert "plans/g.csv: " in status(workspace.results)
    text, wrong = check.report(workspace.results)
    assert wrong == 1 and "plans/g.csv: " in text
    pd.testing.assert_frame_equal(grids.run(specs, workspace, name="g", workers=1), table)
    assert path.read_bytes() == before and capfd.readouterr().err.count("it is written anew") == 1
    assert plans.read(path)["run_id"].tolist() == [spec.id for spec in specs]


def test_a_plan_that_was_deleted_does_not_just_drop_out_of_the_tables(made):
    workspace, specs, table = made
    path = workspace.own("plans/g.csv")
    path.unlink()
    with pytest.raises(StudyError, match=r"plans/g\.csv: is not there.*not wanted.*with its \.sha256"):
        grids.collect_plans(workspace)
    assert status(workspace.results).startswith(f"{path}: is not there")
    path.with_suffix(".sha256").unlink()
    with pytest.raises(StudyError, match="no grid of runs is done"):
        grids.collect_plans(workspace)


def test_a_damaged_page_is_told(made):
    workspace, _, _ = made
    with checksums.sealing(workspace.own("explorer.html")) as beside:
        beside.write_text("<p>whole</p>")
    assert check.report(workspace.results)[1] == 0
    workspace.own("explorer.html").write_text("<p>who")
    text, wrong = check.report(workspace.results)
    assert wrong == 1 and "explorer.html: does not match its checksum in explorer.sha256; written anew" in text


def test_a_damaged_cohort_is_refused_and_registered_anew(made, cohort, capfd):
    workspace, specs, _ = made
    path = workspace.shared("cohorts") / f"{specs[0].cohort}.csv"
    before = path.read_bytes()
    edit(b",0,", b",1,")(path)
    with pytest.raises(StudyError, match=rf"{path.name}: does not match .*registers the cohort anew"):
        run_folder.open_registered(specs[0].cohort, workspace)
    shutil.rmtree(workspace.run(specs[1]))
    with pytest.raises(StudyError, match=path.name):
        run_folder.execute(specs[1], workspace, Execution("cpu"))
    assert run_folder.register(cohort, workspace) == specs[0].cohort
    assert path.read_bytes() == before and capfd.readouterr().err.count("the cohort is registered anew") == 1


def test_check_tells_what_would_be_made_again_and_what_cannot(made, command):
    workspace, specs, _ = made
    code, out, err = command("check", workspace.results)
    assert code == 0 and "files and runs are as they were written" in out and "again" not in out
    for folder in (workspace.results, os.path.dirname(workspace.results)):
        assert command("check", folder)[0] == 0
    for pattern in ("bank/*.npy", "bank/files.csv", "cohorts/*.csv", "made/plans/*.csv"):
        (path,) = list(Path(workspace.results).parent.glob(pattern))[:1]
        path.write_bytes(path.read_bytes()[:-1])
    checksums.write_csv(workspace.own("tables/t.csv"), pd.DataFrame({"a": [1]}))
    workspace.own("tables/t.csv").unlink()
    record = workspace.shared("slurm") / "g-1a" / "runs.csv"
    checksums.write_csv(record, pd.DataFrame({"task": [0], "run_id": ["r"]}))
    record.write_text("task,run_id\n")
    shutil.copytree(workspace.run(specs[1]), workspace.shared("runs") / "of-no-plan")
    code, out, _ = command("check", os.path.dirname(workspace.results))
    again, never = out.split("cannot be made again by the package:\n")
    assert code == 1 and again.startswith("would be made again:\n")
    for name in (".npy: does not", "files.csv: does not", f"{specs[0].cohort}.csv: does not", "g.csv: does not"):
        assert again.count(name) == 1
    assert "tables/t.csv: is not there; written anew by its notebook" in again
    assert "slurm/g-1a/runs.csv: does not match" in never and "scancel --name g-1a" in never
    assert "of-no-plan/spec.json: is of another run" in never
    code, out, _ = command("check", workspace.results)
    assert code == 1 and "of-no-plan" not in out, "a profile's folder: only what its plans have"


def test_check_changes_nothing_and_refuses_what_is_no_study(made, tmp_path, command):
    workspace, specs, _ = made
    cut(workspace.run(specs[0]) / "history.csv")
    root = Path(workspace.results).parent
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert command("check", workspace.results)[0] == 1
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
    (tmp_path / "empty").mkdir()
    code, _, err = command("check", str(tmp_path / "empty"))
    assert code == 2 and "nothing of a study is in it" in err
    code, _, err = command("check", str(tmp_path / "nowhere"))
    assert code == 2 and "nowhere" in err
