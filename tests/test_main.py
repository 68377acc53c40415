"""The command line as a shell calls it: whatever becomes of what it prints."""

import os
import subprocess
import sys

import pytest

LATIN = {"PYTHONIOENCODING": "latin-1"}
PLAIN_C = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}  # as a locale that is not UTF-8


def call(shell, **environment):
    """Run a line of sh, in which `$@` stands for `python -m sourcematters`."""
    command = ["sh", "-c", shell, "sh", sys.executable, "-P", "-m", "sourcematters"]
    return subprocess.run(command, capture_output=True, env={**os.environ, **environment})


@pytest.mark.parametrize("environment", [LATIN, PLAIN_C], ids=["latin-1", "C"])
def test_a_folder_is_found_and_named_in_any_locale(tmp_path, environment):
    folder = tmp_path / "Łódź é"
    (folder / "plans").mkdir(parents=True)
    (folder / "plans" / "tag.csv").touch()
    ended = call(f'"$@" status {str(folder)!r}', **environment)
    encoding = environment.get("PYTHONIOENCODING", "ascii")
    assert str(folder / "plans" / "tag.csv").encode(encoding, "backslashreplace") in ended.stdout
    assert ended.returncode == 0 and ended.stderr == b""


@pytest.mark.parametrize("where", ["| true", ">&-", "2>&-"])
def test_nobody_has_to_listen(tmp_path, where):
    (tmp_path / "plans").mkdir()
    (tmp_path / "plans" / "tag.csv").touch()
    ended = call(f'"$@" status {str(tmp_path)!r} {where}')
    assert (ended.returncode, ended.stderr) == (0, b"")
