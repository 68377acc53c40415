"""Checksums, by coreutils where they are at hand and by FIPS 180-2's own example."""

import os
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest

from sourcematters import checksums, files
from sourcematters.errors import StudyError

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # SHA-256 of "abc": FIPS 180-2, B.1


def write(path, text):
    with checksums.sealing(path) as beside:
        beside.write_text(text)


def test_a_seal_lies_beside_the_file_in_sha256sums_words(tmp_path):
    write(tmp_path / "new" / "a b.csv", "abc")
    assert (tmp_path / "new" / "a b.sha256").read_text() == f"{ABC}  a b.csv\n"
    assert sorted(os.listdir(tmp_path / "new")) == ["a b.csv", "a b.sha256"]


@pytest.mark.skipif(not shutil.which("sha256sum"), reason="coreutils are not here")
def test_coreutils_read_a_seal_and_we_read_theirs(tmp_path):
    for name in ("x.csv", "deep/y.csv"):
        files.write_text(tmp_path / name, name)
    checksums.seal(tmp_path / "done", [tmp_path / "x.csv", tmp_path / "deep" / "y.csv"])
    checked = subprocess.run(["sha256sum", "-c", "--strict", "done"], cwd=tmp_path, capture_output=True, text=True)
    assert checked.returncode == 0 and checked.stdout == "deep/y.csv: OK\nx.csv: OK\n"
    theirs = subprocess.run(["sha256sum", "-b", "x.csv"], cwd=tmp_path, capture_output=True, text=True).stdout
    (tmp_path / "x.sha256").write_text(theirs)
    assert checksums.flaw_of(tmp_path / "x.csv") == ""


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.write_text("abd"), "x.csv: does not match its checksum in x.sha256"),
        (lambda path: path.write_text(""), "x.csv: does not match its checksum"),
        (lambda path: path.unlink(), "x.csv: is not there"),
        (lambda path: path.with_suffix(".sha256").unlink(), "x.csv: has no checksum in x.sha256"),
        (lambda path: path.with_suffix(".sha256").write_text(""), "x.csv: has no checksum"),
        (lambda path: path.with_suffix(".sha256").write_text(f"{ABC}  x.cs"), "x.csv: has no checksum"),
        (lambda path: path.with_suffix(".sha256").write_text(f"{ABC[:-1]}  x.csv\n"), "x.csv: has no checksum"),
        (lambda path: path.with_suffix(".sha256").write_bytes(b"\xff\x00" * 40), "x.csv: has no checksum"),
        (lambda path: path.with_suffix(".sha256").write_text(f"{ABC[::-1]}  x.csv\n"), "does not match"),
    ],
)
def test_a_flaw_is_told_in_words(tmp_path, capsys, damage, words):
    path = tmp_path / "x.csv"
    write(path, "abc")
    assert checksums.flaw_of(path) == "" and checksums.usable(path, "it is made again")
    checksums.demand(path, "Mend it.")
    damage(path)
    assert words in checksums.flaw_of(path)
    with pytest.raises(StudyError, match=r"x\.csv: .*\. Mend it\."):
        checksums.demand(path, "Mend it.")
    assert not checksums.usable(path, "it is made again")
    # What is not there at all needs no word: it was never made.
    assert capsys.readouterr().err.count("; it is made again.\n") == path.exists()


def test_a_change_is_seen_at_the_same_size_and_time_by_a_process_that_read_the_file_before(tmp_path):
    path = tmp_path / "bank.npy"
    with checksums.sealing(path) as beside:
        np.save(beside, np.zeros(1000, np.uint8))
    old = path.stat()
    for settled in (0, 10**15):  # remembered at once, and never
        checksums._known.clear()
        checksums.SETTLED_NS, before = settled, checksums.SETTLED_NS
        try:
            assert checksums.flaw_of(path) == "" and bool(checksums._known) == (settled == 0)
        finally:
            checksums.SETTLED_NS = before
        if settled == 0:
            os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns + 10**9))  # its inode's time is now another
            assert checksums.flaw_of(path) == ""
        memory = np.load(path, mmap_mode="r+")
        memory[7] += 1
        memory.flush()
        os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))
        assert path.stat().st_size == old.st_size and path.stat().st_mtime_ns == old.st_mtime_ns
        assert "does not match" in checksums.flaw_of(path)
        memory[7] -= 1
        memory.flush()


def test_a_file_is_read_once_a_process_as_long_as_it_is_the_same(tmp_path, monkeypatch):
    path, read = tmp_path / "x.csv", []
    write(path, "abc")
    monkeypatch.setattr(checksums, "SETTLED_NS", 0)
    sha256 = files.sha256
    monkeypatch.setattr(files, "sha256", lambda path: read.append(path) or sha256(path))
    assert [checksums.flaw_of(path) for _ in range(3)] == [""] * 3 and read == [path]


def test_several_files_share_a_seal_and_the_first_that_is_wrong_is_named(tmp_path):
    for name in ("fig.png", "fig.pdf"):
        files.write_text(tmp_path / name, name)
    seal = checksums.seal_of(tmp_path / "fig.png")
    checksums.seal(seal, [tmp_path / "fig.png", tmp_path / "fig.pdf"])
    assert seal.name == "fig.sha256" and checksums.flaw(seal) == ""
    (tmp_path / "fig.png").write_text("other")
    assert checksums.flaw(seal) == f"{tmp_path}/fig.png: does not match its checksum in fig.sha256"
    assert checksums.flaw_of(tmp_path / "fig.pdf") == "" and checksums.flaw_of(tmp_path / "fig.png")
    assert "fig.csv: is not there" in checksums.flaw(seal, ["fig.pdf", "fig.csv"])
    seal.unlink()
    assert checksums.flaw(seal) == f"{seal}: is not there"


def test_who_is_killed_between_a_file_and_its_seal_left_something_damaged(tmp_path, monkeypatch):
    write(tmp_path / "x.csv", "abc")
    monkeypatch.setattr(checksums, "write", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    for name, words in (("x.csv", "does not match"), ("y.csv", "has no checksum")):
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path / name, "new")
        assert (tmp_path / name).read_text() == "new" and words in checksums.flaw_of(tmp_path / name)
    monkeypatch.undo()
    with pytest.raises(RuntimeError), checksums.sealing(tmp_path / "x.csv") as beside:
        beside.write_text("half")
        raise RuntimeError
    assert (tmp_path / "x.csv").read_text() == "new"


def test_tables_are_written_as_files_writes_them(tmp_path):
    table = pd.DataFrame({"x": [0.1, 1 / 3]})
    files.write_csv(tmp_path / "one.csv", table)
    checksums.write_csv(tmp_path / "two.csv", table)
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()
    assert checksums.flaw_of(tmp_path / "two.csv") == ""


def test_a_stamp_tells_a_file_from_one_that_took_its_name(tmp_path):
    path, other = tmp_path / "x", tmp_path / "y"
    for each in (path, other):
        each.write_text("abc")
        os.utime(each, ns=(10**18, 10**18))
    before = checksums.stamp(path)
    assert before == checksums.stamp(path) and before[:3] == (str(path), 3, 10**18)
    os.replace(other, path)
    assert checksums.stamp(path)[:3] == before[:3] and checksums.stamp(path) != before
