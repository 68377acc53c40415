"""Grids and run folders, on a cohort small enough that a fine-tuning takes a fraction of a second."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score
from tiny_runs import TINY, files_of, make_cohort, plan, seem_done

from sourcematters import confounders, metrics, plugins
from sourcematters.confounders import design
from sourcematters.errors import StudyError
from sourcematters.runs import grids, guards, plans, run_folder, slurm
from sourcematters.runs.plans import status
from sourcematters.runs.run_folder import Workspace
from sourcematters.study.finished import FinishedRuns
from sourcematters.study.settings import Settings
from sourcematters.training import devices, memory
from sourcematters.training.image_bank import Rendering
from sourcematters.training.recipe import Training


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return make_cohort(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def serial(cohort, tmp_path_factory):
    """A finished grid of one worker: the workspace, its specs and its table."""
    workspace = Workspace(str(tmp_path_factory.mktemp("serial") / "made"))
    specs = plan(cohort, workspace, confounders.Tag(height=300), confounders.Gender())
    return workspace, specs, grids.run(specs, workspace, name="all", workers=1, device="cpu")


def test_a_run_folder_is_complete_and_its_metrics_follow_from_its_predictions(serial, cohort):
    workspace, specs, table = serial
    for spec in specs:
        folder = workspace.run(spec)
        names = {path.name for path in folder.iterdir()}
        assert names == {"spec.json", "history.csv", "predictions.csv", "metrics.json", "env.json", "done"}
        predictions = pd.read_csv(folder / "predictions.csv")
        assert predictions.columns.tolist() == "image_id patient_id label score test_set carries".split()
        assert set(predictions["image_id"]) <= set(cohort.table.loc[cohort.table["split"] == "test", "image_id"])
        for row in json.loads((folder / "metrics.json").read_text()):
            part = predictions[predictions["test_set"] == row["test_set"]]
            assert (row["n"], row["positives"]) == (len(part), part["label"].sum())
            assert row["patients"] == part["patient_id"].nunique()
            assert np.isclose(row["auc"], roc_auc_score(part["label"], part["score"]))
            found = table[(table["run_id"] == spec.id) & (table["test_set"] == row["test_set"])]
            assert found["auc"].tolist() == [row["auc"]]
            assert found[metrics.SIZE].to_numpy().tolist() == [[row[name] for name in metrics.SIZE]]
        saved = json.loads((folder / "spec.json").read_text())
        assert saved["id"] == spec.id and saved["training"]["epochs"] == 3


def test_a_grid_that_computes_blocks_again_gives_the_same_bytes(serial, cohort, tmp_path, monkeypatch):
    recomputed, recompute = [], memory.recompute
    monkeypatch.setattr(memory, "recompute", lambda model: (recomputed.append(model), recompute(model)))
    workspace = Workspace(str(tmp_path / "made"))
    specs = plan(cohort, workspace, confounders.Tag(height=300), p_art=[1])
    grids.run(specs, workspace, name="g", workers=1, device="cpu", recompute=True)
    assert len(recomputed) == len(specs) == 2
    for spec in specs:
        for name in ("history.csv", "predictions.csv"):
            one, other = (w.run(spec) / name for w in (workspace, serial[0]))
            assert one.read_bytes() == other.read_bytes()


def test_compiled_networks_are_not_computed_again(cohort, tmp_path):
    workspace = Workspace(str(tmp_path / "made"))
    specs = plan(cohort, workspace, training=TINY.replaced(compiled=True))
    with pytest.raises(StudyError, match="recompute and compiled exclude each other"):
        grids.run(specs, workspace, name="g", recompute=True)
    assert not workspace.own("plans").exists()


def test_tf32_is_refused_on_a_cpu_before_anything_is_made(cohort, tmp_path):
    workspace = Workspace(str(tmp_path / "made"))
    specs = plan(cohort, workspace, training=TINY.replaced(precision="tf32"))
    with pytest.raises(StudyError, match="^precision tf32: the device cpu has no TF32"):
        grids.run(specs, workspace, name="tf32", device="cpu")
    assert not workspace.own("plans").exists() and not list(workspace.shared("bank").glob("*.npy"))


def test_as_many_workers_as_fill_the_device(cohort, tmp_path, monkeypatch):
    asked = []

    def over_processes(function, tasks, workers):
        asked.extend([workers] if tasks else [])
        return iter(())

    monkeypatch.setattr(grids, "over_processes", over_processes)
    monkeypatch.setattr(grids, "collect", lambda *a: None)
    monkeypatch.setattr(grids.os.path, "exists", lambda path: True)  # as if there were a card
    monkeypatch.setattr(devices, "choose", lambda device: torch.device("cuda"))
    monkeypatch.setattr(devices, "runs_at_once", lambda backbone, training, device: 3)
    workspace = Workspace(str(tmp_path / "made"))
    specs = plan(cohort, workspace)
    grids.run(specs, workspace, name="g")
    grids.run(specs, workspace, name="g", workers=2)
    assert asked == [3, 2]


def test_a_compiled_network_is_compiled_once_and_learns_the_same(serial, cohort, tmp_path, monkeypatch):
    compiled, compile_ = [], torch.nn.Module.compile

    def without_a_c_compiler(model):
        compiled.append(model)
        compile_(model, backend="aot_eager")

    monkeypatch.setattr(torch.nn.Module, "compile", without_a_c_compiler)
    workspace = Workspace(str(tmp_path / "made"))
    options = dict(p_art=[1], folds=1, training=TINY.replaced(compiled=True))
    (spec,) = plan(cohort, workspace, confounders.Tag(height=300), **options)
    grids.run([spec], workspace, name="g", workers=1, device="cpu")
    assert len(compiled) == 1
    (eager,) = [s for s in serial[1] if s.replaced(training=spec.training) == spec]
    one, other = (pd.read_csv(w.run(s) / "predictions.csv") for w, s in ((workspace, spec), (serial[0], eager)))
    pd.testing.assert_frame_equal(one, other, rtol=0, atol=1e-3)


def test_at_strength_0_drawn_confounders_are_trained_once(serial, cohort):
    workspace, *_ = serial
    before = {path.name for path in workspace.shared("runs").iterdir()}
    assert sum("-none-p000-" in name for name in before) == 2
    specs = plan(cohort, workspace, confounders.Noise(n0=2e5), p_art=[0])
    table = grids.run(specs, workspace, name="noise", workers=1, device="cpu")
    new = {path.name for path in workspace.shared("runs").iterdir()} - before
    assert new == {spec.id for spec in specs}, "only scored: no other network was trained"
    # Nobody carries in the clean and in the i.i.d. test at strength 0: the same scores for both confounders.
    for test_set in ("iid", "clean"):  # noqa: B007 (used in the queries)
        theirs = serial[2].query("confounder == 'tag' and p_art == 0 and test_set == @test_set")["auc"]
        assert table.query("test_set == @test_set")["auc"].tolist() == theirs.tolist()


def test_two_workers_give_the_same_bytes(serial, cohort, tmp_path):
    _, specs, table = serial
    workspace = Workspace(str(tmp_path / "made"))
    again = plan(cohort, workspace, confounders.Tag(height=300), confounders.Gender())
    assert again == specs
    pd.testing.assert_frame_equal(grids.run(again, workspace, name="all", workers=2, device="cpu"), table)
    theirs = {k: v for k, v in files_of(serial[0]).items() if "-noise-" not in k}
    assert files_of(workspace) == theirs


SCRIPT = """
import signal
import sys
import pandas as pd
from sourcematters import confounders, metrics, plugins
from sourcematters.cohorts import Cohort
from sourcematters.runs import grids
from sourcematters.runs.run_folder import Workspace
sys.path.insert(0, {tests!r})
from tiny_runs import plan
cohort = Cohort(pd.read_csv({table!r}), "made", "brightness")
workspace = Workspace({results!r})
if __name__ == "__main__":
    # A shell that starts the tests in the background has them ignore Ctrl-C, and what they start as well.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    specs = plan(cohort, workspace, confounders.Tag(height=300), confounders.Gender())
    grids.run(specs, workspace, name="all", workers={workers}, device="cpu")
