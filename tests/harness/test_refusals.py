"""What the system refuses, in the middle of a study: one sentence, and the same numbers once it no longer does."""

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from functools import partial

import pytest
import studies
from damage import raw

from sourcematters import files
from sourcematters.errors import StudyError

# One grid of six runs, from nothing to its table.
SMALL = ("--only", "20", "-p", "sources", "[random]")


@pytest.fixture(scope="module")
def small(finished, tmp_path_factory):
    """A clone with nothing made yet, where it is kept, the numbers of `SMALL`, and the bytes that it took."""
    clone, kept, _ = finished
    clone.restore(kept / "untouched")
    ended = clone.run(*SMALL)
    assert ended.code == 0, ended.text
    size = sum(path.stat().st_size for path in clone.results.rglob("*") if path.is_file())
    return clone, kept / "untouched", clone.numbers(), size


@pytest.fixture
def clone(small):
    """The clone of `small`, in which nothing is made yet."""
    small[0].restore(small[1])
    return small[0]


def said_in_one_sentence(clone, ended, *words):
    assert raw(clone, ended) == ""
    assert ended.code in (1, 2), ended.text
    assert all(word in ended.text for word in words), ended.text


def goes_on_to(clone, numbers):
    ended = clone.run(*SMALL)
    assert ended.code == 0 and raw(clone, ended) == "", ended.text
    assert clone.numbers() == numbers


# Full and read-only disks: file systems of their own, which only this process and its children see


def unshared() -> bool:
    """Whether this system lets a process mount what only it sees."""
    try:
        tried = subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True)
    except FileNotFoundError:
        return False
    return tried.returncode == 0


mounts = pytest.mark.skipif(not unshared(), reason="this system lets no process mount a file system of its own")


@mounts
@pytest.mark.parametrize("share", [0.01, 0.03, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.97])
def test_a_disk_that_is_full_is_said_and_nothing_half_written_is_believed(small, clone, share):
    *_, numbers, size = small
    said_in_one_sentence(clone, clone.run(*SMALL, patches=[partial(studies.on_a_disk_of, round(share * size))]), "free")
    goes_on_to(clone, numbers)


@mounts
def test_a_folder_that_turns_read_only_is_named(small, clone):
    *_, numbers, _ = small
    ended = clone.run(*SMALL, patches=[studies.read_only_after_a_run])
    said_in_one_sentence(clone, ended, str(clone.results), "Read-only file system")
    goes_on_to(clone, numbers)


@mounts
def test_a_temporary_folder_that_is_full_is_said(small, clone):
    *_, numbers, _ = small
    said_in_one_sentence(
        clone, clone.run(*SMALL, patches=[studies.without_temporary_space]), "/full/", "the disk is full"
    )
    goes_on_to(clone, numbers)


# Locks


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS], ids=errno.errorcode.get)
def test_a_file_system_without_locks_is_named_at_once(small, clone, code):
    *_, numbers, _ = small
    ended = clone.run(*SMALL, patches=[partial(studies.without_locks, code)], timeout=60)
    said_in_one_sentence(clone, ended, "this file system has no locks", os.strerror(code), "--results FOLDER")
    assert not list(clone.results.glob("runs/*/done"))
    goes_on_to(clone, numbers)


def test_one_process_waits_for_the_other(tmp_path):
    path = tmp_path / "new" / "a.lock"
    code = f"from sourcematters import files\nwith files.locked({str(path)!r}):\n    print(1, flush=True)\n    input()"
    holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "1\n"
    with open(path) as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    holder.kill()  # and a killed one holds it no longer
    holder.communicate()
    with files.locked(path):
        pass
    shutil.rmtree(path.parent)
    path.mkdir(parents=True)
    with pytest.raises(StudyError, match=r"a\.lock: Is a directory.*move or delete it"), files.locked(path):
        pass


# Two at once, and a worker that dies


def test_two_studies_in_one_folder_make_each_run_once(small, clone, tmp_path):
    *_, numbers, _ = small
    trained = tmp_path / "trained"
    profile = str(clone.root / "notebooks" / "profiles" / "demo.yaml")
    arguments = ("run", "--profile", profile, "--results", str(clone.results), *SMALL)
    both = [
        clone.start(*arguments, "-p", "workers", workers, patches=[partial(studies.noting_trainings, trained)])
        for workers in ("1", "2")
    ]
    for process in both:
        process.join(120)
    assert [process.exitcode for process in both] == [0, 0]
    lines = trained.read_text().split()
    assert len(lines) == len(set(lines)) == 4, "two strengths of the tag and two folds; at p_art = 0 without it"
    workers = "demo/tables/settings.csv"  # tells how many workers the last to begin had
    found = clone.numbers()
    assert {**found, workers: b""} == {**numbers, workers: b""}


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM], ids=lambda sent: sent.name)
def test_a_worker_that_is_killed_is_said_and_its_run_made_again(small, clone, sent):
    *_, numbers, _ = small
    ended = clone.run(*SMALL, "-p", "workers", "2", patches=[partial(studies.a_worker_dies, sent)])
    said_in_one_sentence(clone, ended, "a worker process")
    goes_on_to(clone, numbers)


# In our own words, whoever wrote


@pytest.mark.parametrize(
    "refusal",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        Exception("Error while serializing: I/O error: No space left on device (os error 28)"),  # safetensors
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 512"),  # torch
    ],
    ids=["python", "rust", "torch"],
)
def test_whoever_writes_a_full_disk_is_told(tmp_path, refusal):
    with pytest.raises(StudyError, match=r"a\.pt: the disk is full"), files.replacing(tmp_path / "a.pt"):
        raise refusal
    assert list(tmp_path.iterdir()) == []


def test_other_errors_stay_what_they_are(tmp_path):
    for error in (RuntimeError("shape mismatch"), FileNotFoundError(errno.ENOENT, "no such file"), KeyError("x")):
        with pytest.raises(type(error)), files.explained(tmp_path):
            raise error


def test_what_nobody_else_put_into_words_the_command_line_does(command, tmp_path, monkeypatch):
    def full(folder):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("sourcematters.runs.check.report", full)
    code, _, err = command("check", str(tmp_path))
    assert code == 2 and "the disk is full" in err and "Traceback" not in err


def test_no_room_for_temporary_files_is_said(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/no/such", "/dev/null/in-it"])
    with pytest.raises(StudyError, match=r"No usable temporary directory .*/no/such.* set TMPDIR"), files.scratch():
        pass
