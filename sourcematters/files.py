"""The one place that writes files: a reader sees the old file or the new one, never half of one."""

import contextlib
import errno
import hashlib
import io
import json
import os
import re
import shutil
import stat
import sys
import tempfile
import unicodedata
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout

from sourcematters.errors import StudyError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.EBADF)
PATIENCE = 60  # s that one waits for a lock before it is said: a file system may refuse it as if others held it


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the operating system's refusal to write `path` into a sentence a person can act on.

    Libraries that write by themselves wrap such a refusal into exceptions of their own, which are seen through.
    """
    try:
        yield
    except StudyError:
        raise
    except UnicodeEncodeError as error:
        name = error.object[max(0, error.start - 30) : error.end + 30]
        raise StudyError(f"{path}: it would hold {name!r}, which is no UTF-8. Rename that file or folder.") from error
    except Exception as error:
        refusal = _refusal(error)
        if refusal is None:
            raise
        if refusal.errno in FULL:
            there = next(p for p in [path.absolute(), *path.absolute().parents] if p.exists())
            free = shutil.disk_usage(there).free / 2**20
            raise StudyError(
                f"{path}: the disk is full ({free:.0f} MiB free). Nothing half-written was kept; "
                "free some space and start again: finished work is not repeated."
            ) from error
        named = Path(str(refusal.filename or path))
        named = named.parent if named.name.startswith(".") else named  # a hidden file is ours
        where = f"{named}: {refusal.strerror}"
        if isinstance(refusal, PermissionError) or refusal.errno == errno.EROFS:
            whose = "" if refusal.errno == errno.EROFS else _whose(named)
            raise StudyError(f"{where}{whose}. Change its permissions, or choose another folder.") from error
        if isinstance(refusal, NotADirectoryError | IsADirectoryError | FileExistsError):
            raise StudyError(f"{where}. Something else stands where the study writes: move or delete it.") from error
        raise


def _whose(path: Path) -> str:
    """Whose a path is, or the nearest folder above it that is there, in words; "" if that cannot be told."""
    there = next(p for p in [path.absolute(), *path.absolute().parents] if os.path.exists(p))
    with contextlib.suppress(KeyError, NotImplementedError):
        return f" ({'it' if there == path else there} belongs to {there.owner()})"
    return ""


def _refusal(error: BaseException | None) -> OSError | None:
    """The system's refusal that `error` is, or was raised for, or tells in its text."""
    while error is not None:
        if isinstance(error, OSError) and error.errno:
            return error
        # Rust's way of saying it (safetensors), and that of torch's writer, which does not say why.
        if found := re.search(r"\(os error (\d+)\)", str(error)):
            return OSError(int(found[1]), os.strerror(int(found[1])))
        if isinstance(error, RuntimeError) and "inline_container.cc" in str(error):
            return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        error = error.__cause__ or error.__context__
    return None


@contextlib.contextmanager
def locked(path: str | Path) -> Iterator[None]:
    """Hold the lock file `path`, waiting while another process does; whoever is killed holds it no longer.

    A file system without locks is refused: what can be had there instead, a file that marks what is being made, would
    stay behind a process that was killed on another machine, and be waited for without end. Raises StudyError.
    """
    path = Path(path)
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, fallback_to_soft=False)
        try:
            try:
                lock.acquire(timeout=PATIENCE)
            except Timeout:
                print(f"{path}: another process has held this lock for {PATIENCE} s; waiting.", file=sys.stderr)
                lock.acquire()
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            raise StudyError(
                f"{path.parent}: this file system has no locks ({error.strerror}), so two processes could make the "
                "same file there. Choose a folder on another disk (--results FOLDER), or have this one mounted with "
                "locks (Lustre: -o flock; NFS: with its lock service)."
            ) from error
        try:
            yield
        finally:
            lock.release()


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A temporary folder, deleted at the end. Raises StudyError where there is no room for one, or none any more."""
    try:
        folder = tempfile.TemporaryDirectory()
    except FileNotFoundError as error:  # Python has tried them all
        raise StudyError(
            f"{error.strerror}: they are full, or cannot be written. Free some space, or set TMPDIR to another folder."
        ) from error
    with folder as name, explained(Path(name)):
        yield Path(name)


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
            with contextlib.suppress(PermissionError):  # of a mount that has no modes
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


def spelt_as_on_disk(path: str | Path) -> Path:
    """`path`, or what is there under the same name in other Unicode letters: é is one of them, or e and an accent.

    A Mac decomposes the names of files, and Linux compares bytes (https://unicode.org/reports/tr15/).
    """
    path = Path(path)
    if os.path.exists(path) or path == path.parent:
        return path
    folder = spelt_as_on_disk(path.parent)
    spellings = [folder / unicodedata.normalize(form, path.name) for form in ("NFC", "NFD")]
    return next((spelling for spelling in spellings if os.path.exists(spelling)), path)


def opened(path: str | Path) -> io.BufferedReader:
    """Open a file that people brought, to read its bytes. Raises OSError at once if it is a pipe or a device.

    Those are found where a whole machine, or a disk that somebody backed up, is looked through, and may never answer.
    """
    return open(path, "rb", opener=_regular)


def _regular(path: str, flags: int) -> int:
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # which Windows neither has nor needs
    kind = os.fstat(descriptor).st_mode
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):  # of a folder, Python says so itself
        os.close(descriptor)
        raise OSError(errno.EINVAL, "a pipe or a device, not a file", path)
    return descriptor


def sha256(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file's content, read in blocks."""
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
