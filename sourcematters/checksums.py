"""Checksums of what is kept, in files that `sha256sum -c` reads too: whether a file is still what was written.

A *seal* is a text file that lists, a line each, the SHA-256 and the name of files in its own folder or below it: the
seal of NAME.csv is NAME.sha256 beside it, which other files of that name share; that of a run is its file `done`. It
is written after what it lists. Whoever is killed between the two leaves a file without a seal, or with an older one,
which counts as damaged.
"""

import contextlib
import re
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd

from sourcematters import files
from sourcematters.errors import StudyError

SUFFIX = ".sha256"
SETTLED_NS = 2 * 10**9  # a file may change twice within a tick of the clock: one that young is read again
Stamp = tuple[str, int, int, int, int]
# sha256sum puts two spaces, or a space and a star for what was read as binary.
LINE = re.compile(r"([0-9a-f]{64}) [ *](\S.*)")


def seal_of(path: str | Path) -> Path:
    """Where the seal of a file lies: NAME.sha256 beside NAME.csv."""
    return Path(path).with_suffix(SUFFIX)


def seal(listing: Path, paths: Iterable[Path]) -> None:
    """Write the seal `listing` of `paths`, files in its folder or below it."""
    write(listing, {path.relative_to(listing.parent).as_posix(): files.sha256(path) for path in paths})


def write(listing: Path, sums: dict[str, str]) -> None:
    """Write a seal from names and SHA-256, sorted by name."""
    files.write_text(listing, "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())))


def read(listing: Path) -> dict[str, str]:
    """What a seal lists, name to SHA-256; lines that are none (cut, damaged) are passed over, and so is no seal."""
    try:
        lines = listing.read_text(encoding="utf-8", errors="replace").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return {found[2]: found[1] for line in lines if (found := LINE.fullmatch(line))}


@contextlib.contextmanager
def sealing(path: str | Path) -> Iterator[Path]:
    """As `files.replacing`, and keep the checksum of what was written beside it."""
    path = Path(path)
    with files.replacing(path) as beside:
        yield beside
        digest = files.sha256(beside)
    write(seal_of(path), {path.name: digest})


def write_csv(path: str | Path, table: pd.DataFrame) -> None:
    """As `files.write_csv`, and keep the checksum beside it."""
    with sealing(path) as beside:
        table.to_csv(beside, index=False, lineterminator="\n")


def flaw(listing: Path, names: Iterable[str] | None = None, sums: dict[str, str] | None = None) -> str:
    """What is wrong with the first of `names` (None: all that the seal `listing` lists), in words; "" for nothing.

    A name that is not listed is wrong: nothing tells that its file is what was written. `sums` is what `read` gives of
    `listing`, where many ask.
    """
    sums = read(listing) if sums is None else sums
    for name in sums if names is None else names:
        path = listing.parent / name
        if not path.is_file():
            return f"{path}: is not there"
        if name not in sums:
            return f"{path}: has no checksum in {listing.name}"
        if _digest(path) != sums[name]:
            return f"{path}: does not match its checksum in {listing.name}"
    return "" if sums else f"{listing}: {'lists nothing' if listing.exists() else 'is not there'}"


def flaw_of(path: str | Path) -> str:
    """What is wrong with a single file, as its seal tells, in words; "" for nothing."""
    return flaw(seal_of(path), [Path(path).name])


def usable(path: str | Path, otherwise: str) -> bool:
    """Whether a file is there and what was written.

    One that is there, but damaged, is said on standard error, and what is done about it (`otherwise`: it is ...).
    """
    if not Path(path).exists():
        return False
    if wrong := flaw_of(path):
        tell(wrong, otherwise)
    return not wrong


def tell(wrong: str, otherwise: str) -> None:
    """Say in one sentence what is wrong with a file, and what is done about it."""
    print(f"{wrong}; {otherwise}.", file=sys.stderr, flush=True)


def demand(path: str | Path, mend: str) -> None:
    """Raise StudyError, ending with `mend`, unless a file is there and what was written."""
    if wrong := flaw_of(path):
        raise StudyError(f"{wrong}. {mend}")


def stamp(path: str | Path) -> Stamp:
    """What changes with a file's content: path, size in bytes, times of change of content and inode in ns, inode.

    The time of a file's content can be set at will (`touch -r`, `cp -p`), that of its inode cannot.
    """
    found = Path(path).stat()
    return str(path), found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def _digest(path: Path) -> str:
    """SHA-256 of a file, which a process reads once, and again when its stamp changed: many runs share a bank."""
    found = stamp(path)
    if found not in _known:
        digest = files.sha256(path)
        if time.time_ns() - found[3] < SETTLED_NS:
            return digest
        _known[found] = digest
    return _known[found]


_known: dict[Stamp, str] = {}
