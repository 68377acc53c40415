"""Where a finished model looks: the share of its attribution on each drawn confounder that has a place."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sourcematters.audit.model.finished import Finished
from sourcematters.audit.where import pairs, shares
from sourcematters.confounders import Confounder
from sourcematters.errors import StudyError
from sourcematters.processes import progress
from sourcematters.training.recipe import Preprocessing

IMAGES = 32


def of_model(
    model: Finished,
    table: pd.DataFrame,
    confounders: Sequence[Confounder],
    how: Preprocessing,
    *,
    folder: Path,
    task: str,
    seed: int,
    images: int = IMAGES,
) -> pd.DataFrame:
    """`shares.of_network` of a model, on at most `images` images of a table with each confounder that has a place.

    What is computed is kept in `folder`. Columns besides: `shares.KEYS`, of which source is the model and p_art NaN,
    and fold; no rows where no confounder has a place. Raises StudyError for a model that gives no gradients.
    """
    from sourcematters.audit.where.networks import OfFinished

    network, chosen, found = OfFinished(model).eval(), pairs.some(table, images, seed=seed), []
    with progress(confounders, desc=f"attribution: {model.name}", unit="confounder", mininterval=0) as bar:
        for confounder in bar:
            drawn = pairs.drawn(chosen, confounder, how, seed=seed)
            if drawn.local:
                made = shares.of_network(lambda: network, model.identity, drawn, folder=folder, seed=seed)
                row: dict[str, Any] = {"task": task, "confounder": confounder.name, "source": model.name}
                found.append(made.assign(**row, p_art=np.nan, fold=0))
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=[*shares.SHARES, "carries", "label"])


def refusal(model: Finished) -> str:
    """Why nothing can be told of where a model looks, in a sentence; "" where it can."""
    from sourcematters.audit.where.networks import OfFinished

    try:
        OfFinished(model)
    except StudyError as error:
        return str(error)
    return ""
