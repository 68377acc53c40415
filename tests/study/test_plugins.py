"""A confounder, a reader and a source from outside the package, in one file that the setting `plugins` names."""

import json

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.metrics import roc_auc_score

from sourcematters import cohorts, confounders, plugins, sources
from sourcematters.errors import StudyError
from sourcematters.study import Study

PLUGIN = """
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import Field

from sourcematters import cohorts, confounders, sources
from sourcematters.cohorts.cohort import check


@confounders.register
class Border(confounders.Artefact):
    '''A white frame, as scanned films have.'''

    name: str = "border"
    leaf: str = "annotation"
    title = "white frame"
    practice = "Scanned films."
    width: int = Field(2, ge=1, description="px")

    def draw(self, image, key):
        mask = np.ones(image.shape, bool)
        mask[self.width : -self.width, self.width : -self.width] = False
        return np.where(mask, 255, image).astype(image.dtype), mask


@cohorts.register
class Numbered(cohorts.Reader):
    '''Images that are named by patient and label.'''

    name = "numbered"
    help = "a folder with numbered.txt in it; any task"

    def claims(self, data):
        return (Path(data) / "numbered.txt").is_file()

    def open(self, request):
        rows = [
            (path.stem, str(path), path.stem.split("-")[0], int(path.stem[-1]), path.stem.split("-")[1])
            for path in Path(request.data).glob("*.png")
        ]
        table = pd.DataFrame(rows, columns=["image_id", "path", "patient_id", "label", "split"])
        table = check(table, origin=request.data)
        return cohorts.Cohort(table, "numbered", request.task, caution="made up")


class Mine(sources.Source):
    kind = "mine"


def find(backbone, weights, folder):
    return Mine("mine", "mine:1", location=str(Path(__file__).with_name("mine.safetensors")))


sources.register(sources.Published("mine", "My pretraining", "", "this folder", "test_resnet", find))
"""


@pytest.fixture
def plugin(tmp_path):
    """The plugin's file, its weights beside it, and a folder of images that its reader knows."""
    (tmp_path / "my_plugin.py").write_text(PLUGIN)
    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet", num_classes=0).state_dict(), tmp_path / "mine.safetensors")
    rng, folder = np.random.default_rng(0), tmp_path / "images"
    folder.mkdir()
    (folder / "numbered.txt").touch()
    for patient in range(28):
        label, split = patient % 2, "test" if patient >= 20 else "dev"
        pixels = rng.normal(90 + 12 * label, 25, (40, 40)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"p{patient:02d}-{split}-{label}.png")
    return tmp_path / "my_plugin.py"


def test_a_study_of_all_three_runs_in_worker_processes(plugin, tmp_path):
    changes = {
        "plugins": [str(plugin)], "data": str(tmp_path / "images"), "task": "brightness", "sources": ["mine", "random"],
        "backbone": "test_resnet", "p_art": [1], "folds": 1, "size": 32, "epochs": 2, "batch_size": 8,
        "learning_rate": 1e-3, "workers": 2, "device": "cpu", "border": {"width": 4}, "confounder": "border",
        "smallest_test": 4,
    }  # fmt: skip
    (tmp_path / "mine.yaml").write_text("")
    study = Study(str(tmp_path / "mine.yaml"), changes, tmp_path / "results" / "mine")
    runs = study.run()
    assert set(runs.table["source"]) == {"mine", "random"} and set(runs.table["confounder"]) == {"border"}
    for row in runs.table.itertuples():
        folder = study.workspace.shared("runs") / row.run_id
        part = pd.read_csv(folder / "predictions.csv").query("test_set == @row.test_set")
        assert row.auc == pytest.approx(roc_auc_score(part["label"], part["score"]))
        spec = json.loads((folder / "spec.json").read_text())
        carrier = spec["confounder"]["carrier"]
        assert (carrier["name"], carrier["parameters"]) == ("border", {"width": 4})
        # The file of the plugin is part of what it draws.
        assert carrier["revision"].startswith("1+")
    assert set(runs.table["caution"]) == {"made up"}
    runs.plot()
    study.show()
    assert {path.name for path in (tmp_path / "results" / "mine" / "figures").glob("*.png")} == {
        "border.png", "border_artefact.png",
    }  # fmt: skip
    assert "border" in confounders.implemented()["annotation"]
    assert "numbered" in cohorts.known() and sources.known()["mine"].title == "My pretraining"


def test_what_cannot_be_imported_is_named(tmp_path):
    with pytest.raises(StudyError, match="no_such_module cannot be imported"):
        plugins.load(["no_such_module"])
    with pytest.raises(StudyError, match="nowhere.py: there is no such file"):
        plugins.load([str(tmp_path / "nowhere.py")])
    (tmp_path / "broken_plugin.py").write_text("1 / 0")
    with pytest.raises(StudyError, match="ZeroDivisionError: division by zero"):
        plugins.load([str(tmp_path / "broken_plugin.py")])
