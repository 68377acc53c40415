"""What the site takes from outside docs/: pages that stand elsewhere on a code host, and files that pages link to.

mkdocs calls these by name (https://www.mkdocs.org/dev-guide/plugins/#events).
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
PLACES = {
    "README.md": "overview.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "notebooks/DIFFERENCES.md": "differences.md",
    "notebooks/nih-sample.png": "nih-sample.png",
    ".ci/Dockerfile": "Dockerfile.txt",
}
"""Where a file of the repository lies in the site."""
TARGET = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)")  # of a link to a file, without its anchor


def on_files(files: Any, config: Any) -> Any:
    """Add what `PLACES` names."""
    for path, place in PLACES.items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Lead links between files of the repository to where these lie in the site."""
    here = {place: path for path, place in PLACES.items()}.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def led(target: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(here), target[1]))
        return PLACES.get(path, path.removeprefix("docs/"))

    return TARGET.sub(led, markdown)
