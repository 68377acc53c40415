import errno
import json
import os
import subprocess
import sys
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
