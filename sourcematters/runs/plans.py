"""Plans: which runs a grid has, kept in plans/NAME.csv of a profile for whoever asks for them later."""

from pathlib import Path

import pandas as pd

from sourcematters import checksums
from sourcematters.runs.run_folder import Workspace

MEND = (
    "Run the notebook that makes these runs again (20 to 25): it writes the plan anew and trains nothing twice. "
    "A plan that is not wanted is deleted with its .sha256."
)


def write(workspace: Workspace, name: str, table: pd.DataFrame) -> None:
    """Keep a plan, one row a run (`grids.plan_table`), as plans/`name`.csv; one that is damaged there is said."""
    path = workspace.own(f"plans/{name}.csv")
    checksums.usable(path, "it is written anew")
    checksums.write_csv(path, table)


def read(path: Path) -> pd.DataFrame:
    """The plan at `path`. Raises StudyError unless it is what was written."""
    checksums.demand(path, MEND)
    return pd.read_csv(path, keep_default_na=False)


def paths(folder: Path) -> list[Path]:
    """The plans of a profile's folder, or of all profiles' where `folder` holds several (`results`).

    One that is gone, but has its seal, is among them: it does not just drop out of the tables.
    """
    for place in ("plans", "[!.]*/plans"):
        there = set(folder.glob(f"{place}/[!.]*.csv"))
        listed = {seal.parent / name for seal in folder.glob(f"{place}/*.sha256") for name in checksums.read(seal)}
        if there | listed:
            return sorted(there | listed)
    return []
