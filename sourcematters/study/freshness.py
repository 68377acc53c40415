"""Whether a study has to be executed again: a digest of everything it was made from and everything it made."""

import contextlib
import hashlib
import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pandas as pd

from sourcematters import checksums, files
from sourcematters.errors import StudyError
from sourcematters.report.page import PDF
from sourcematters.runs import plans
from sourcematters.runs.run_folder import FILES

STAMP = ".executed"


def signature(root: Path, folder: Path, notebooks: Sequence[Path], values: Mapping[str, Any]) -> dict[str, str]:
    """A SHA-256 each of code, packages, settings, the files these name, images, runs, and the results in `folder`.

    `root` is a clone of the repository, `folder` a profile's results, `values` every setting that is not at its
    default, paths in it absolute (`settings.located`). Images and files that settings name count by their
    `checksums.stamp`, everything else by content; of runs, those in the profile's plans.
    """
    code = [*(path for path in _files(root / "sourcematters") if path.suffix != ".pyc"), *notebooks]
    results = [path for path in _files(folder) if path.name != PDF]  # which is printed when somebody asks
    named = [path for text in sorted(set(_texts(values)) - {str(folder)}) for path in _tree(text)]
    parts = {
        "python": platform.python_version(),
        "packages": sorted({(found.name, found.version) for found in distributions()}),
        "code": [(str(path.relative_to(root)), files.sha256(path)) for path in code],
        "settings": dict(values),
        "files that settings name": [_stamp(path) for path in named],
        "runs": [(path.parent.name, path.name, _content(path)) for path in _run_files(folder)],
        "images": [_stamp(path) for path in _images(folder.parent / "bank" / "files.csv")],
        "results": [(str(path.relative_to(folder)), files.sha256(path)) for path in results],
    }
    texts = {name: json.dumps(part, sort_keys=True, default=str) for name, part in parts.items()}
    return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}


def _files(folder: Path) -> list[Path]:
    """All files below a folder, sorted, but hidden ones: there JupyterLab keeps what was opened, and we the stamp."""
    found = (path for path in folder.rglob("*") if not any(p.startswith(".") for p in path.relative_to(folder).parts))
    return sorted(path for path in found if path.is_file())


def _images(remembered: Path) -> list[str]:
    """The images that banks were made from; the file's own flaw if it has one, which makes a study stale."""
    if not remembered.exists() or (wrong := checksums.flaw_of(remembered)):
        return [wrong] if remembered.exists() else []
    return pd.read_csv(remembered, dtype=str)["path"].tolist()


def _run_files(folder: Path) -> Iterable[Path]:
    """The files of the runs in a profile's plans, without the large weights."""
    for plan in plans.paths(folder):
        with contextlib.suppress(StudyError):  # a damaged plan counts by its content, as all results do
            for run_id in sorted(set(plans.read(plan)["run_id"])):
                run = folder.parent / "runs" / run_id
                yield from (run / name for name in (*FILES, "done"))


def changes(folder: Path, signature: Mapping[str, str]) -> list[str] | None:
    """The parts in which `folder`, as it was stamped, differs from this signature; None if it was never stamped."""
    try:
        stamped = files.read_json(folder / STAMP)
        return [name for name, digest in signature.items() if stamped.get(name) != digest]
    except (OSError, StudyError, AttributeError):
        return None


def stamp(folder: Path, signature: Mapping[str, str]) -> None:
    """Remember that `folder` holds the whole study of this signature."""
    files.write_json(folder / STAMP, dict(signature))


def _tree(text: str) -> Iterable[Path]:
    """A named file; or a folder, what is in it, and the folders in those: adding a file there shows in their times.

    Only an absolute name is one: any other text means a value, whatever lies in the folder where one stands.
    LIDC-IDRI's series lie one folder deeper.
    """
    path = Path(text)
    if path.is_absolute() and path.exists():
        deeper = (p for pattern in ("*/*", "LIDC-IDRI-*/*/*") for p in path.glob(pattern) if p.is_dir())
        yield from [path, *sorted(path.glob("*")), *sorted(deeper)]


def _content(path: Path) -> str:
    return files.sha256(path) if path.is_file() else "is not there"


def _stamp(path: str | Path) -> tuple[Any, ...]:
    try:
        return checksums.stamp(path)
    except OSError:
        return str(path), "is not there"


def _texts(value: Any) -> Iterable[str]:
    """Every text within nested lists and mappings: a parameter may name a file."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(part)
