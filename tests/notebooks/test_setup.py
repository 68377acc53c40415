"""The set-up scripts, run in a copy of the project with stand-ins for Python: nothing is installed."""

import os
import re
import shutil
import signal
import subprocess
import time
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TOOLS = "bash cat cmp cp dirname env flock mkdir printf readlink rm sleep tail touch".split()
PYTHON = """#!/usr/bin/env bash
# Stands in for Python: behaves as the scripts expect, and writes down what it was asked to install.
case "$*" in
  *version_info*) [ -z "${TOO_OLD:-}" ] ;;
  *"import ensurepip"*) [ -z "${NO_VENV:-}" ] ;;
  "-m venv --clear "*) rm -rf "$4"; mkdir -p "$4/bin"; cp "$0" "$4/bin/python"; echo clear >>"$LOG" ;;
  "-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; echo venv >>"$LOG" ;;
  *"pip install"*)
    echo "pip from $PWD: ${*: -4}" >>"$LOG"
    echo "pip says why"
    sleep "${PIP_SECONDS:-0}"
    [ -z "${PIP_FAILS:-}" ] && touch "${0%/bin/python}/holds-us" ;;
  *samefile*) [ -e "${0%/bin/python}/holds-us" ] ;;
  *) echo "ran by $0"; printf '<%s>\\n' "$@" ;;
esac
"""


