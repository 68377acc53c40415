"""A small study in a clone of its own: what the harness damages, kills and starves.

It is real: images, plans, banks, 20 runs with two confounders and two sources, tables and a figure, all made by the
command line. Only what is slow and has tests of its own is left out: notebooks are executed without a kernel, no new
interpreter tries the network first, and the command and its workers are processes that have imported everything
already, but have done nothing yet.
"""

import contextlib
import ctypes
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat

sys.path.insert(0, str(Path(__file__).parents[1]))  # for scripts; pytest has it there
import tiny_runs  # noqa: E402
from tiny_study import write_notebook, write_profile  # noqa: E402

NOTEBOOKS = {
    "10_prepare": ["study.prepare_sources()"],
    "20_tag": ['study.run("tag")'],
    "24_gender": ['study.run("gender").plot()'],
    "30_figures": ["study.collected().table1()"],
}
PROFILE = """
plugins: [sourcematters.demo]
data: cohort.csv
task: brightness
sources: [natural-standin, random]
backbone: test_resnet
p_art: [0, 1]
folds: 2
size: 32
epochs: 3
patience: 3
learning_rate: 1.0e-3
batch_size: 8
bn_momentum: 0.1
smallest_test: 2
workers: {workers}
device: cpu
tag: {{height: 300}}
"""
IMPORTED = ["studies", "torch", "timm", "nbconvert", "papermill", "sourcematters.study.execute", "sourcematters.demo"]
IMPORTED += ["sourcematters.study.freshness", "sourcematters.training.fine_tuning", "matplotlib.backends.backend_agg"]
_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(IMPORTED)

