"""Slurm as the executor: what it is asked and told, and a real one (tests/slurm/start.sh) where there is one."""

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest
from filelock import FileLock
from tiny_runs import TINY, make_cohort, plan

from sourcematters import confounders, executors, grids, runs
from sourcematters.errors import StudyError
from sourcematters.executors import Slurm
from sourcematters.runs import Workspace
from sourcematters.specs import Training

NEVER_BEGAN = "It never began (cancelled while it was queued?)"


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return make_cohort(tmp_path_factory.mktemp("images"))


# What can be told without a cluster


def test_options_are_ours_or_sbatchs():
    settings = Slurm.of({"partition": "gpu", "cpus-per-task": 2, "time": 90, "runs_per_job": 4})
    assert (settings.time, settings.runs_per_job) == (90, 4)
    assert settings.sbatch == {"partition": "gpu", "cpus_per_task": 2}
    assert Slurm.of({}) == Slurm()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"time": "1:00:00"}, "time = '1:00:00': it must be a whole number of minutes, at least 5"),
        ({"time": 4}, "at least 5"),
        ({"runs_per_job": 1.5}, "runs_per_job = 1.5: it must be a whole number, at least 1"),
        ({"runs_per_job": True}, "runs_per_job = True"),
        ({"poll_seconds": -1}, "poll_seconds = -1: it must be a number, at least 0"),
        ({"job-name": "x"}, "job_name cannot be chosen"),
    ],
    ids=str,
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(StudyError, match=message):
        Slurm.of(options)


def test_an_unknown_executor_or_option_is_refused_before_anything_is_made(cohort, tmp_path):
    workspace = Workspace(str(tmp_path / "made"))
    specs = plan(cohort, workspace)
    with pytest.raises(StudyError, match="executor = 'pbs': it must be local or slurm"):
        grids.run(specs, workspace, name="g", executor="pbs")
    with pytest.raises(StudyError, match="time = 0"):
        grids.run(specs, workspace, name="g", executor="slurm", slurm={"time": 0})
    assert not workspace.own("plans").exists()


def test_runs_that_score_one_network_go_into_one_job(cohort, tmp_path):
    workspace = Workspace(str(tmp_path / "made"))
    specs = plan(cohort, workspace, confounders.tag(height=300), confounders.noise(2e5), p_art=[0, 1], folds=3)
    for runs_per_job, sizes in ((1, [2, 2, 2] + [1] * 6), (4, [4, 4, 4]), (100, [12])):
        jobs = executors.bundles(specs, runs_per_job)
        assert [len(job) for job in jobs] == sizes
        assert sorted(spec.id for job in jobs for spec in job) == sorted(spec.id for spec in specs)
        fits = [{spec.fit.id for spec in job} for job in jobs]
        assert sum(map(len, fits)) == len(set.union(*fits)) == 9, "no network is in two jobs"


def submission(folder, name, *run_ids):
    (folder / name).mkdir(parents=True)
    rows = "\n".join(f"{task},{run_id}" for task, run_id in enumerate(run_ids))
    (folder / name / "runs.csv").write_text(f"task,run_id\n{rows}\n")


def answer(monkeypatch, text="", code=0, error=""):
    asked = []

    def run(command, **options):
        asked.append(command)
        if code:
            raise subprocess.CalledProcessError(code, command, stderr=error)
        return subprocess.CompletedProcess(command, 0, text)

    monkeypatch.setattr(subprocess, "run", run)
    return asked


def test_the_queue_is_compared_with_what_was_submitted(tmp_path, monkeypatch):
    asked = answer(monkeypatch, "20_tag-1a|1\n20_tag-1a|3\n21-2b|N/A\n")
    assert executors.in_queue(tmp_path) == set() and not asked, "nothing was submitted: squeue is not asked"
    submission(tmp_path, "20_tag-1a", "a", "b", "c", "d")
    submission(tmp_path, "21-2b", "e")
    assert executors.in_queue(tmp_path) == {"b", "d", "e"}
    assert asked[0][-1] == "--name=20_tag-1a,21-2b"


def test_a_silent_squeue_is_not_an_empty_queue(tmp_path, monkeypatch):
    submission(tmp_path, "20_tag-1a", "a")
    answer(monkeypatch, code=1, error="slurm_load_jobs error: Unable to contact slurm controller")
    with pytest.raises(StudyError, match="squeue does not answer .slurm_load_jobs error: Unable to contact"):
        executors.in_queue(tmp_path)


def test_the_wait_outlasts_a_controller_that_restarts(cohort, tmp_path, monkeypatch):
    workspace = Workspace(str(tmp_path / "made"))
    (spec,) = plan(cohort, workspace, p_art=[1], folds=1)
    submission(workspace.shared("slurm"), "g-1a", spec.id)
    answers = iter([{spec.id}, StudyError("silent"), StudyError("silent"), {spec.id}, set(), set()])

    def in_queue(folder):
        found = next(answers)
        if isinstance(found, StudyError):
            raise found
        return found

    monkeypatch.setattr(executors, "in_queue", in_queue)
    options = dict(name="g", device="cpu", checkpoint_seconds=0, settings=Slurm(poll_seconds=0))
    outcomes = list(executors.slurm([spec], workspace, **options))
    assert outcomes == [(spec, f"{spec.id}: its job is gone; start again to resubmit it. {NEVER_BEGAN}")]
    assert list(answers) == []