class Project:
    """A copy of the scripts, in a folder with a space, on a machine with nothing but a few tools."""

    def __init__(self, folder: Path):
        self.root, self.bin, self.log = folder / "the clone", folder / "bin", folder / "log"
        for name in ("run_all.sh", "tests/run.sh", ".ci/environment.sh", "pyproject.toml", "constraints.txt"):
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, self.root / name)
        self.bin.mkdir()
        for tool in TOOLS:
            if found := shutil.which(tool):
                (self.bin / tool).symlink_to(found)
        self.log.touch()

    def add_python(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(PYTHON)
        path.chmod(0o755)

    def start(self, *arguments, script=None, cwd="/", **env):
        return subprocess.Popen(
            [script or self.root / "run_all.sh", *arguments],
            cwd=cwd,
            env={"PATH": str(self.bin), "LOG": str(self.log), **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def call(self, *arguments, **options):
        process = self.start(*arguments, **options)
        return process.communicate(timeout=60)[0], process.returncode

    @property
    def installed(self) -> list[str]:
        return self.log.read_text().splitlines()

    @property
    def stamp(self) -> Path:
        return self.root / ".venv" / "installed-from"


@pytest.fixture
def project(tmp_path):
    """A project on a machine that has python3."""
    project = Project(tmp_path)
    project.add_python(project.bin / "python3")
    return project


def test_the_first_call_installs_and_the_second_does_not(project):
    said, code = project.call("--only", "a b")
    assert code == 0
    pip = f"pip from {project.root}: -c constraints.txt -e .[test]"
    assert project.installed == ["venv", pip]
    assert said.splitlines() == [
        f"sourcematters: setting up .venv with python3: some minutes and 6 GB, once "
        f"(progress: {project.root}/.venv/install.log)",
        f"ran by {project.root}/.venv/bin/python",
        *("<-P>", "<-m>", "<sourcematters>", "<run>", "<--only>", "<a b>"),
    ]
    said, code = project.call()
    assert (code, said.splitlines()[0]) == (0, f"ran by {project.root}/.venv/bin/python")
    assert project.installed == ["venv", pip]


def test_the_two_commands_share_one_environment(project):
    project.call()
    said, _ = project.call("-k", "x", script=project.root / "tests" / "run.sh")
    assert said.splitlines()[1:] == ["<-P>", "<-m>", "<pytest>", "<-k>", "<x>"]
    assert len(project.installed) == 2


@pytest.mark.parametrize("changed", ["pyproject.toml", "constraints.txt"])
def test_changed_requirements_are_installed_over_the_old(project, changed):
    project.call()
    with open(project.root / changed, "a") as file:
        file.write("# changed\n")
    project.call()
    assert [line.split()[0] for line in project.installed] == ["venv", "pip", "venv", "pip"]


def test_a_moved_folder_is_installed_again(project, tmp_path):
    project.call()
    project.root = project.root.rename(tmp_path / "moved")
    assert project.call()[1] == 0
    assert project.installed[-1].startswith(f"pip from {project.root}:")


def test_runs_through_a_symlink_and_leaves_the_current_folder_alone(project, tmp_path):
    link = tmp_path / "elsewhere" / "study"
    link.parent.mkdir()
    link.symlink_to(project.root / "run_all.sh")
    said, code = project.call(script=link, cwd=link.parent)
    assert code == 0 and f"ran by {project.root}/.venv/bin/python" in said
    assert [p.name for p in link.parent.iterdir()] == ["study"]


@pytest.mark.parametrize("variable", ["VIRTUAL_ENV", "CONDA_PREFIX"])
def test_an_active_environment_with_this_checkout_is_used(project, tmp_path, variable):
    active = tmp_path / "active env"
    project.add_python(active / "bin" / "python")
    (active / "holds-us").touch()
    said, _ = project.call(**{variable: str(active)})
    assert said.startswith(f"ran by {active}/bin/python")
    assert project.installed == []


def test_an_active_environment_without_this_checkout_is_not_touched(project, tmp_path):
    active = tmp_path / "active"
    project.add_python(active / "bin" / "python")
    said, _ = project.call(VIRTUAL_ENV=str(active))
    assert f"ran by {project.root}/.venv/bin/python" in said
    assert [p.name for p in active.rglob("*")] == ["bin", "python"]


@pytest.mark.parametrize("env", [{"TOO_OLD": "1"}, {"PATH": "no python"}], ids=["old", "none"])
def test_no_python_of_the_right_age(project, env):
    if "PATH" in env:
        (project.bin / "python3").unlink()
        env = {}
    said, code = project.call(**env)
    assert code == 2 and "error: no Python >= 3.11 found" in said
    assert not (project.root / ".venv").exists()


def test_python_without_venv(project):
    said, code = project.call(NO_VENV="1")
    assert code == 2 and "python3 has no venv module" in said and "apt install python3-venv" in said


def test_a_failed_installation_is_shown_and_not_taken_for_done(project):
    said, code = project.call(PIP_FAILS="1")
    assert code == 2 and "pip says why" in said and "error: the installation failed" in said
    assert not project.stamp.exists() and "ran by" not in said
    said, code = project.call()
    assert code == 0 and "ran by" in said
    assert [line.split()[0] for line in project.installed] == ["venv", "pip", "clear", "pip"]


def wait_for(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_an_installation_killed_halfway_begins_anew(project):
    killed = project.start(PIP_SECONDS="60")
    wait_for(lambda: len(project.installed) == 2)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert not project.stamp.exists()
    assert project.call()[1] == 0
    assert [line.split()[0] for line in project.installed] == ["venv", "pip", "clear", "pip"]


@pytest.mark.skipif(not shutil.which("flock"), reason="this system has no flock")
def test_two_calls_at_once_install_once(project):
    first = project.start(PIP_SECONDS="1")
    wait_for(lambda: len(project.installed) == 2)
    said, code = project.call()
    assert code == 0 and "waiting for another set-up" in said and "ran by" in said
    assert "ran by" in first.communicate()[0]
    assert [line.split()[0] for line in project.installed] == ["venv", "pip"]


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    found = dict(re.fullmatch(r"([A-Za-z0-9._-]+)==([0-9a-z.]+)", line).groups() for line in lines)
    assert len(found) == len(lines)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found.items()}


def test_every_requirement_is_pinned_and_torch_chooses_its_own_gpu_libraries():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["test"]
    names = {re.sub(r"[-_.]+", "-", re.match(r"[A-Za-z0-9._-]+", line).group()).lower() for line in wanted}
    assert names <= pins().keys()
    assert not [name for name in pins() if name.startswith(("nvidia", "cuda", "triton"))]


def test_conda_takes_everything_from_the_same_files():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["dependencies"] == ["python=3.11", "pip", {"pip": ["-c constraints.txt", "-e .[test]"]}]


def test_citation_names_the_version_and_the_paper():
    import sourcematters

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == sourcematters.__version__
    assert citation["preferred-citation"]["url"] == "https://arxiv.org/abs/2403.04484"