Patch = Callable[[], Any]


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code (negative: by that signal), and all that it printed."""

    code: int
    text: str


class Clone:
    """A clone of the repository with a tiny study, in `root`."""

    def __init__(self, root: Path):
        self.root, self.results = root, root / "results"
        self.own = self.results / "demo"

    @classmethod
    def make(cls, root: Path) -> "Clone":
        """Write images, a cohort, notebooks, a profile and stand-in weights; nothing is run."""
        from sourcematters.demo import standins

        (root / "images").mkdir(parents=True)
        tiny_runs.make_cohort(root / "images").table.to_csv(root / "cohort.csv", index=False)
        for name, lines in NOTEBOOKS.items():
            study = "from sourcematters.study import Study\nstudy = Study.of(globals())"
            write_notebook(root, name, study, *lines, title=name)
        write_profile(root, PROFILE.format(workers=1).replace("cohort.csv", str(root / "cohort.csv")))
        for path in standins.WEIGHTS.iterdir():
            copy = root / "sourcematters" / "demo" / "weights" / path.name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
        return cls(root)

    def start(
        self, *arguments: str, patches: Sequence[Patch] = (), output: Path | None = None, kernels: bool = False
    ) -> BaseProcess:
        """Start `python -m sourcematters ARGUMENTS`, in a process group of its own, after calling each of `patches`."""
        patches = [*patches, *([] if kernels else [no_kernels, quick_workers, no_trial])]
        process = _server.Process(target=_command, args=(self.root, arguments, patches, output or os.devnull))
        process.start()
        return process

    def call(self, *arguments: str, patches: Sequence[Patch] = (), timeout: float = 120) -> Ended:
        """The same, waiting for its end: at most `timeout` s, or what it started is killed."""
        with tempfile.TemporaryDirectory() as scratch:
            output = Path(scratch) / "output"
            process = self.start(*arguments, patches=patches, output=output)
            process.join(timeout)
            if process.exitcode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.join()
                return Ended(-signal.SIGALRM, output.read_text(errors="replace") + f"\nno end after {timeout} s")
            return Ended(process.exitcode, output.read_text(errors="replace"))

    def run(self, *arguments: str, **options: Any) -> Ended:
        """`sourcematters run` of this study."""
        profile = self.root / "notebooks" / "profiles" / "demo.yaml"
        return self.call("run", "--profile", str(profile), "--results", str(self.results), *arguments, **options)

    def numbers(self) -> dict[str, bytes]:
        """What must be the same however the study was made: tables, plans, figures, banks and all of the runs."""
        names = [path for suffix in ("csv", "npy", "png", "pdf", "svg") for path in self.results.rglob(f"*.{suffix}")]
        names += [p for p in self.results.glob("runs/*/*") if p.name in ("spec.json", "metrics.json")]
        names += self.results.glob("runs/*/weights.safetensors")
        seen = [p for p in names if p.name != "files.csv" and not any(part[0] == "." for part in p.parts[-3:])]
        return {str(path.relative_to(self.results)): path.read_bytes() for path in sorted(seen) if path.is_file()}

    def keep(self, folder: Path) -> None:
        """Copy all of it, to be restored from."""
        shutil.copytree(self.root, folder)

    def restore(self, kept: Path) -> None:
        """Make it again what was kept in `kept`, touching nothing that is unchanged."""
        there = {path.relative_to(kept) for path in kept.rglob("*")}
        for path in sorted(self.root.rglob("*"), reverse=True):
            same_kind = (kept / path.relative_to(self.root)).is_dir() == path.is_dir()
            if path.relative_to(self.root) not in there or not same_kind:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        for name in sorted(there):
            path, saved = self.root / name, kept / name
            if saved.is_dir():
                path.mkdir(exist_ok=True)
            elif not path.exists() or _stamp(path) != _stamp(saved) or path.read_bytes() != saved.read_bytes():
                shutil.copy2(saved, path)


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _command(root: Path, arguments: Sequence[str], patches: Sequence[Patch], output: Path | str) -> None:
    os.setsid()
    to = os.open(output, os.O_WRONLY | os.O_CREAT, 0o644)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(to, stream.fileno())
    os.environ |= {"SOURCEMATTERS_HEADLESS": "1", "OMP_NUM_THREADS": "1"}
    os.chdir(root)
    from sourcematters import __main__
    from sourcematters.demo import standins
    from sourcematters.study import settings

    settings.ROOT, standins.WEIGHTS = root, root / "sourcematters" / "demo" / "weights"
    ends = [end for end in [patch() for patch in patches] if end]
    try:
        code = __main__.main(arguments)
    finally:
        for end in ends:
            end()
    sys.stdout.flush()
    sys.exit(code)


def no_kernels() -> None:
    """Notebooks are executed in the process itself, and their pages are empty: both are slow, and have tests."""
    import papermill
    from nbconvert import HTMLExporter

    papermill.execute_notebook = without_a_kernel
    HTMLExporter.from_notebook_node = lambda self, *a, **k: ("<html></html>", {})


def no_trial() -> None:
    """Nothing is tried in an interpreter of its own before the first run."""
    from sourcematters.training import trials

    trials.begun = lambda trials: contextlib.nullcontext(list)


def quick_workers() -> None:
    """Workers are copies of a process that has imported everything, where a new interpreter takes seconds to do so."""
    from sourcematters import processes

    own = multiprocessing.get_context("fork")
    processes.multiprocessing = SimpleNamespace(
        get_context=lambda method: own, active_children=multiprocessing.active_children
    )
    # A new interpreter would not know of the handlers of the command line.
    os.register_at_fork(
        after_in_child=lambda: [signal.signal(s, signal.SIG_DFL) for s in (signal.SIGTERM, signal.SIGHUP)]
    )


def without_a_kernel(path: Path, beside: Path, parameters: dict[str, Any], **options: Any) -> None:
    """Execute a notebook as papermill does, in this process."""
    from papermill.exceptions import PapermillExecutionError

    from sourcematters.errors import StudyError

    book, names = nbformat.read(path, as_version=4), {"__name__": "__main__"}
    book.metadata["papermill"] = {"end_time": "2026-01-01T00:00:00+00:00", "duration": 1.0}
    os.chdir(path.parent)
    try:
        for number, cell in enumerate((c for c in book.cells if c.cell_type == "code"), 1):
            cell.metadata["papermill"] = {"start_time": "2026-01-01T00:00:00+00:00"}
            try:
                exec(cell.source, names)
            except Exception as error:
                shown = [str(error)] if isinstance(error, StudyError) else []
                lines = dict(traceback=shown, ename=type(error).__name__, evalue=str(error))
                raise PapermillExecutionError(number, number, cell.source, **lines) from error
            if "parameters" in cell.metadata.get("tags", []):
                names |= parameters
    finally:
        for cell in book.cells:
            cell.metadata.setdefault("papermill", {"start_time": None})
        nbformat.write(book, beside)


# Patches, called in the process of the command before it begins, in the clone's folder; what one returns is called at
# its end. Processes are told of them by name, hence no closures.


def checkpoints_after_each_epoch() -> None:
    """What a run keeps every five minutes, these short ones keep after each epoch."""
    from sourcematters.runs import grids

    grids.Execution = partial(grids.Execution, checkpoint_seconds=0)


def killed_in_the_middle_of_training() -> None:
    """The power goes when a run has kept its first epoch."""
    from sourcematters.training.checkpoints import Checkpoint

    checkpoints_after_each_epoch()
    write = Checkpoint.write
    Checkpoint.write = lambda self, state: (write(self, state), os.kill(os.getpid(), signal.SIGKILL))


def killed_in_the_middle_of_a_bank() -> None:
    """The power goes when half of a bank's images are drawn."""
    from sourcematters.training import image_bank

    fill, drawn = image_bank._fill_rows, []

    def dying(task: Any, **options: Any) -> Any:
        found = fill(task, **options)
        drawn.append(task)
        if len(drawn) == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    image_bank._fill_rows = dying