def test_a_run_that_failed_in_its_job_is_told_and_one_that_is_done_too(cohort, tmp_path, monkeypatch):
    workspace = Workspace(str(tmp_path / "made"))
    good, bad = plan(cohort, workspace, p_art=[1], folds=2)
    submission(workspace.shared("slurm"), "g-1a", good.id, bad.id)
    shared, polls = workspace.shared("runs"), []

    def in_queue(folder):
        polls.append(folder)
        if len(polls) == 2:
            (shared / f"{bad.id}.failed").mkdir(parents=True)
            (shared / f"{bad.id}.failed" / "traceback.txt").write_text("Traceback\nValueError: too dark\n")
        if len(polls) == 3:
            (shared / good.id).mkdir()
            (shared / good.id / "done").touch()
        return {good.id, bad.id}

    monkeypatch.setattr(executors, "in_queue", in_queue)
    monkeypatch.setattr(executors, "_submit", lambda *a: pytest.fail("both have a job"))
    options = dict(name="g", device="cpu", checkpoint_seconds=0, settings=Slurm(poll_seconds=0))
    traceback = shared / f"{bad.id}.failed" / "traceback.txt"
    expected = [(bad, f"{bad.id}: ValueError: too dark ({traceback})"), (good, "")]
    assert list(executors.slurm([good, bad], workspace, **options)) == expected
    # Called again, while its old job still makes other runs: what failed is given to a new one.
    submitted = []
    monkeypatch.setattr(executors, "_submit", lambda specs, *a: submitted.extend(specs))
    list(executors.slurm([bad], workspace, **options))
    assert submitted == [bad]


def test_the_logs_of_what_is_done_are_deleted(cohort, tmp_path):
    workspace = Workspace(str(tmp_path / "made"))
    folder, shared = workspace.shared("slurm"), workspace.shared("runs")
    submission(folder, "done-1a", "a", "b")
    submission(folder, "ending-2b", "b", "c")
    submission(folder, "lost-3c", "a", "d")
    for run_id in "abc":
        (shared / run_id).mkdir(parents=True)
        (shared / run_id / "done").touch()
    executors._tidy({"c"}, workspace)
    assert sorted(path.name for path in folder.iterdir()) == ["ending-2b", "lost-3c"]


def test_why_a_job_is_gone_is_read_off_its_log(tmp_path):
    submission(tmp_path, "g-1a", "a", "b")
    submission(tmp_path, "g-2b", "b")
    assert executors._last_words("b", tmp_path) == NEVER_BEGAN
    (tmp_path / "g-1a" / "7_1_0_log.err").write_text("warning\nslurmstepd: error: CANCELLED DUE TO TIME LIMIT\n")
    (tmp_path / "g-1a" / "7_0_0_log.err").write_text("of another run\n")
    os.utime(tmp_path / "g-1a" / "7_1_0_log.err", (1, 1))
    assert "Its last words: slurmstepd: error: CANCELLED DUE TO TIME LIMIT (" in executors._last_words("b", tmp_path)
    (tmp_path / "g-2b" / "8_0_log.err").write_text("Out Of Memory\n")
    assert executors._last_words("b", tmp_path) == f"Its last words: Out Of Memory ({tmp_path}/g-2b/8_0_log.err)"


def test_status_shows_queued_and_lost_runs_where_there_are_any(cohort, tmp_path, monkeypatch):
    workspace = Workspace(str(tmp_path / "made"))
    specs = plan(cohort, workspace)
    grids.write_csv(workspace.own("plans/g.csv"), grids.plan_table(specs))
    assert grids.status(tmp_path).splitlines()[0].split() == ["plan", "done", "running", "failed", "missing", "of"]
    submission(workspace.shared("slurm"), "g-1a", *[spec.id for spec in specs])
    answer(monkeypatch, "g-1a|0\ng-1a|2\n")
    (workspace.shared("runs") / f".{specs[1].id}.node7.12").mkdir(parents=True)  # without a heartbeat
    head, line, *_ = grids.status(tmp_path).splitlines()
    counts = dict(zip(head.split()[1:], line.split()[1:], strict=True))
    assert counts == dict(done="0", running="0", queued="2", failed="0", lost="1", missing="1", of="4")
    answer(monkeypatch, code=1, error="no controller")
    assert "squeue does not answer (no controller)" in grids.status(tmp_path)


def test_without_sbatch_it_says_so(cohort, tmp_path, monkeypatch):
    workspace = Workspace(str(tmp_path / "made"))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(StudyError, match="there is no sbatch here"):
        grids.run(plan(cohort, workspace), workspace, name="g", executor="slurm", device="cpu")


