"""Plans: which runs a grid has, kept in plans/NAME.csv of a profile for whoever asks for them later."""

from pathlib import Path

import pandas as pd

from sourcematters import checksums
from sourcematters.runs.run_folder import Workspace

MEND = "Run the notebook that makes these runs again (20 to 25): it writes the plan anew and trains nothing twice."


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
    """The plans of a profile's folder, or of all profiles' where `folder` holds several (`results`)."""
    return sorted(folder.glob("plans/[!.]*.csv")) or sorted(folder.glob("[!.]*/plans/[!.]*.csv"))
