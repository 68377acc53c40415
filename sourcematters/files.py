"""The one place that writes files: a reader sees the old file or the new one, never half of one."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from sourcematters.errors import StudyError


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the operating system's refusal to write `path` into a sentence a person can act on."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            free = shutil.disk_usage(next(p for p in [path, *path.parents] if p.exists())).free / 2**20
            raise StudyError(
                f"{path}: the disk is full ({free:.0f} MiB free). Nothing half-written was kept; "
                "free some space and start again: finished work is not repeated."
            ) from error
        if isinstance(error, PermissionError) or error.errno == errno.EROFS:
            raise StudyError(
                f"{error.filename or path}: {error.strerror}. Change its permissions, or choose another folder."
            ) from error
        raise


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends well.

    Raises StudyError when the disk is full or the folder is not writable; `path` is then untouched.
    """
    path = Path(path)
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # The suffix stays last: savefig and to_csv choose the format by it.
        beside = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}{path.suffix}")
        try:
            beside.touch()
            mode = beside.stat().st_mode  # as the umask has it: safetensors writes for the owner alone
            beside.unlink()
            yield beside
            os.chmod(beside, mode)
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8, all of it or nothing."""
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, all of it or nothing."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Read a JSON file. Raises StudyError if it is not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: not readable as JSON ({error}). Delete it and run again.") from error


def write_csv(path: str | Path, table: pd.DataFrame) -> None:
    """Write a table without its index, all of it or nothing; floats keep every digit they need."""
    with replacing(path) as beside:
        table.to_csv(beside, index=False, lineterminator="\n")


def sha256(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file's content, read in blocks."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
