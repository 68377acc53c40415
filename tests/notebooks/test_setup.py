"""The set-up scripts, run in a copy of the project with stand-ins for Python and uv: nothing is installed."""

import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
SOURCES = ("pyproject.toml", "constraints.txt", ".gitattributes")
TOOLS = "bash cat cmp cp dirname env flock grep mkdir printf readlink rm sed sleep tail touch tr".split()
PYTHON = """#!/usr/bin/env bash
# Stands in for Python: behaves as the scripts expect, and writes down what it was asked to install.
case "$*" in
  *version_info*) [ -z "${TOO_OLD:-}" ] ;;
  *"import ensurepip"*) [ -z "${NO_VENV:-}" ] ;;
  "-m venv --clear "*) rm -rf "$4"; mkdir -p "$4/bin"; cp "$0" "$4/bin/python"; echo clear >>"$LOG" ;;
  "-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; echo venv >>"$LOG" ;;
  *"pip config list") printf '%s\\n' "${PIP_SETTINGS:-}" ;;
  *"pip install"*--index-url*) echo "torch: ${*: -7}" >>"$LOG"; [ -z "${NO_TORCH_INDEX:-}" ] ;;
  *"pip install"*)
    echo "pip from $PWD: ${*: -6}" >>"$LOG"
    printf '%s\\n' "${PIP_SAYS:-}"
    sleep "${PIP_SECONDS:-0}"
    [ -z "${PIP_SAYS:-}" ] && touch "${0%/bin/python}/holds-us" ;;
  -V) echo "Python 3.11.2" ;;
  *samefile*) [ -e "${0%/bin/python}/holds-us" ] ;;
  *) echo "ran by $0"; printf '<%s>\\n' "$@" ;;
esac
"""
UV = """#!/usr/bin/env bash
echo "uv from $PWD: $*" >>"$LOG"
printf '%s\\n' "${UV_SAYS:-}"
[ -z "${UV_SAYS:-}" ] && touch .venv/holds-us
"""


EVERYTHING = "--only-binary :all: -r constraints.txt -e .[test,imagenet]"


