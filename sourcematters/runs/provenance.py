"""By what a run was made: device, versions, commit and code; kept in its env.json, and no part of its identity."""

import contextlib
import datetime
import platform
import socket
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sourcematters import files
from sourcematters.errors import StudyError

PACKAGE = Path(__file__).resolve().parents[1]
# What a number goes through, from the image file to the score.
CODE = ("cohorts/pixels.py", "confounders/*.py", "sources/*.py", "training/*.py", "runs/run_folder.py", "seeds.py")


def environment(device: str, seconds: float) -> dict[str, Any]:
    """What env.json says of a run that took `seconds` on `device`: see `run_folder`.

    `commit` and `changed` (whether the package differs from it) are None outside a clone of the repository; `code` is
    a digest of each file in `CODE`.
    """
    commit, changed = _commit()
    return {
        "device": device,
        "machine": platform.machine(),
        "host": socket.gethostname(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("sourcematters", "torch", "timm", "numpy", "pandas")},
        "commit": commit,
        "changed": changed,
        "code": code(),
        "seconds": round(seconds, 2),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


@cache
def code() -> dict[str, str]:
    """A digest of each file in `CODE`, by its path in the package, as it was when this process first asked."""
    paths = sorted({path for pattern in CODE for path in PACKAGE.glob(pattern)})
    return {path.relative_to(PACKAGE).as_posix(): files.sha256(path)[:12] for path in paths}


@cache
def _commit() -> tuple[str | None, bool | None]:
    def git(*arguments: str) -> str:
        command = ["git", "-C", str(PACKAGE), *arguments]
        answer = subprocess.run(command, capture_output=True, timeout=30, check=True).stdout
        return answer.decode(errors="replace").strip()  # names of files may be in any encoding

    with contextlib.suppress(OSError, subprocess.SubprocessError):
        if git("ls-files", "--", "__init__.py"):  # an installed package may lie inside somebody else's clone
            return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--", "."))
    return None, None


def made_by_other_code(folders: list[Path]) -> str:
    """A sentence if some of these finished runs were made before the code changed, under the same revisions; else "".

    Such runs are taken as they are: most changes of code change no number. Only a person can tell, so it is said.
    """
    now, older, changed = code(), 0, set[str]()
    for folder in folders:
        with contextlib.suppress(OSError, StudyError, AttributeError, TypeError):
            then = files.read_json(folder / "env.json")["code"]
            differing = {name for name in now.keys() | then.keys() if now.get(name) != then.get(name)}
            older, changed = older + bool(differing), changed | differing
    if not older:
        return ""
    names = ", ".join(sorted(changed)[:4]) + (", ..." if len(changed) > 4 else "")
    return (
        f"{older} finished runs were made before {names} changed, and are taken as they are, for the revisions are the "
        "same. If the change alters numbers, raise the revision of its step (REVISIONS in training/recipe.py, "
        "`revision` of a confounder or source), and they are made anew."
    )
