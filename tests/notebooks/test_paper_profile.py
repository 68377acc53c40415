"""The paper's profile, scaled down: real radiographs, ResNet50 from files in the published layouts, every notebook."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from keras_graphs import Keras, resnet50
from safetensors.torch import save_file
from sklearn.metrics import roc_auc_score
from test_keras_weights import write

from sourcematters.cohorts import nih_cxr14
from sourcematters.study import execute, notebooks

A_GROUP = 8
METADATA = "Data_Entry_2017_v2020.csv.gz"
SCALE = {
    "task": "Pneumonia",
    "splits": "own",
    "folds": "2",
    "smallest_test": "1",
    "p_art": "[0, 1]",
    "epochs": "2",
    "size": "32",
    "batch_size": "32",
    "plugins": "[sourcematters.demo]",
    "ct.data": "ct-phantoms",
    "ct.patients": "12",
    "ct.size": "32",
    "ct.crop": "0",
    "ct.sources": "[imagenet, random]",
    "ct.p_art": "[0, 1]",
    "gender.task": "Pneumonia",
    "gender.size": "32",
    "gender.batch_size": "32",
}


@pytest.fixture(scope="module")
def images(shared_data, tmp_path_factory):
    """A ChestX-ray14 folder with NIH's whole table and a few of its images: as many of each label and sex."""
    real, folder = shared_data / "nih-cxr14", tmp_path_factory.mktemp("cxr14")
    (folder / METADATA).symlink_to((real / METADATA).resolve())
    (folder / "images").mkdir()
    table = nih_cxr14.cohort(real, finding="Pneumonia", test_fraction=0.25, seed=0).table
    for _, group in table.drop_duplicates("patient_id").groupby(["label", "sex"]):
        for path in group["path"].head(A_GROUP):
            (folder / "images" / Path(path).name).symlink_to(Path(path).resolve())
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """ResNet50 with random values, as timm keeps ImageNet's on the hub and as the Keras release is laid out."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    save_file(timm.create_model("resnet50", num_classes=1000).state_dict(), folder / "model.safetensors")
    keras = Keras(resnet50, 0)
    with torch.inference_mode():
        keras(torch.zeros(1, 75, 75, 3).double(), training=False)
    write(folder / "RadImageNet-ResNet50_notop.h5", keras.weights, "save")
    return {"imagenet": str(folder / "model.safetensors"), "radimagenet-keras": str(folder)}


@pytest.fixture(scope="module")
def study(images, weights, tmp_path_factory):
    given = SCALE | {"data": str(images), "weights": json.dumps(weights)}
    plan = notebooks.plan("paper", given.items(), (), tmp_path_factory.mktemp("results"))
    execute.run(plan)
    return plan


def test_every_notebook_of_the_study_was_executed(study):
    # Those for confounders and models of one's own, and on where networks look, are not the paper's.
    names = {notebook.name for notebook in notebooks.notebooks()} - {
        "25_any_confounder",
        "33_where_it_looks",
        "40_audit",
    }
    assert {path.stem for path in (study.folder / "notebooks").glob("*.html")} == names
    for figure in ("fig1_miccat", "fig2_artefacts", "fig3", "fig4", "forest", "calibration"):
        assert (study.folder / "figures" / f"{figure}.png").stat().st_size > 5000


def test_every_run_of_the_grid_is_there_and_its_auc_is_that_of_its_scores(study):
    table = pd.read_csv(study.folder / "tables" / "all_runs.csv")
    # Panels, sources, strengths, folds and test sets: of X-rays, and of CT.
    assert len(table) == 5 * 3 * 2 * 2 * 3 + 2 * 2 * 2 * 2 * 3 and set(table["source"]) == {
        "imagenet",
        "radimagenet-keras",
        "random",
    }
    for row in table.itertuples():
        scores = pd.read_csv(study.folder.parent / "runs" / row.run_id / "predictions.csv")
        part = scores[scores["test_set"] == row.test_set]
        assert row.auc == pytest.approx(roc_auc_score(part["label"], part["score"]))


def test_runs_have_the_papers_settings_where_they_were_not_scaled_down(study):
    table = pd.read_csv(study.folder / "tables" / "all_runs.csv").drop_duplicates("run_id")
    for run_id in table["run_id"]:
        spec = json.loads((study.folder.parent / "runs" / run_id / "spec.json").read_text())
        training = spec["training"]
        assert (training["patience"], training["learning_rate"], training["dropout"]) == (30, 1e-5, 0.5)
        assert (training["bn_momentum"], training["interpolation"]) == (0.01, "nearest")
        history = pd.read_csv(study.folder.parent / "runs" / run_id / "history.csv")
        assert len(history) == 2 and np.isfinite(history["val_loss"]).all()
        source = spec["source"]
        if source["name"] == "radimagenet-keras":
            assert source["kind"] == "keras" and source["std"] == [1, 1, 1]
        else:
            assert source["std"] == [0.229, 0.224, 0.225]


def test_patients_are_in_one_part_only(study):
    runs = study.folder.parent / "runs"
    cohorts = {path.stem: pd.read_csv(path) for path in (study.folder.parent / "cohorts").glob("*.csv")}
    for spec in map(json.loads, (path.read_text() for path in runs.glob("*/spec.json"))):
        cohort = cohorts[spec["cohort"]]
        assert cohort.groupby("patient_id")["split"].nunique().max() == 1
        assert spec["data"] == "ct-phantoms" or len(cohort) == 4 * A_GROUP
        tested = pd.read_csv(runs / spec["id"] / "predictions.csv")["image_id"]
        assert (cohort.set_index("image_id").loc[tested, "split"] == "test").all()


def test_it_says_what_keeps_it_from_being_the_paper(study):
    assert not (study.folder / "figures" / "against_the_paper.png").exists(), "another task: there is nothing to read"
    executed = json.loads((study.folder / "notebooks" / "32_against_the_paper.ipynb").read_text())
    text = "".join("".join(o.get("text", [])) for cell in executed["cells"] for o in cell.get("outputs", []))
    assert "No panel has the paper's data and task, so none is drawn." in text
    table = pd.read_csv(study.folder / "tables" / "against_the_paper.csv")
    assert set(table["source"]) == {"imagenet", "radimagenet-keras", "random"} and not table["comparable"].any()
    reasons = table[table["panel"] == "tag"].groupby("source")["reason"].unique()
    for (reason,) in reasons:
        assert "task Pneumonia, not lung-mass" in reason and "size 32 (512)" in reason and "epochs 2 (200)" in reason
        assert "patience" not in reason and "learning_rate" not in reason and "height" not in reason
    # A file of one's own may hold anything.
    assert ["kind" in reason for (reason,) in reasons[["imagenet", "radimagenet-keras", "random"]]] == [
        True,
        False,
        False,
    ]
