"""Slurm as the executor: what it is asked and told, and a real one (tests/slurm/start.sh) where there is one."""

import os
import re
import shutil
import signal
import subprocess
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import submitit
import torch
from filelock import FileLock
from tiny_runs import TINY, files_of, make_cohort, plan, seem_done

from sourcematters import checksums, confounders
from sourcematters.errors import StudyError
from sourcematters.files import read_json
from sourcematters.runs import grids, plans, run_folder, slurm
from sourcematters.runs.plans import status
from sourcematters.runs.run_folder import Execution, Workspace
from sourcematters.runs.slurm import Slurm

AT_ONCE = Execution("cpu", checkpoint_seconds=0)
NEVER_BEGAN = "It never began (cancelled while it was queued?)"


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return make_cohort(tmp_path_factory.mktemp("images"))


# What can be told without a cluster


def test_options_are_ours_or_sbatchs():
    settings = Slurm(**{"partition": "gpu", "cpus-per-task": 2, "time": 90, "runs_per_job": 4})
    assert (settings.time, settings.runs_per_job) == (90, 4)
    assert settings.model_extra == {"partition": "gpu", "cpus_per_task": 2}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"time": "1:00:00"}, "Slurm: time = '1:00:00': should be a valid integer"),
        ({"time": 4}, "time = 4: should be greater than or equal to 5"),
        ({"runs_per_job": 1.5}, "runs_per_job = 1.5: should be a valid integer"),
        ({"runs_per_job": True}, "runs_per_job = True: a number is wanted"),
        ({"poll_seconds": -1}, "poll_seconds = -1: should be greater than or equal to 0"),
        ({"job-name": "x"}, "job_name cannot be chosen"),
    ],
    ids=str,
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(StudyError, match=message):
        Slurm(**options)


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
    specs = plan(cohort, workspace, confounders.Tag(height=300), confounders.Noise(n0=2e5), p_art=[0, 1], folds=3)
    for runs_per_job, sizes in ((1, [2, 2, 2] + [1] * 6), (4, [4, 4, 4]), (100, [12])):
        jobs = slurm.bundles(specs, runs_per_job)
        assert [len(job) for job in jobs] == sizes
        assert sorted(spec.id for job in jobs for spec in job) == sorted(spec.id for spec in specs)
        fits = [{spec.fit.id for spec in job} for job in jobs]
        assert sum(map(len, fits)) == len(set.union(*fits)) == 9, "no network is in two jobs"


class Jobs(list):
    options = None


@pytest.fixture
def submitted(monkeypatch):
    """The runs that sbatch would have got, a list a job; `submitted.options` are what it was told."""
    jobs = Jobs()

    class Executor:
        def __init__(self, folder, max_num_timeout):
            pass

        def update_parameters(self, **options):
            jobs.options = options

        def submit_array(self, bundles):
            jobs.extend(list(bundle.specs) for bundle in bundles)

    monkeypatch.setattr(submitit, "SlurmExecutor", Executor)
    monkeypatch.setattr(shutil, "which", lambda name: name)
    return jobs


def submission(folder, name, *run_ids):
    table = pd.DataFrame({"task": range(len(run_ids)), "run_id": run_ids})
    checksums.write_csv(folder / name / "runs.csv", table)


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
    assert slurm.in_queue(tmp_path) == set() and not asked, "nothing was submitted: squeue is not asked"
    submission(tmp_path, "20_tag-1a", "a", "b", "c", "d")
    submission(tmp_path, "21-2b", "e")
    assert slurm.in_queue(tmp_path) == {"b", "d", "e"}
    assert asked[0][-1] == "--name=20_tag-1a,21-2b"


@pytest.mark.parametrize(("name", "found"), [("100% é #2 'q' \"&", ""), ("a %u", "%u"), ("%j", "%j"), ("a\\b", "\\")])
def test_a_folder_that_slurm_would_read_otherwise_is_refused(tmp_path, monkeypatch, name, found):
    monkeypatch.setattr(shutil, "which", lambda name: name)
    workspace = Workspace(str(tmp_path / name / "made"))
    with pytest.raises(StudyError, match=re.escape(f"holds {found}, which Slurm reads")) if found else nullcontext():
        slurm.refuse(Slurm(), workspace.shared("slurm"))


