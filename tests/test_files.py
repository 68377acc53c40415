import errno
import fcntl
import json
import os
import subprocess
import sys
import threading
import unicodedata
from pathlib import Path

import pandas as pd
import pytest

from sourcematters import files
from sourcematters.errors import StudyError


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    target = tmp_path / "table.csv"
    target.write_text("old")
    with pytest.raises(RuntimeError), files.replacing(target) as beside:
        beside.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["table.csv"]


def test_what_is_written_can_be_read_by_others(tmp_path):
    files.write_json(tmp_path / "new" / "a.json", {"é": [1, 2]})
    assert json.loads((tmp_path / "new" / "a.json").read_text(encoding="utf-8")) == {"é": [1, 2]}
    files.write_csv(tmp_path / "a.csv", pd.DataFrame({"x": [0.1, 1 / 3]}))
    assert (tmp_path / "a.csv").read_text() == "x\n0.1\n0.3333333333333333\n"


def test_sha256_of_a_known_text(tmp_path):
    (tmp_path / "abc").write_text("abc")
    # FIPS 180-2, appendix B.1
    assert files.sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_only_a_file_is_opened_and_nothing_is_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "/dev/null", "/dev/tty"):
        with pytest.raises(OSError):
            files.opened(tmp_path / name)
    with pytest.raises(IsADirectoryError):
        files.opened(tmp_path)
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    with files.opened(tmp_path / "link") as file:
        assert file.read() == b"content"


def test_damaged_json_is_named(tmp_path):
    (tmp_path / "a.json").write_text('{"a": ')
    with pytest.raises(StudyError, match=r"a\.json: not readable as JSON"):
        files.read_json(tmp_path / "a.json")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_said_in_words(tmp_path, monkeypatch, code):
    monkeypatch.setattr(Path, "write_text", lambda *a, **k: (_ for _ in ()).throw(OSError(code, "full")))
    with pytest.raises(StudyError, match=r"result\.txt: the disk is full .* Nothing half-written"):
        files.write_text(tmp_path / "result.txt", "x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="file size limits are POSIX")
def test_a_real_refusal_of_the_system_leaves_nothing(tmp_path):
    # A limit on file size refuses the write half way, as a full disk does.
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000));"
        "from sourcematters.files import write_text;"
        f"write_text({str(tmp_path / 'big.txt')!r}, 'x' * 5000)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 1 and "StudyError" in ended.stderr and "the disk is full" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises((StudyError, NotADirectoryError, FileExistsError)):
        files.write_text(tmp_path / "file" / "under.txt", "x")


def test_what_is_written_has_the_umasks_mode(tmp_path):
    import torch
    from safetensors.torch import save_file

    before = os.umask(0o027)
    try:
        with files.replacing(tmp_path / "a.safetensors") as beside:
            save_file({"a": torch.zeros(1)}, beside)
        files.write_text(tmp_path / "a.txt", "a")
    finally:
        os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("a.safetensors", "a.txt")] == [0o640, 0o640]


def test_what_a_group_shares_stays_the_groups(tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    if os.geteuid() == 0:
        os.chown(shared, -1, 54321)
    shared.chmod(0o2775)
    before = os.umask(0o002)
    try:
        files.write_text(shared / "new" / "deeper" / "a.txt", "a")
        with files.locked(shared / "new" / ".locks" / "a.lock"):
            pass
    finally:
        os.umask(before)
    found = {path.name: path.stat() for path in shared.rglob("*")}
    assert {name: f"{stat.st_mode & 0o7777:o}" for name, stat in found.items()} == {
        "new": "2775", "deeper": "2775", ".locks": "2775", "a.txt": "664", "a.lock": "664"
    }  # fmt: skip
    assert {stat.st_gid for stat in found.values()} == {shared.stat().st_gid}


def test_a_mount_without_modes_is_written_to(tmp_path, monkeypatch):
    def refuse(path, mode):
        raise PermissionError(errno.EPERM, "Operation not permitted", str(path))

    monkeypatch.setattr(os, "chmod", refuse)
    files.write_text(tmp_path / "a.txt", "a")
    assert (tmp_path / "a.txt").read_text() == "a"


@pytest.mark.parametrize("name", [".half.csv", "there.csv", "deep/er.csv"])
def test_a_refusal_names_the_folder_and_whose_it_is(tmp_path, name):
    (tmp_path / "there.csv").touch()
    named = tmp_path if name.startswith(".") else tmp_path / name
    whose = f"it belongs to {tmp_path.owner()}" if named.exists() else f"{tmp_path} belongs to {tmp_path.owner()}"
    with pytest.raises(StudyError) as caught, files.explained(tmp_path / "table.csv"):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / name))
    assert str(caught.value) == (
        f"{named}: Permission denied ({whose}). Change its permissions, or choose another folder."
    )


def test_what_no_file_can_hold_is_named(tmp_path):
    with pytest.raises(StudyError, match=r"a\.csv: it would hold .*caf\\udce9\.png.*, which is no UTF-8. Rename"):
        files.write_csv(tmp_path / "a.csv", pd.DataFrame({"path": ["caf\udce9.png"]}))
    assert list(tmp_path.iterdir()) == []


# Locks


@pytest.mark.parametrize("code", files.NO_LOCKS, ids=errno.errorcode.get)
def test_a_file_system_that_refuses_locks_is_named(tmp_path, monkeypatch, code):
    def refuse(file, how):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(StudyError) as caught, files.locked(tmp_path / "a.lock"):
        pass
    said = f"{tmp_path}: this file system has no locks ({os.strerror(code)})"
    assert str(caught.value).startswith(said) and "--results FOLDER" in str(caught.value)


def test_whoever_waits_long_for_a_lock_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(files, "PATIENCE", 0.1)
    held = open(tmp_path / "a.lock", "w")
    fcntl.flock(held, fcntl.LOCK_EX)
    threading.Timer(0.5, held.close).start()
    with files.locked(tmp_path / "a.lock"):
        assert held.closed
    assert capsys.readouterr().err == f"{tmp_path / 'a.lock'}: another process has held this lock for 0.1 s; waiting.\n"


# Names


def test_a_name_is_found_however_its_accents_are_spelt(tmp_path):
    composed, apart = (unicodedata.normalize(form, "Łódź, café") for form in ("NFC", "NFD"))
    assert composed != apart
    (tmp_path / composed).mkdir()
    (tmp_path / composed / apart).touch()
    there = tmp_path / composed / apart
    for folder in (composed, apart):
        for name in (composed, apart):
            assert files.spelt_as_on_disk(tmp_path / folder / name) == there
    (tmp_path / composed / composed).touch()
    assert files.spelt_as_on_disk(tmp_path / apart / composed).name == composed, "what is there as asked is meant"
    assert files.spelt_as_on_disk(there) == there
    assert files.spelt_as_on_disk(tmp_path / "no é") == tmp_path / "no é"
    assert files.spelt_as_on_disk("phantoms") == Path("phantoms")
