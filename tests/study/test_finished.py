"""Finished runs: what is drawn of them, and what is refused."""

import pandas as pd
import pytest

from sourcematters.errors import StudyError
from sourcematters.runs.run_folder import Workspace
from sourcematters.study.finished import FinishedRuns
from sourcematters.study.settings import Settings


def finished(folder, confounder, **settings):
    rows = [
        (p, test_set, 0.5 + p / 4, "mass", confounder, "random", "resnet50", 0, "")
        for p in (0, 1)
        for test_set in ("ood", "iid")
    ]
    columns = ["p_art", "test_set", "auc", "task", "confounder", "source", "backbone", "fold", "caution"]
    return FinishedRuns(pd.DataFrame(rows, columns=columns), Workspace(str(folder)), Settings(**settings), "runs", list)


def test_a_figure_of_the_paper_is_drawn_where_one_of_its_confounders_was_run(tmp_path):
    runs = finished(tmp_path, "noise", state_of_the_art={"mass": 0.9})
    assert runs.fig3() is None
    assert runs.fig4() is not None and runs.overview() is not None
    assert {path.name for path in tmp_path.glob("figures/*.csv")} == {"fig4.csv", "overview.csv"}


def test_a_published_level_must_be_of_a_task_that_was_run(tmp_path):
    with pytest.raises(StudyError, match="state_of_the_art: unknown task `mas`. Did you mean mass?"):
        finished(tmp_path, "tag", state_of_the_art={"mas": 0.9}).fig3()