def test_a_silent_squeue_is_not_an_empty_queue(tmp_path, monkeypatch):
    submission(tmp_path, "20_tag-1a", "a")
    answer(monkeypatch, code=1, error="slurm_load_jobs error: Unable to contact slurm controller")
    with pytest.raises(StudyError, match="squeue does not answer .slurm_load_jobs error: Unable to contact"):
        slurm.in_queue(tmp_path)


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

    monkeypatch.setattr(slurm, "in_queue", in_queue)
    options = dict(execution=AT_ONCE, name="g", options=Slurm(poll_seconds=0))
    outcomes = list(slurm.make_in_jobs([spec], workspace, **options))
    assert outcomes == [(spec, f"{spec.id}: its job is gone; start again to resubmit it. {NEVER_BEGAN}")]
    assert list(answers) == []


def test_a_run_that_failed_in_its_job_is_told_and_one_that_is_done_too(cohort, tmp_path, monkeypatch, submitted):
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
            seem_done(shared / good.id)
        return {good.id, bad.id} if len(polls) < 5 else set()

    monkeypatch.setattr(slurm, "in_queue", in_queue)
    options = dict(execution=AT_ONCE, name="g", options=Slurm(poll_seconds=0))
    traceback = shared / f"{bad.id}.failed" / "traceback.txt"
    expected = [(bad, f"{bad.id}: ValueError: too dark ({traceback})"), (good, "")]
    assert list(slurm.make_in_jobs([good, bad], workspace, **options)) == expected
    assert submitted == [], "both have a job"
    # Called again, while its old job still makes other runs: what failed is given to a new one.
    ((_, outcome),) = slurm.make_in_jobs([bad], workspace, **options)
    assert submitted == [[bad]] and "its job is gone" in outcome


def test_options_of_sbatch_are_handed_on(cohort, tmp_path, monkeypatch, submitted):
    workspace = Workspace(str(tmp_path / "made"))
    specs = plan(cohort, workspace, p_art=[1], folds=1)
    monkeypatch.setattr(slurm, "in_queue", lambda folder: set())
    asked = {"partition": "gpu", "time": 90, "poll_seconds": 0, "additional_parameters": {"nice": 5}}
    with pytest.raises(StudyError, match="its job is gone"):
        grids.run(specs, workspace, name="g", executor="slurm", device="cpu", slurm=asked)
    assert submitted == [specs] and submitted.options.pop("job_name").startswith("g-")
    assert submitted.options == {"partition": "gpu", "time": 90, "additional_parameters": {"requeue": True, "nice": 5}}


def test_the_logs_of_what_is_done_are_deleted(tmp_path, monkeypatch):
    workspace = Workspace(str(tmp_path / "made"))
    folder, shared = workspace.shared("slurm"), workspace.shared("runs")
    submission(folder, "done-1a", "a", "b")
    submission(folder, "ending-2b", "b", "c")
    submission(folder, "lost-3c", "a", "d")
    for run_id in "abc":
        seem_done(shared / run_id)
    monkeypatch.setattr(slurm, "in_queue", lambda folder: {"c"})
    list(slurm.make_in_jobs([], workspace, AT_ONCE, name="g", options=Slurm()))
    assert sorted(path.name for path in folder.iterdir()) == ["ending-2b", "lost-3c"]


def test_why_a_job_is_gone_is_read_off_its_log(tmp_path):
    submission(tmp_path, "g-1a", "a", "b")
    submission(tmp_path, "g-2b", "b")
    assert slurm.last_words("b", tmp_path) == NEVER_BEGAN
    (tmp_path / "g-1a" / "7_1_0_log.err").write_text("warning\nslurmstepd: error: CANCELLED DUE TO TIME LIMIT\n")
    (tmp_path / "g-1a" / "7_0_0_log.err").write_text("of another run\n")
    os.utime(tmp_path / "g-1a" / "7_1_0_log.err", (1, 1))
    assert "Its last words: slurmstepd: error: CANCELLED DUE TO TIME LIMIT (" in slurm.last_words("b", tmp_path)
    (tmp_path / "g-2b" / "8_0_log.err").write_text("Out Of Memory\n")
    assert slurm.last_words("b", tmp_path) == f"Its last words: Out Of Memory ({tmp_path}/g-2b/8_0_log.err)"


def counts(results):
    """The numbers that `status` shows of the one plan there is."""
    head, line, *_ = status(results).splitlines()
    return dict(zip(head.split()[1:], map(int, line.split()[1:]), strict=True))