"""


@pytest.mark.parametrize(("sent", "workers"), [(signal.SIGINT, 1), (signal.SIGKILL, 2)], ids=["ctrl-c", "kill -9"])
def test_an_interrupted_grid_goes_on_and_ends_with_the_same_bytes(serial, cohort, tmp_path, sent, workers):
    workspace, table_path = Workspace(str(tmp_path / "made")), tmp_path / "cohort.csv"
    cohort.table.to_csv(table_path, index=False)
    script = tmp_path / "script.py"
    tests = str(Path(__file__).parents[1])
    script.write_text(SCRIPT.format(tests=tests, table=str(table_path), results=workspace.results, workers=workers))
    environment = {**os.environ, "SOURCEMATTERS_HEADLESS": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, str(script)], env=environment, stderr=subprocess.DEVNULL)
    deadline = time.time() + 90
    while not list(workspace.shared("runs").glob("made-*/done")):
        assert process.poll() is None and time.time() < deadline, "no run was made"
        time.sleep(0.02)
    process.send_signal(sent)
    assert process.wait(30) != 0
    specs = plan(cohort, workspace, confounders.Tag(height=300), confounders.Gender())
    done = [spec for spec in specs if (workspace.run(spec) / "done").exists()]
    assert len(done) < len(specs), "it was interrupted in the middle"
    table = grids.run(specs, workspace, name="all", workers=1, device="cpu")
    pd.testing.assert_frame_equal(table, serial[2])
    assert files_of(workspace) == {k: v for k, v in files_of(serial[0]).items() if "-noise-" not in k}


def test_a_finished_grid_is_only_read(serial):
    workspace, specs, table = serial

    def written():
        files = [path for name in ("runs", "bank", "cohorts") for path in workspace.shared(name).rglob("*")]
        return {path: path.stat().st_mtime_ns for path in files}

    before = written()
    pd.testing.assert_frame_equal(grids.run(specs, workspace, name="all", workers=1), table)
    assert written() == before


def test_a_failed_run_keeps_its_traceback_and_does_not_stop_the_others(cohort, tmp_path, monkeypatch):
    workspace = Workspace(str(tmp_path / "made"))
    specs = plan(cohort, workspace, p_art=[0.5, 1], folds=1)

    execute = run_folder.execute

    def broken(spec, *arguments, **options):
        if spec.p_art == 0.5:
            raise RuntimeError("the GPU fell off the bus")
        return execute(spec, *arguments, **options)

    monkeypatch.setattr(run_folder, "execute", broken)
    with pytest.raises(StudyError, match=r"(?s)1 of 2 runs failed.*fell off the bus.*failed/traceback.txt"):
        grids.run(specs, workspace, name="g", workers=1, device="cpu")
    folder = Path(f"{workspace.run(specs[0])}.failed")
    assert "RuntimeError: the GPU fell off the bus" in (folder / "traceback.txt").read_text()
    assert [run_folder.state(spec.id, workspace.shared("runs")) for spec in specs] == ["failed", "done"]
    text = status(tmp_path / "made")
    assert text.splitlines()[1].split() == ["made/g", "1", "0", "0", "1", "0", "0", "2"] and "traceback.txt" in text
    monkeypatch.undo()
    grids.run(specs, workspace, name="g", workers=1, device="cpu")
    assert not folder.exists()


def test_nothing_half_written_is_left_by_a_failed_run(cohort, tmp_path, monkeypatch):
    workspace = Workspace(str(tmp_path / "made"))
    (spec,) = plan(cohort, workspace, p_art=[1], folds=1)
    monkeypatch.setattr(metrics, "by_test_set", lambda *a: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_folder.execute(spec, workspace, run_folder.Execution("cpu"))
    assert {path.name for path in workspace.shared("runs").iterdir()} == {".locks"}


def test_states_are_read_off_the_files(tmp_path):
    def running_on(host, pid):
        beside = tmp_path / f".a-1.{host}.{pid}"
        beside.mkdir()
        (beside / "heartbeat").touch()
        return beside

    host = run_folder.socket.gethostname()
    assert run_folder.state("a-1", tmp_path) == "missing"
    (tmp_path / "a-1.failed").mkdir()
    assert run_folder.state("a-1", tmp_path) == "failed"
    beside = running_on(host, os.getpid())
    assert run_folder.state("a-1", tmp_path) == "running"
    os.utime(beside / "heartbeat", (0, 0))
    assert run_folder.state("a-1", tmp_path) == "failed", "this process was not there yet at the last heartbeat"
    shutil.rmtree(beside)
    finished = subprocess.Popen([sys.executable, "-c", ""])
    finished.wait()
    running_on(host, finished.pid)
    assert run_folder.state("a-1", tmp_path) == "failed", "its process is gone"
    (tmp_path / "a-1.failed").rmdir()
    assert run_folder.state("a-1", tmp_path) == "lost"
    assert run_folder.state("a-1", tmp_path, queued={"a-1"}) == "queued", "a job will make it again"
    (tmp_path / "a-1.failed").mkdir()
    beside = running_on("node7.cluster.example", 12)
    assert run_folder.state("a-1", tmp_path) == "running", "another machine's heartbeat is fresh"
    os.utime(beside / "heartbeat", (time.time() - 4000,) * 2)
    assert run_folder.state("a-1", tmp_path) == "failed", "and then it stopped"
    seem_done(tmp_path / "a-1")
    assert run_folder.state("a-1", tmp_path) == "done"
    (tmp_path / "a-1" / "history.csv").unlink()
    assert run_folder.state("a-1", tmp_path) == "failed", "it is not whole any more"


def test_status_tells_what_is_left(serial, tmp_path):
    workspace, specs, _ = serial
    text = status(workspace.results)
    line = next(line for line in text.splitlines() if line.startswith("made/all"))
    assert line.split() == ["made/all", "8", "0", "0", "0", "0", "0", "8"]
    assert "time left" not in text
    weak = grids.collect_plans(workspace)[0].groupby("run_id")["learned"].min()
    assert f"did not learn: {(weak == 0).sum()} of {len(weak)} runs done" in text
    shared = workspace.shared("runs")
    hidden = shared.with_name("hidden")
    os.rename(shared / specs[0].id, hidden)
    try:
        assert "time left: about 0:00:" in status(workspace.results)
    finally:
        os.rename(hidden, shared / specs[0].id)
    with pytest.raises(StudyError, match=r"no plans/\*.csv"):
        status(tmp_path)


def test_collecting_a_grid_that_is_not_done_names_a_run(cohort, tmp_path):
    workspace = Workspace(str(tmp_path / "made"))
    specs = plan(cohort, workspace)
    with pytest.raises(StudyError, match=f"4 of 4 runs are not done, e.g. {specs[0].id}"):
        grids.collect(grids.plan_table(specs), workspace)
    with pytest.raises(StudyError, match="no grid of runs is done"):
        grids.collect_plans(workspace)


def test_plans_are_collected_from_their_files(serial):
    workspace, _, table = serial
    collected, missing = grids.collect_plans(workspace)
    assert missing == []
    pd.testing.assert_frame_equal(collected[collected["run_id"].isin(table["run_id"])].iloc[: len(table)], table)


def delete_plan(workspace, name):
    for path in workspace.own("plans").glob(f"{name}.*"):
        path.unlink()


def test_a_run_in_two_plans_counts_once(serial):
    workspace, specs, table = serial
    plans.write(workspace, "a_second_name", grids.plan_table(specs[:4]))
    try:
        collected, missing = grids.collect_plans(workspace)
    finally:
        delete_plan(workspace, "a_second_name")
    assert missing == [] and not collected.duplicated(["run_id", "test_set"]).any()
    assert set(collected["run_id"]) >= {spec.id for spec in specs}


def test_plans_of_other_settings_are_refused(serial, cohort, tmp_path):
    workspace, _, _ = serial
    specs = plan(cohort, workspace, confounders.Tag(height=300), p_art=[1], training=TINY.replaced(epochs=1))
    grids.run(specs, workspace, name="shorter", workers=1, device="cpu")
    try:
        where = r"tag of task brightness: plans/all\.csv and plans/shorter\.csv differ in epochs \(3, 1\)"
        with pytest.raises(StudyError, match=where):
            grids.collect_plans(workspace)
    finally:
        delete_plan(workspace, "shorter")
        for spec in specs:
            shutil.rmtree(workspace.run(spec))


def test_a_test_set_below_the_minimum_is_left_out_or_refused(serial, cohort, tmp_path, capsys):
    # 8 test patients with 2 images each, 2 of either sex with and without the disease: 4 images a group, 8 a class.
    workspace, specs, table = serial
    gender = [spec.replaced(smallest_test=5) for spec in specs if spec.confounder.name == "gender"]
    assert set(table.loc[table["confounder"] == "gender", "test_set"]) == {"iid", "ood", "clean"}
    assert set(grids.collect(grids.plan_table(gender), workspace)["test_set"]) == {"ood"}
    empty = Workspace(str(tmp_path / "made"))
    with pytest.raises(StudyError, match=r"gender: .* has 4 positive and 4 negative images; .* 5 of each"):
        plan(cohort, empty, confounders.Gender(), smallest_test=5)
    plan(cohort, empty, confounders.Gender(), smallest_test=4)
    val = "gender, fold {}: the val part has 2 positive and 2 negative images: which epoch is kept rests on few.\n"
    assert capsys.readouterr().out == val.format(0) + val.format(1), "and nothing of a test"
    with pytest.raises(StudyError, match=r"tag: .* has 8 positive and 8 negative images; .* 9 of each"):
        plan(cohort, empty, smallest_test=9)
    fewer = replace(cohort, table=cohort.table.query("not (split == 'test' and sex == 'M' and label == 0)"))
    fewer = replace(cohort, table=pd.concat([fewer.table, cohort.table.query("image_id in ('i24-0', 'i24-1')")]))
    plan(fewer, empty, confounders.Gender(), smallest_test=4)
    sentence = capsys.readouterr().out
    assert sentence.count("It is left out.") == 2 and "the clean test has 2 positive and 2 negative images" in sentence


def test_what_figures_must_say_stands_in_the_last_column(serial, cohort):
    workspace, specs, table = serial
    assert set(table["caution"]) == {""}
    plan_table = grids.plan_table([spec.replaced(caution="phantoms, not patients") for spec in specs])
    assert plan_table.columns[-1] == "caution" and set(plan_table["caution"]) == {"phantoms, not patients"}
    assert grids.collect(plan_table, workspace)["caution"].unique().tolist() == ["phantoms, not patients"]


def test_the_digest_follows_rows_and_pixels_not_places(cohort, tmp_path):
    workspace = Workspace(str(tmp_path / "made"))
    digest = run_folder.register(cohort, workspace)
    moved = tmp_path / "moved"
    shutil.copytree(Path(cohort.table["path"][0]).parent, moved)
    paths = [str(moved / Path(path).name) for path in cohort.table["path"]]
    elsewhere = replace(cohort, table=cohort.table.assign(path=paths))
    assert run_folder.register(elsewhere, workspace) == digest
    flipped = replace(cohort, table=cohort.table.assign(label=1 - cohort.table["label"]))
    assert run_folder.register(flipped, workspace) != digest
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(paths[0])
    assert run_folder.register(elsewhere, workspace) != digest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"p_art": [0, 2]}, r"p_art = 2"),
        ({"folds": 30}, "there must be more patients than folds"),
        ({"sources": ["nonsense"]}, "unknown source `nonsense`"),
        ({"training": Training(size=32), "backbone": "nonsense", "sources": ["imagenet"]}, "timm has no backbone"),
    ],
    ids=str,
)
def test_bad_input_is_refused_before_anything_is_trained(cohort, tmp_path, changes, message):
    workspace = Workspace(str(tmp_path / "made"))
    with pytest.raises(StudyError, match=message):
        plan(cohort, workspace, **changes)
    assert not workspace.shared("runs").exists()


def test_an_image_that_vanished_is_named(cohort, tmp_path):
    paths = [*cohort.table["path"][:-1], str(tmp_path / "gone.png")]
    broken = replace(cohort, table=cohort.table.assign(path=paths))
    with pytest.raises(StudyError, match=r"image i31-1: .*gone\.png cannot be read"):
        plan(broken, Workspace(str(tmp_path / "made")))


def test_sources_are_described(tmp_path):
    table = grids.prepare_sources(["random"], "test_resnet", Workspace(str(tmp_path / "made")), workers=1)
    assert table[["source", "kind"]].to_numpy().tolist() == [["random", "random"]]


def test_the_demos_sources_are_proved_on_its_images_and_random_is_not(cohort, tmp_path, capsys):
    plugins.load(["sourcematters.demo"])
    names = ["natural-standin", "radiology-standin", "random"]
    how = {"cohort": cohort.table, "rendering": Rendering(size=64), "workers": 1}
    table = grids.prepare_sources(names, "test_resnet", Workspace(str(tmp_path / "made")), **how)
    numbers = table.set_index("source")[["bn_shift", "bn_stretch", "probe_auc", "probe_random"]]
    assert numbers.loc[names[:2]].notna().all(axis=None) and numbers.loc["random"].isna().all()
    assert numbers["probe_auc"].dropna().between(0, 1).all()
    warned = set(table.loc[table["warning"].fillna("") != "", "source"])
    assert all((f"WARNING: source {name}:" in capsys.readouterr().err) == (name in warned) for name in names[:1])


def test_a_full_disk_stops_the_grid_with_a_sentence(cohort, tmp_path, monkeypatch):
    workspace = Workspace(str(tmp_path / "made"))
    specs = plan(cohort, workspace, p_art=[1], folds=1)

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_folder, "write_csv", full)
    with pytest.raises(StudyError, match="the disk is full"):
        grids.run(specs, workspace, name="g", workers=1, device="cpu")
    left = {path.name for path in workspace.shared("runs").iterdir()}
    assert left <= {".locks", f"{specs[0].id}.failed"}


def test_progress_tells_loss_and_auc_of_the_run_just_made(cohort, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("SOURCEMATTERS_HEADLESS", "1")
    workspace = Workspace(str(tmp_path / "made"))
    specs = plan(cohort, workspace, p_art=[1], folds=1)
    table = grids.run(specs, workspace, name="g", workers=1, device="cpu").set_index("test_set")["auc"]
    loss = pd.read_csv(workspace.run(specs[0]) / "history.csv")["val_loss"].min()
    expected = f"val loss {loss:.2f}, AUC iid {table['iid']:.2f}, ood {table['ood']:.2f}, clean {table['clean']:.2f}"
    assert expected in capfd.readouterr().err


def test_of_many_runs_at_once_the_first_shows_its_epochs(cohort, tmp_path, monkeypatch):
    shown = []

    def attempt(spec, workspace, execution, show=False):
        shown.append((spec.id, show))
        return "failed"

    monkeypatch.setattr(grids, "attempt", attempt)
    monkeypatch.setattr(grids, "over_processes", lambda work, todo, workers: [(spec, work(spec)) for spec in todo])
    monkeypatch.setattr(grids, "_prepare", lambda *a: None)
    specs = plan(cohort, Workspace(str(tmp_path / "made")))
    for workers, those in ((2, specs[:1]), (1, specs)):
        shown.clear()
        with pytest.raises(StudyError, match="4 of 4 runs failed"):
            grids.run(specs, Workspace(str(tmp_path / "made")), name="g", workers=workers, device="cpu")
        assert shown == [(spec.id, spec in those) for spec in specs]


def test_a_library_error_of_a_run_is_told_with_its_name_and_ours_as_it_is(cohort, tmp_path, monkeypatch):
    workspace = Workspace(str(tmp_path / "made"))
    spec = plan(cohort, workspace, p_art=[1], folds=1)[0]
    for error, words in (
        (KeyError("sex"), "KeyError: 'sex'"),
        (StudyError("a.png: cut.\nCopy it."), "a.png: cut.\nCopy it."),
    ):

        def fail(*arguments, error=error, **named):
            raise error

        monkeypatch.setattr(run_folder, "_make", fail)
        told = run_folder.attempt(spec, workspace, run_folder.Execution())
        assert told.startswith(f"{spec.id}: {words} (")
        assert slurm._failure(spec, workspace) == told, "a job leaves the same words in the traceback"


def test_the_plan_tells_what_came_out_of_the_design(serial, cohort):
    workspace, specs, table = serial
    planned = grids.plan_table(specs)
    for spec, row in zip(specs, planned.to_dict("records"), strict=True):
        how = {"p_art": spec.p_art, "fold": spec.fold, "seed": spec.seed}
        train = design.sets(cohort.table, spec.confounder, **how).query("part == 'train'")
        counts = len(train), int(train["label"].sum()), int(train["carries"].sum())
        assert (row["train_n"], row["train_positives"], row["carriers"]) == counts
        assert row["carriers"] == round(spec.p_art * row["train_positives"])
    drawn = planned[planned["confounder"] != "gender"]
    assert (drawn["input_seen_in"] == 1).all() and (drawn["input_images"] == 40).all()
    assert set(guards.COLUMNS) <= set(table.columns) and set(table["doubt"].eq("")) == set(table["learned"] == 1)
    assert specs[0].replaced(came_out=(), caution="else").id == specs[0].id, "no part of what a run is"


def test_images_in_two_parts_are_refused_or_stand_beside_every_number(cohort, tmp_path, capsys):
    table = cohort.table.copy()
    test, dev = table.index[table["split"] == "test"], table.index[table["split"] == "dev"]
    table.loc[test[0], "path"] = table.loc[dev[0], "path"]
    few, workspace = replace(cohort, table=table), Workspace(str(tmp_path / "few"))
    results = grids.run(plan(few, workspace, folds=1), workspace, name="a", workers=1)
    assert set(results["caution"]) == {"1 of 16 test images are also in training"}
    table.loc[test[1:4], "path"] = table.loc[dev[1:4], "path"].to_numpy()
    many, workspace = replace(cohort, table=table), Workspace(str(tmp_path / "many"))
    specs = plan(many, workspace, folds=1)
    with pytest.raises(StudyError, match="made: 4 of 16 test images are in the development part too.*set force"):
        grids.run(specs, workspace, name="a", workers=1)
    assert not workspace.own("plans").exists()
    results = grids.run(specs, workspace, name="a", workers=1, force=True)
    assert set(results["caution"]) == {"4 of 16 test images are also in training"}


@pytest.mark.parametrize("called", ["nan", "None", "1", "1e5", "NA", "true"])
def test_names_are_read_back_as_the_text_that_they_are(cohort, tmp_path, called):
    workspace = Workspace(str(tmp_path / "made"))
    specs = plan(replace(cohort, name=called, task=called), workspace, folds=1)
    for spec in specs:
        seem_done(workspace.run(spec))
    plans.write(workspace, "tag", grids.plan_table(specs))
    planned = plans.read(workspace.own("plans/tag.csv"))
    assert planned["task"].tolist() == planned["data"].tolist() == [called] * 2
    pd.testing.assert_frame_equal(planned, grids.plan_table(specs))


def test_a_study_of_a_task_called_nan_has_all_its_tables(cohort, tmp_path):
    workspace = Workspace(str(tmp_path / "made"))
    grids.run(plan(replace(cohort, task="nan"), workspace, folds=1), workspace, name="tag", workers=1)
    table, missing = grids.collect_plans(workspace)
    runs = FinishedRuns(table, workspace, Settings(smallest_test=1), "all_runs", list)
    assert missing == [] and runs.table1().shape[1] == 1 and len(runs.by_source()) == 1
    assert runs.overview() is not None and (runs.summary["task"] == "nan").all()