def test_a_job_that_has_to_end_begins_no_further_run(cohort, tmp_path, monkeypatch):
    workspace = Workspace(str(tmp_path / "made"))
    bundle = executors.Bundle(plan(cohort, workspace), workspace, "cpu", 0)
    tried = []

    def attempt(spec, **options):
        tried.append(spec)
        if len(tried) == 2:
            bundle.checkpoint()
        return ""

    monkeypatch.setattr(executors, "attempt", attempt)
    bundle()
    assert tried == bundle.specs[:2]
    bundle()  # the requeued job
    assert tried[2:] == bundle.specs


# A real Slurm


def controller_answers():
    try:
        return subprocess.run(["sinfo"], capture_output=True, timeout=10).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A Slurm that answers: the one there is, or with SOURCEMATTERS_SLURM=1 one that is started for these tests."""
    if not shutil.which("sbatch"):
        pytest.skip("no Slurm here: there is no sbatch (apt-get install slurm-wlm munge, then tests/slurm/start.sh)")
    start = Path(__file__).parent / "slurm" / "start.sh"
    if controller_answers():
        yield
        return
    if os.environ.get("SOURCEMATTERS_SLURM") != "1":
        pytest.skip(f"no Slurm controller answers; start one with {start}, or set SOURCEMATTERS_SLURM=1")
    said = subprocess.run([start], capture_output=True, text=True, check=True).stdout
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", re.search(r"SLURM_CONF=(.*)", said)[1])
        yield
        subprocess.run([start, "stop"], check=True)


def wait_for(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
    return found


def grid_of_24(cohort, workspace):
    settings = Training(**{**TINY.__dict__, "epochs": 20, "patience": 20})
    drawn = confounders.tag(height=300), confounders.noise(2e5)
    return plan(cohort, workspace, *drawn, p_art=[0, 0.5, 1], folds=4, training=settings)


def files_of(workspace):
    root = workspace.shared("runs")
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path.name != "env.json" and ".locks" not in path.parts
    }


def array_of(workspace):
    """The one submission: its name, its array's number, and the task of every run."""
    (folder,) = workspace.shared("slurm").iterdir()
    number = next(folder.glob("*_submission.sh")).name.split("_")[0]
    return folder, number, {run_id: task for task, run_id in executors._records(folder.parent)[folder.name]}


def halfway(specs, shared):
    """A run that has kept a checkpoint, and the number of its process."""
    for spec in specs:
        for beside in shared.glob(f".{spec.id}.*"):
            if (shared / ".checkpoints" / f"{spec.id}.pt").exists():
                return spec, int(beside.name.rpartition(".")[2])


def test_a_grid_with_a_cancelled_a_killed_and_a_late_job_ends_as_the_serial_one(cluster, cohort, tmp_path, monkeypatch):
    serial = Workspace(str(tmp_path / "serial" / "made"))
    expected = grids.run(grid_of_24(cohort, serial), serial, name="g", workers=1, device="cpu")

    workspace = Workspace(str(tmp_path / "slurm" / "made"))
    specs = grid_of_24(cohort, workspace)
    assert len(specs) == 24
    late, cancelled = specs[4], specs[-1]
    shared = workspace.shared("runs")

    def run(interrupted=False, **options):
        # Less time than a person may give: it is over 40 to 100 seconds after a job's start.
        slurm = {"poll_seconds": 0.5, "signal_delay_s": 20, "additional_parameters": {"time": 2}, **options}
        with pytest.MonkeyPatch.context() as patch:
            if interrupted:
                patch.setattr(executors.time, "sleep", lambda seconds: signal.raise_signal(signal.SIGINT))
            return grids.run(
                specs, workspace, name="g", device="cpu", executor="slurm", slurm=slurm, checkpoint_seconds=0
            )

    def state(spec):
        return runs.state(spec.id, shared, executors.in_queue(workspace.shared("slurm")))

    (shared / ".locks").mkdir(parents=True)
    with FileLock(shared / ".locks" / f"{late.id}.lock"):  # it waits for this until its time is over
        with pytest.raises(KeyboardInterrupt):
            run(interrupted=True)
        folder, number, task = array_of(workspace)
        assert len(set(task.values())) == 20, "24 runs; four networks serve two of them each"
        with pytest.raises(KeyboardInterrupt):
            run(interrupted=True)
        assert list(workspace.shared("slurm").iterdir()) == [folder], "nothing was submitted twice"
        subprocess.run(["scancel", f"{number}_{task[cancelled.id]}"], check=True)
        killed, process = wait_for(lambda: halfway(specs, shared))
        os.kill(process, signal.SIGKILL)
        log = folder / f"{number}_{task[late.id]}_0_log.out"
        wait_for(lambda: log.exists() and "Requeued job" in log.read_text())
    wait_for(lambda: state(killed) != "queued")
    assert (state(killed), state(cancelled)) == ("lost", "missing")
    text = grids.status(workspace.results)
    assert "lost" in text.splitlines()[0]
    print(text)
    table = run(runs_per_job=2)
    pd.testing.assert_frame_equal(table, expected)
    assert files_of(workspace) == files_of(serial)