def test_status_shows_queued_and_lost_runs(cohort, tmp_path, monkeypatch):
    workspace = Workspace(str(tmp_path / "made"))
    specs = plan(cohort, workspace)
    plans.write(workspace, "g", grids.plan_table(specs))
    assert counts(tmp_path) == dict(done=0, running=0, queued=0, failed=0, lost=0, missing=4, of=4)
    submission(workspace.shared("slurm"), "g-1a", *[spec.id for spec in specs])
    answer(monkeypatch, "g-1a|0\ng-1a|2\n")
    (workspace.shared("runs") / f".{specs[1].id}.node7.12").mkdir(parents=True)  # without a heartbeat
    assert counts(tmp_path) == dict(done=0, running=0, queued=2, failed=0, lost=1, missing=1, of=4)
    answer(monkeypatch, code=1, error="no controller")
    assert "squeue does not answer (no controller)" in status(tmp_path)


def test_without_sbatch_it_says_so(cohort, tmp_path, monkeypatch):
    workspace = Workspace(str(tmp_path / "made"))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(StudyError, match="there is no sbatch here"):
        grids.run(plan(cohort, workspace), workspace, name="g", executor="slurm", device="cpu")


def test_a_job_that_slurm_requeued_before_submitit_could_has_no_failed_run(cohort, tmp_path, monkeypatch):
    workspace = Workspace(str(tmp_path / "made"))
    spec, *_ = plan(cohort, workspace)

    def execute(spec, workspace, execution, show):
        subprocess.run("exit 1", shell=True, check=True)

    monkeypatch.setattr(run_folder, "execute", execute)
    with pytest.raises(subprocess.CalledProcessError):
        slurm.Bundle([spec], workspace, AT_ONCE)()
    assert run_folder.state(spec.id, workspace.shared("runs")) == "missing"


def test_a_job_that_has_to_end_begins_no_further_run(cohort, tmp_path, monkeypatch):
    workspace = Workspace(str(tmp_path / "made"))
    bundle = slurm.Bundle(plan(cohort, workspace), workspace, AT_ONCE)
    tried = []

    def attempt(spec, workspace, execution):
        tried.append(spec)
        if len(tried) == 2:
            bundle.checkpoint()
        return ""

    monkeypatch.setattr(slurm, "attempt", attempt)
    bundle()
    assert tried == bundle.specs[:2]
    bundle()  # the requeued job
    assert tried[2:] == bundle.specs


# A real Slurm


def output_of(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


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
    start = Path(__file__).parents[1] / "slurm" / "start.sh"
    if controller_answers():
        yield
        return
    if os.environ.get("SOURCEMATTERS_SLURM") != "1":
        pytest.skip(f"no Slurm controller answers; start one with {start}, or set SOURCEMATTERS_SLURM=1")
    with pytest.MonkeyPatch.context() as patch:
        try:
            patch.setenv("SLURM_CONF", re.search(r"SLURM_CONF=(.*)", output_of(start))[1])
            yield
        finally:
            subprocess.run([start, "stop"], check=True)


def wait_for(condition, seconds=300):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
    return found


def trained_for(epochs):
    return TINY.replaced(epochs=epochs, patience=epochs)


def wait_for_all(specs, workspace, **options):
    options = {"poll_seconds": 0.5, **options}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grids, "Execution", partial(Execution, checkpoint_seconds=0))
        return grids.run(specs, workspace, name="g", device="cpu", executor="slurm", slurm=options)


def submit_and_stop_waiting(specs, workspace, **options):
    # Not by a signal: who started the tests in the background ignores it, and waited for ever.
    def interrupt(seconds):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        # Not time.sleep itself: subprocess calls it too, and would be interrupted before anything is submitted.
        patch.setattr(slurm, "time", SimpleNamespace(sleep=interrupt))
        wait_for_all(specs, workspace, **options)


def state_of(spec, workspace):
    return run_folder.state(spec.id, workspace.shared("runs"), slurm.in_queue(workspace.shared("slurm")))


def checkpoint_of(spec, workspace):
    return workspace.shared("runs") / ".checkpoints" / f"{spec.id}.pt"


def freeze_one_halfway(specs, workspace):
    """Stop the process of a run that has kept a checkpoint, so that it gets no further; gives the run and process."""

    def halfway():
        for spec in specs:
            for beside in workspace.shared("runs").glob(f".{spec.id}.*"):
                if checkpoint_of(spec, workspace).exists():
                    return spec, int(beside.name.rpartition(".")[2])

    spec, process = wait_for(halfway)
    os.kill(process, signal.SIGSTOP)
    return spec, process