class Project:
    """A copy of the scripts, in a folder with a space, on a machine with nothing but a few tools."""

    def __init__(self, folder: Path):
        self.root, self.bin, self.log = folder / "the clone", folder / "bin", folder / "log"
        for name in ("run_all.sh", "tests/run.sh", ".ci/environment.sh", *SOURCES):
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, self.root / name)
        self.bin.mkdir()
        for tool in TOOLS:
            if found := shutil.which(tool):
                (self.bin / tool).symlink_to(found)
        self.log.touch()

    def add(self, path: Path, text: str = PYTHON) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def start(self, *arguments, script=None, cwd="/", **env):
        return subprocess.Popen(
            [script or self.root / "run_all.sh", *arguments],
            cwd=cwd,
            env={"PATH": str(self.bin), "LOG": str(self.log), "NVIDIA_VISIBLE_DEVICES": "all", **env},
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
    project.add(project.bin / "python3")
    return project


def test_the_first_call_installs_and_the_second_does_not(project):
    said, code = project.call("--only", "a b")
    assert code == 0
    pip = f"pip from {project.root}: {EVERYTHING}"
    assert project.installed == ["venv", pip]
    assert said.splitlines() == [
        f"sourcematters: setting up .venv with python3: some minutes and up to 7 GB, once "
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
    project.add(active / "bin" / "python")
    (active / "holds-us").touch()
    said, _ = project.call(**{variable: str(active)})
    assert said.startswith(f"ran by {active}/bin/python")
    assert project.installed == []


def test_an_active_environment_without_this_checkout_is_not_touched(project, tmp_path):
    active = tmp_path / "active"
    project.add(active / "bin" / "python")
    said, _ = project.call(VIRTUAL_ENV=str(active))
    assert f"ran by {project.root}/.venv/bin/python" in said
    assert [p.name for p in active.rglob("*")] == ["bin", "python"]


@pytest.mark.parametrize("env", [{"TOO_OLD": "1"}, {"PATH": "no python"}], ids=["old", "none"])
def test_no_python_of_the_right_age(project, env):
    if "PATH" in env:
        (project.bin / "python3").unlink()
        env = {}
    said, code = project.call(**env)
    assert code == 2 and "error: no Python 3.11 to 3.14 found" in said
    assert not (project.root / ".venv").exists()


def test_python_without_venv(project):
    said, code = project.call(NO_VENV="1")
    assert code == 2 and "python3 has no venv module" in said and "apt install python3-venv" in said


def test_a_failed_installation_is_shown_and_not_taken_for_done(project):
    said, code = project.call(PIP_SAYS="ERROR: why")
    assert code == 2 and "error: the installation failed: ERROR: why" in said
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


NO_ANSWER = """\
WARNING: Retrying (Retry(total=0)) after connection broken by \
'NameResolutionError("HTTPSConnection(host='h'): Failed to resolve 'h' ([Errno -2] Name or service not known)")'\
: /simple/torch/
ERROR: Could not find a version that satisfies the requirement torch==2.14.1 (from versions: none)
ERROR: No matching distribution found for torch==2.14.1"""
OTHER_PYTHON = """\
ERROR: Ignored the following versions that require a different python version: \
1.4.1 Requires-Python >=3.13; 4.1.2 Requires-Python >=3.11.5; 4.1.3 Requires-Python >=3.12
ERROR: Could not find a version that satisfies the requirement soupsieve==4.1.2 (from versions: 2.9, 2.10)
ERROR: No matching distribution found for soupsieve==4.1.2"""
NO_WHEEL = """\
ERROR: Ignored the following versions that require a different python version: 1.4.0 Requires-Python >=3.13
ERROR: Could not find a version that satisfies the requirement h5py==3.16.0 (from versions: none)
ERROR: No matching distribution found for h5py==3.16.0"""
CONFLICT = """\
INFO: pip is looking at multiple versions of torch to determine which version is compatible.
ERROR: Cannot install torch==2.14.1 because these package versions have conflicting dependencies.

The conflict is caused by:
    The user requested torch==2.14.1
    The user requested (constraint) torch<=2.13"""
FULL = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"


@pytest.mark.parametrize(
    "pip_says, reason",
    [
        (OTHER_PYTHON, "soupsieve==4.1.2 needs Python >=3.11.5, and this is Python 3.11.2."),
        (NO_ANSWER, """did not answer: NameResolutionError("HTTPSConnection(host='h'): Failed to resolve 'h' """),
        (NO_WHEEL, "the package index has no h5py==3.16.0 for Python 3.11.2 on "),
        (CONFLICT, "The user requested (constraint) torch<=2.13"),
        (FULL, "the disk is full"),
    ],
)
def test_the_message_names_what_failed(project, pip_says, reason):
    said, code = project.call(PIP_SAYS=pip_says)
    assert code == 2 and reason in said and "INFO" not in said


def test_uv_installs_where_it_is_at_hand(project):
    project.add(project.bin / "uv", UV)
    assert project.call()[1] == 0
    uv = "pip install --python .venv/bin/python -r constraints.txt -e .[test,imagenet]"
    assert project.installed == ["venv", f"uv from {project.root}: {uv}"]


def test_pip_installs_where_uv_fails_and_uvs_reason_is_said(project):
    project.add(project.bin / "uv", UV)
    said, code = project.call(UV_SAYS="error: Request failed\n  cause: dns error")
    assert code == 0 and "uv failed, pip tries instead: error: Request failed cause: dns error" in said
    assert [line.split()[0] for line in project.installed] == ["venv", "uv", "pip"]


@pytest.mark.parametrize(
    "setting", ["global.index-url='http://mirror'", ":env:.find-links='/w'", "global.constraint='c'"]
)
def test_where_pip_was_told_where_packages_come_from_it_alone_installs(project, setting):
    project.add(project.bin / "uv", UV)
    settings = f"global.timeout='9'\n{setting}\n" + "global.cert='a'\n" * 1000
    assert project.call(PIP_SETTINGS=settings, NVIDIA_VISIBLE_DEVICES="")[1] == 0
    assert [line.split()[0] for line in project.installed] == ["venv", "pip"]


without_gpu = pytest.mark.skipif(
    Path("/dev/nvidiactl").exists() or not sys.platform.startswith("linux"), reason="for Linux without a GPU"
)


@without_gpu
def test_without_a_gpu_torch_comes_from_its_index_without_gpu_until_one_is_there(project):
    project.call(NVIDIA_VISIBLE_DEVICES="")
    index = "--index-url https://download.pytorch.org/whl/cpu --no-deps -c constraints.txt torch torchvision"
    assert project.installed == ["venv", f"torch: {index}", f"pip from {project.root}: {EVERYTHING}"]
    project.call(NVIDIA_VISIBLE_DEVICES="")
    assert len(project.installed) == 3
    (project.root / "constraints.txt").write_text("# changed")
    project.call(NVIDIA_VISIBLE_DEVICES="")
    assert [line.split()[0] for line in project.installed[3:]] == ["venv", "torch:", "pip"]
    project.add(project.bin / "nvidia-smi")
    project.call(NVIDIA_VISIBLE_DEVICES="")
    project.call(NVIDIA_VISIBLE_DEVICES="")
    assert project.installed[6:] == ["clear", f"pip from {project.root}: {EVERYTHING}"]


def test_a_container_for_machines_without_gpu_stays_as_it_is_where_one_is(project):
    project.add(project.bin / "nvidia-smi")
    for _ in range(2):
        project.call(NVIDIA_VISIBLE_DEVICES="none")
    assert [line.split()[0] for line in project.installed] == ["venv", "torch:", "pip"]


@without_gpu
def test_where_torchs_index_is_silent_the_usual_one_is_taken_and_that_is_said(project):
    said, code = project.call(NVIDIA_VISIBLE_DEVICES="", NO_TORCH_INDEX="1")
    assert code == 0 and "no GPU is seen here" in said and "taking the usual one" in said
    assert not (project.root / ".venv" / "without-gpu").exists()
    project.add(project.bin / "nvidia-smi")
    project.call()
    assert len(project.installed) == 3


@pytest.mark.parametrize("submit", ["sbatch", "qsub", "bsub"])
def test_where_jobs_are_sent_to_a_cluster_torch_is_the_usual_one(project, submit):
    project.add(project.bin / submit)
    project.call(NVIDIA_VISIBLE_DEVICES="")
    assert [line.split()[0] for line in project.installed] == ["venv", "pip"]


@pytest.mark.skipif(not shutil.which("git"), reason="this system has no git")
def test_a_clone_by_git_for_windows_runs(project, tmp_path):
    git = ["git", "-c", "user.name=n", "-c", "user.email=e", "-C", project.root]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all"]):
        subprocess.run([*git, *command], check=True)
    clone = tmp_path / "windows"
    subprocess.run(["git", "clone", "-q", "-c", "core.autocrlf=true", project.root, clone], check=True)
    project.root = clone
    said, code = project.call("--list")
    assert code == 0 and f"ran by {clone}/.venv/bin/python" in said


UNREACHED = "error sending request for url"  # what uv says when the network, and not the index, is at fault
PYTHONS = ("3.11.0", "3.12.0", "3.13.0", "3.14.0")
GPU = ("nvidia", "cuda", "triton")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def place(python: str, **values: str) -> dict[str, str]:
    return {**default_environment(), "python_version": python[:4], "python_full_version": python, **values}


def pins(at: dict[str, str]) -> dict[str, str]:
    """Version by name of what constraints.txt pins at a place (as markers see it)."""
    lines = [Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if line[0] != "#"]
    here = [line for line in lines if line.marker is None or line.marker.evaluate(at)]
    found = {canonicalize_name(line.name): str(line.specifier).removeprefix("==") for line in here}
    assert len(found) == len(here)
    return found


def test_torch_chooses_its_own_gpu_libraries():
    assert not [name for name in pins(place("3.11.0")) if name.startswith(GPU)]


@pytest.mark.parametrize("python", PYTHONS)
def test_what_is_installed_allows_every_python_and_needs_nothing_unpinned(python):
    pinned, seen, other = pins(place(python)), set(), []
    todo = [
        Requirement(line) for line in (*PROJECT["dependencies"], *sum(PROJECT["optional-dependencies"].values(), []))
    ]
    while todo:
        wish = todo.pop()
        name = canonicalize_name(wish.name)
        if name.startswith(GPU):
            continue
        assert name in pinned, f"{wish} is not pinned for Python {python}"
        assert pinned[name] in wish.specifier, f"{name}=={pinned[name]} is pinned, and somebody needs {wish}"
        for extra in {"", *wish.extras} - {extra for named, extra in seen if named == name}:
            seen.add((name, extra))
            try:
                found = metadata.distribution(name)
            except metadata.PackageNotFoundError:  # what only another Python needs
                other.append(name)
                continue
            if found.version != pinned[name]:
                other.append(name)
                continue
            needs = found.metadata["Requires-Python"] or ""
            assert python in SpecifierSet(needs), f"{name}=={found.version} needs Python {needs}, not {python}"
            at = place(python, extra=extra)
            todo += [r for r in map(Requirement, found.requires or ()) if r.marker is None or r.marker.evaluate(at)]
    assert len(other) < len(pinned) / 10, f"installed otherwise than pinned: {other}"


@pytest.fixture(scope="module")
def resolve():
    """Resolves requirements by uv, from wheels alone; skips where no package index answers."""
    uv = pytest.importorskip("uv").find_uv_bin()

    def call(*arguments, stdin="", retries=5):
        answer = subprocess.run(
            [uv, "pip", "compile", "--only-binary", ":all:", "--no-annotate", "--no-header", *arguments],
            env=os.environ
            | {"UV_PYTHON_DOWNLOADS": "never", "UV_HTTP_RETRIES": str(retries), "MACOSX_DEPLOYMENT_TARGET": "14.0"},
            input=stdin,
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
        if answer.returncode and (retries == 0 or UNREACHED in answer.stderr):
            pytest.skip(f"no package index answers uv: {answer.stderr.splitlines()[-1]}")
        return answer

    call("-", stdin="six", retries=0)
    return call


@pytest.mark.parametrize(
    "python, platform, at",
    [
        *((python, "x86_64-manylinux_2_28", {"platform_machine": "x86_64"}) for python in PYTHONS),
        ("3.11.0", "aarch64-manylinux_2_28", {"platform_machine": "aarch64"}),
        ("3.14.0", "aarch64-apple-darwin", {"platform_machine": "arm64", "sys_platform": "darwin"}),
    ],
)
def test_the_pins_are_all_that_every_python_needs_and_have_wheels_for_it(resolve, python, platform, at):
    place_of = ["--python-version", python, "--python-platform", platform]
    answer = resolve("pyproject.toml", "--all-extras", "-c", "constraints.txt", *place_of)
    assert answer.returncode == 0, answer.stderr
    lines = [Requirement(line) for line in answer.stdout.splitlines()]
    found = {line.name: str(line.specifier).removeprefix("==") for line in lines if not line.name.startswith(GPU)}
    assert found == pins(place(python, **{"sys_platform": "linux", **at}))


def test_conda_takes_everything_from_the_same_files():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["dependencies"] == ["python=3.11", "pip", {"pip": ["-r constraints.txt", "-e .[test,imagenet]"]}]


def test_citation_names_the_version_and_the_paper():
    import sourcematters

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == sourcematters.__version__
    assert citation["preferred-citation"]["url"] == "https://arxiv.org/abs/2403.04484"
