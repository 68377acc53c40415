"""The page as PDF, by a browser that is at hand; none is brought along."""

import shutil
import subprocess
from pathlib import Path

from sourcematters import files
from sourcematters.errors import StudyError
from sourcematters.report.page import PDF

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
ALONE = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()  # it asks nobody for anything
SECONDS = 120


def browser() -> str:
    """The path of a browser that prints; "" if there is none."""
    return next(filter(None, map(shutil.which, BROWSERS)), "")


def printed(page: Path) -> Path:
    """Print a page of `write` to report.pdf beside it. Raises StudyError where no browser is, or it does not print."""
    program, made = browser(), page.with_name(PDF)
    if not program:
        raise StudyError(f"{made}: no browser prints it here ({', '.join(BROWSERS[:3])}). Open {page} and print it.")
    with files.scratch() as scratch, files.replacing(made) as beside:
        where = [f"--user-data-dir={scratch}", f"--print-to-pdf={beside.resolve()}"]
        command = [program, "--headless", "--no-pdf-header-footer", *ALONE, *where]
        try:
            found = subprocess.run([*command, page.resolve().as_uri()], capture_output=True, timeout=SECONDS)
        except subprocess.TimeoutExpired as error:
            raise StudyError(f"{made}: {program} did not print it in {SECONDS} s. Open {page} and print it.") from error
        if not beside.exists():
            raise StudyError(f"{made}: {program} did not print it (exit {found.returncode}). Open {page} and print it.")
    return made