def a_worker_dies(sent: signal.Signals) -> None:
    """Each worker is killed when it has made a run and begins another."""
    from sourcematters.runs import run_folder

    parent, make, made = os.getpid(), run_folder._make, []

    def dying(*arguments: Any) -> None:
        if os.getpid() != parent and made:
            os.kill(os.getpid(), sent)
        make(*arguments)
        made.append(arguments)

    run_folder._make = dying


def noting_trainings(path: Path) -> None:
    """Each fine-tuning writes the name of its run into `path`."""
    from sourcematters.training import fine_tuning

    fine_tune = fine_tuning.fine_tune

    def noted(*arguments: Any, checkpoint: Any, **options: Any) -> Any:
        with open(path, "a") as file:
            file.write(checkpoint.path.stem + "\n")
        return fine_tune(*arguments, checkpoint=checkpoint, **options)

    fine_tuning.fine_tune = noted


def without_locks(code: int) -> None:
    """A file system that answers `code` to whoever wants a lock."""
    import fcntl

    def flock(file: Any, how: int) -> None:
        raise OSError(code, os.strerror(code))

    fcntl.flock = flock


def mounts_of_its_own() -> None:
    """What is mounted from now on, only this process and its children see."""
    libc, user, group = ctypes.CDLL(None, use_errno=True), os.geteuid(), os.getegid()
    if libc.unshare(0x00020000 | (0x10000000 if user else 0)):  # CLONE_NEWNS, CLONE_NEWUSER
        raise OSError(ctypes.get_errno(), "unshare")
    if user:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    mount("--make-rprivate", "/")


def mount(*arguments: str | Path) -> None:
    """Call mount."""
    subprocess.run(["mount", *map(str, arguments)], check=True)


def on_a_disk_of(size: int) -> Callable[[], None]:
    """The results lie on a disk of `size` bytes; what is on it at the end lies there afterwards."""
    mounts_of_its_own()
    results, disk = Path("results").absolute(), Path(tempfile.mkdtemp())
    results.mkdir()
    mount("-t", "tmpfs", "-o", f"size={size}", "none", disk)
    mount("--bind", disk, results)

    def end() -> None:
        subprocess.run(["umount", "-l", str(results)], check=True)
        shutil.copytree(disk, results, dirs_exist_ok=True)
        subprocess.run(["umount", "-l", str(disk)], check=True)
        disk.rmdir()

    return end


def read_only_after_a_run() -> None:
    """The results' folder turns read-only when a run is made."""
    from sourcematters.runs import grids

    mounts_of_its_own()
    results, attempt = Path("results").absolute(), grids.attempt
    results.mkdir()
    mount("--bind", results, results)

    def turning(*arguments: Any, **options: Any) -> str:
        failure = attempt(*arguments, **options)
        mount("-o", "remount,bind,ro", results)
        return failure

    grids.attempt = turning


def without_temporary_space() -> None:
    """No byte can be written to the temporary folder."""
    mounts_of_its_own()
    full = Path("full").absolute()
    full.mkdir()
    mount("-t", "tmpfs", "-o", "size=4k", "none", full)
    (full / "something").write_bytes(bytes(4096))
    tempfile.tempdir = str(full)
