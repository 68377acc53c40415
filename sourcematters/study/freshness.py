"""Whether a study has to be executed again: a digest of everything it was made from and everything it made."""

import hashlib
import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pandas as pd

from sourcematters import files

STAMP = ".executed"


def signature(root: Path, folder: Path, notebooks: Sequence[Path], values: Mapping[str, Any]) -> str:
    """SHA-256 over code, installed packages, notebooks, parameters, images, weights, runs, and the results in `folder`.

    `root` is a clone of the repository, `folder` a profile's results, `values` every setting that is not at its
    default. Images and results count by size and modification time, as `make` does it; code and notebooks by content.
    """
    package = (path for path in (root / "sourcematters").rglob("*") if path.is_file() and path.suffix != ".pyc")
    code = [*sorted(package), *notebooks]
    shared = folder.parent
    runs = sorted(path.name for path in shared.glob("runs/*") if (path / "done").exists())
    known = shared / "bank" / "files.csv"
    images = pd.read_csv(known, dtype=str)["path"].tolist() if known.exists() else []
    results = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != STAMP)
    parts = {
        "python": platform.python_version(),
        "packages": sorted({(found.name, found.version) for found in distributions()}),
        "code": [(str(path.relative_to(root)), files.sha256(path)) for path in code],
        "settings": dict(values),
        "named": [_stat(path) for text in sorted(set(_texts(values)) - {str(folder)}) for path in _tree(Path(text))],
        "runs": runs,
        "images": [_stat(path) for path in images],
        "results": [_stat(path) for path in results],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def is_fresh(folder: Path, digest: str) -> bool:
    """Whether `folder` was stamped with this signature."""
    stamp = folder / STAMP
    return stamp.is_file() and stamp.read_text(encoding="utf-8").strip() == digest


def stamp(folder: Path, digest: str) -> None:
    """Remember that `folder` holds the whole study of this signature."""
    files.write_text(folder / STAMP, digest + "\n")


def _tree(path: Path) -> Iterable[Path]:
    """A named file; or a folder, what is in it, and the folders in those: adding a file there shows in their times.

    LIDC-IDRI's series lie one folder deeper.
    """
    if path.exists():
        deeper = (p for pattern in ("*/*", "LIDC-IDRI-*/*/*") for p in path.glob(pattern) if p.is_dir())
        yield from [path, *sorted(path.glob("*")), *sorted(deeper)]


def _stat(path: str | Path) -> tuple[str, int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return str(path), -1, -1
    return str(path), found.st_size, found.st_mtime_ns


def _texts(value: Any) -> Iterable[str]:
    """Every text within nested lists and mappings: a parameter may name a file."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(part)