def test_a_grid_with_a_cancelled_a_killed_and_a_late_job_ends_as_the_serial_one(cluster, cohort, tmp_path):
    def grid_of_24(workspace):
        drawn = confounders.Tag(height=300), confounders.Noise(n0=2e5)
        return plan(cohort, workspace, *drawn, p_art=[0, 0.5, 1], folds=4, training=trained_for(15))

    serial = Workspace(str(tmp_path / "serial" / "made"))
    expected = grids.run(grid_of_24(serial), serial, name="g", workers=1, device="cpu")

    workspace = Workspace(str(tmp_path / "slurm" / "made"))
    specs = grid_of_24(workspace)
    assert len(specs) == 24
    jobs = slurm.bundles(specs, 2)
    assert [len(job) for job in jobs] == [2] * 12
    shared, options = workspace.shared("runs"), {"runs_per_job": 2, "time": 10, "signal_delay_s": 20}

    (shared / ".locks").mkdir(parents=True)
    first, late = jobs[0]
    with FileLock(shared / ".locks" / f"{late.id}.lock"):  # it waits for this until its time is over
        submit_and_stop_waiting(specs, workspace, **options)
        (folder,) = workspace.shared("slurm").iterdir()
        number = next(folder.glob("*_submission.sh")).name.split("_")[0]
        submit_and_stop_waiting(specs, workspace, **options)
        assert list(workspace.shared("slurm").iterdir()) == [folder], "nothing was submitted twice"
        subprocess.run(["scancel", f"{number}_11"], check=True)

        killed, process = freeze_one_halfway(specs, workspace)
        found = counts(workspace.results)
        assert found["running"] >= 1 and found["queued"] >= 1 and found["missing"] == 2, found
        assert state_of(killed, workspace) == "running"
        os.kill(process, signal.SIGKILL)

        wait_for((workspace.run(first) / "done").exists)
        subprocess.run(["scontrol", "update", f"JobId={number}_0", "EndTime=now+1minutes"], check=True)
        log = folder / f"{number}_0_0_log.out"
        wait_for(lambda: "Requeued job" in log.read_text())
        subprocess.run(["scontrol", "update", f"JobId={number}_0", "TimeLimit=10"], check=True)
    wait_for(lambda: state_of(killed, workspace) != "queued")
    assert state_of(killed, workspace) == "lost"
    assert {state_of(spec, workspace) for spec in jobs[11]} == {"missing"}
    assert counts(workspace.results)["lost"] == 1
    pd.testing.assert_frame_equal(wait_for_all(specs, workspace, **options), expected)
    assert files_of(workspace) == files_of(serial)


def test_jobs_that_a_more_urgent_one_pushes_out_go_on_inside_their_training(cluster, cohort, tmp_path):
    if "urgent" not in output_of("sinfo", "--noheader", "--format=%R").split():
        pytest.skip("this Slurm has no partition that preempts, as tests/slurm/slurm.conf.in has")

    def three_runs(workspace):
        # The first must not end in the 2 s that Slurm leaves it between SIGTERM and SIGKILL.
        return [
            spec
            for epochs in (150, 50, 40)
            for spec in plan(cohort, workspace, p_art=[1], folds=1, training=trained_for(epochs))
        ]

    serial = Workspace(str(tmp_path / "serial" / "made"))
    expected = grids.run(three_runs(serial), serial, name="g", workers=2, device="cpu")

    workspace = Workspace(str(tmp_path / "slurm" / "made"))
    specs = killed, surprised, warned = three_runs(workspace)
    # The first gets no signal that submitit heeds; the others do, but only in "warned" there is time to answer it.
    submit_and_stop_waiting([killed], workspace, partition="test", additional_parameters={"signal": "CONT@90"})
    submit_and_stop_waiting([surprised], workspace, partition="test")
    submit_and_stop_waiting([warned], workspace, partition="warned")
    frozen = []
    while left := [spec for spec in specs if spec not in frozen]:
        frozen.append(freeze_one_halfway(left, workspace)[0])
    urgent = output_of(
        "sbatch", "--parsable", "--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap=sleep 600"
    )
    wait_for(lambda: output_of("squeue", "--noheader", "--format=%T", f"--jobs={urgent}") == "RUNNING")
    assert [state_of(spec, workspace) for spec in specs] == ["queued"] * 3
    for spec in specs:
        kept = torch.load(checkpoint_of(spec, workspace))
        assert 1 <= len(kept["state"]["history"]) < spec.training.epochs
        # Only an attempt that goes on from this very checkpoint counts these seconds as spent.
        torch.save({**kept, "spent": 1e6}, path := checkpoint_of(spec, workspace))
        checksums.seal(checksums.seal_of(path), [path])
    subprocess.run(["scancel", urgent], check=True)

    pd.testing.assert_frame_equal(wait_for_all(specs, workspace), expected)
    assert files_of(workspace) == files_of(serial)
    for spec in specs:
        assert read_json(workspace.run(spec) / "env.json")["seconds"] > 1e6
