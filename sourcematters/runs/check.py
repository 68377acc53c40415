"""Whether all that a study wrote is still what it wrote: every file compared with its seal, and nothing changed."""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from sourcematters import checksums
from sourcematters.errors import StudyError
from sourcematters.files import read_json
from sourcematters.processes import progress
from sourcematters.runs import plans, run_folder

PACKAGE = Path(__file__).resolve().parents[1]
# Folders of a profile and those that profiles share, which files there must have a checksum, and what becomes of a
# damaged one. Files that a seal lists are looked at in any case.
OWN = {
    "plans": (".csv", "written anew by the notebook that makes its runs (20 to 25)"),
    "tables": (".csv", "written anew by its notebook"),
    "figures": (".png", "drawn anew by its notebook"),
    "notebooks": ("", "executed anew by the next call"),
}
SHARED = {
    "bank": (".npy", "built anew when it is used"),
    "cohorts": (".csv", "registered anew by the next notebook that makes runs (20 to 25)"),
    "sources": (".safetensors", "made anew when it is used"),
    "phantoms": ("", "read or drawn anew when it is used"),
    "phantoms/*": ("", "drawn anew when they are used"),
    "runs/.checkpoints": (".pt", "passed over: that fine-tuning starts anew"),
}
AGAIN, NEVER = "would be made again", "cannot be made again by the package"
Check = tuple[str, Callable[[], str], str]  # AGAIN or NEVER, what tells the flaw, what becomes of it


def report(folder: str | Path) -> tuple[str, int]:
    """What is wrong in a results folder, in words, a line each, and how much.

    `folder` is a profile's folder (`results/demo`), of which the runs in its plans are looked at, or `results` itself.
    Raises StudyError if there is nothing of a study in it.
    """
    folder = Path(folder).resolve()
    profiles = [
        path for path in (folder, *sorted(folder.glob("[!.]*/"))) if any((path / name).is_dir() for name in OWN)
    ]
    if not profiles:
        raise StudyError(f"{folder}: nothing of a study is in it. Give results, or a profile's folder (results/demo).")
    shared = folder.parent if profiles[0] == folder else folder
    checks = [*_files(profiles, shared), *_runs(profiles, shared, every=shared == folder)]
    found: dict[str, list[str]] = {AGAIN: [], NEVER: []}
    for kind, flaw, what in progress(checks, desc="check", unit="file"):
        if wrong := flaw():
            found[kind].append(f"  {wrong}; {what}")
    lines = [line for kind, each in found.items() if each for line in (f"{kind}:", *each)]
    wrong_ones = sum(map(len, found.values()))
    sound = len(checks) - wrong_ones
    return "\n".join([*lines, f"{sound} of {len(checks)} files and runs are as they were written"]), wrong_ones


def _files(profiles: list[Path], shared: Path) -> Iterator[Check]:
    kept = [(path / name, *how) for path in profiles for name, how in OWN.items()]
    kept += [(path, "", "written anew by its notebook") for path in profiles]  # pages, where they have a checksum
    kept += [(path, *how) for name, how in SHARED.items() for path in sorted(shared.glob(name)) if path.is_dir()]
    for folder, suffix, what in kept:
        yield from _sealed(folder, suffix, AGAIN, what)
    for folder in sorted(shared.glob("slurm/*/")):
        yield from _sealed(folder, ".csv", NEVER, f"end its jobs (scancel --name {folder.name}), delete {folder}")
    for folder in sorted({path.parent for path in PACKAGE.rglob(f"*{checksums.SUFFIX}")}):
        yield from _sealed(folder, ".safetensors", NEVER, f"it came with the package: git checkout -- {folder}")


def _sealed(folder: Path, suffix: str, kind: str, what: str) -> Iterator[Check]:
    """A check of each file that a seal in `folder` lists, and of each that ends in `suffix`, if that is not empty."""
    listed = {listing: checksums.read(listing) for listing in sorted(folder.glob(f"*{checksums.SUFFIX}"))}
    names = {listing: set(sums) for listing, sums in listed.items()}
    for path in folder.glob(f"[!.]*{suffix}") if suffix else ():
        names.setdefault(checksums.seal_of(path), set()).add(path.name)
    for listing, those in names.items():
        for name in sorted(those):
            yield kind, partial(checksums.flaw, listing, [name], listed.get(listing)), what


def _runs(profiles: list[Path], shared: Path, every: bool) -> Iterator[Check]:
    """A check of each run in a plan, of those whose networks they score, and, if asked, of `every` other one."""
    folder, planned = shared / "runs", set[str]()
    for path in (path for profile in profiles for path in plans.paths(profile)):
        with contextlib.suppress(StudyError):  # told where plans are looked at
            planned |= set(plans.read(path)["run_id"])
    there = {path.name for path in folder.glob("[!.]*") if not path.name.endswith(".failed")}
    planned |= {fit for run_id in planned & there if (fit := _fit(folder / run_id)) in there}
    for run_id in sorted(planned & there):
        yield AGAIN, partial(_flaw_of_run, folder / run_id), "made anew by the notebook that has it (20 to 25)"
    for run_id in sorted(there - planned) if every else ():
        yield NEVER, partial(_flaw_of_run, folder / run_id), "no plan has it any more: delete it"


def _fit(run: Path) -> str:
    try:
        return str(read_json(run / "spec.json")["fit"])
    except (OSError, StudyError, KeyError, TypeError):
        return ""


def _flaw_of_run(run: Path) -> str:
    if wrong := run_folder.flaw(run):
        return wrong
    if read_json(run / "spec.json")["confounder"] is None or run_folder.WEIGHTS in checksums.read(run / "done"):
        return run_folder.flaw(run, run_folder.WEIGHTS)
    return ""
