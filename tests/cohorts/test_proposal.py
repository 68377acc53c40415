"""What a path seems to hold: each proposal opens, and says what it rests on."""

import numpy as np
import pytest
import yaml
from small_images import csv, film, png

from sourcematters.cohorts import Request, open_cohort
from sourcematters.cohorts.proposal import proposal
from sourcematters.errors import StudyError


def opens(settings, cache):
    """The cohort of a proposal, which goes through YAML as a user's file does."""
    return open_cohort(Request(**yaml.safe_load(yaml.safe_dump(settings)), cache=cache))


def test_another_persons_table(tmp_path):
    rows = []
    for k in range(24):
        png(tmp_path / "Bilder" / f"b{k}.tif", k, bits=16)
        rows.append(f"b{k};{k // 2};{'JN'[k % 2]};{'wm'[k // 2 % 2]};{20 + 3 * k},5;{('Nord', 'Süd')[k // 3 % 2]}")
    (tmp_path / "liste.csv").write_text("Datei;PatientenNr;Befund;Geschlecht;Alter;Klinik\n" + "\n".join(rows))
    settings, said = proposal(tmp_path / "liste.csv")
    assert settings == {
        "data": str(tmp_path / "liste.csv"), "root": str(tmp_path / "Bilder"), "task": "label 1",
        "positive": ["J"], "negative": ["N"], "bands": {"age": [0, 40, 60, 120]},
        "columns": {
            "path": "Datei", "label": "Befund", "patient": "PatientenNr", "sex": "Geschlecht", "age": "Alter",
            "site": "Klinik",
        },
    }  # fmt: skip
    assert "Label Befund: J counts as 1, N as 0." in said
    own = opens(settings, tmp_path)
    assert len(own.table) == 24 and own.patients_known and own.table["age"].iloc[0] == 20.5
    assert {"sex", "site", "age_band"} <= set(own.table)
    assert proposal(tmp_path)[0] == settings  # its folder is as good


def test_columns_that_are_called_nothing_known_are_found_by_their_values(tmp_path):
    rows = []
    for k in range(16):
        png(tmp_path / "x" / f"{k}.png", k)
        rows.append(f"x/{k}.png,{'FM'[k % 2]},{('PA', 'AP')[k // 2 % 2]},{k // 4 % 2},{k // 2 % 2}.0,{k}")
    path = csv(tmp_path / "t.csv", "c1,c2,c3,Nodule,Mass,c6", rows)
    settings, said = proposal(path)
    assert settings["columns"] == {"path": "c1", "label": "Nodule", "sex": "c2", "view": "c3"}
    assert (settings["task"], settings["positive"]) == ("Nodule", ["1"])
    assert "Other columns could be the label: Mass. Which one is left to you." in said
    assert "The patient column is not found: no leak of patients can be ruled out." in said
    assert any(sentence.startswith("Views are PA (8), AP (8)") for sentence in said)
    assert opens(settings, tmp_path).table["label"].sum() == 8


def test_a_release_by_its_layout(tmp_path):
    rows = []
    for k in range(24):
        name = f"train/patient{k:05d}/study1/view1_frontal.jpg"
        png(tmp_path / "CheXpert" / name, k)
        rows.append(f"CheXpert/{name},Male,{40 + k},Frontal,AP,{('1.0', '0.0', '-1.0')[k % 3]},{(1.0, 0.0)[k % 4 > 0]}")
    csv(tmp_path / "CheXpert" / "train.csv", "Path,Sex,Age,Frontal/Lateral,AP/PA,Edema,Fracture", rows)
    settings, said = proposal(tmp_path / "CheXpert")
    assert settings == {"data": str(tmp_path / "CheXpert"), "task": "Edema", "bands": {"age": [0, 40, 60, 120]}}
    assert "Its findings are Edema (8), Fracture (6): which one is the task is left to you." in said
    assert len(opens(settings, tmp_path).table) == 16
    # A copy of its table is another person's table.
    csv(
        tmp_path / "mine.csv",
        "Path,Gender,Age,Edema",
        [",".join(row.split(",")[i] for i in (0, 1, 2, 5)) for row in rows],
    )
    settings, said = proposal(tmp_path / "mine.csv")
    assert settings["columns"] == {"path": "Path", "label": "Edema", "sex": "Gender", "age": "Age"}
    assert "Label Edema: 1.0 counts as 1, 0.0 as 0; left out are -1 (8)." in said
    assert len(opens(settings, tmp_path).table) == 16


def test_a_medmnist_file(tmp_path):
    arrays = {}
    for part, n in (("train", 8), ("val", 4), ("test", 6)):
        arrays[f"{part}_images"] = np.random.default_rng(n).integers(0, 256, (n, 28, 28), np.uint8)
        arrays[f"{part}_labels"] = np.arange(n, dtype=np.uint8)[:, None] % 2
    np.savez(tmp_path / "pneumoniamnist.npz", **arrays)
    settings, said = proposal(tmp_path / "pneumoniamnist.npz")
    assert settings == {"data": str(tmp_path / "pneumoniamnist.npz"), "task": "pneumonia", "positive": ["1"]}
    assert "Label 1 is pneumonia, label 0 normal." in said and len(list(tmp_path.iterdir())) == 1
    assert opens(settings, tmp_path / "c").table["label"].sum() == 9


def test_class_folders_with_and_without_dicom(tmp_path):
    for k in range(12):
        png(tmp_path / "png" / "train" / ("NORMAL", "TB")[k % 2] / f"{k}.png", k)
        tags = {"PatientAge": "045Y", "PatientSex": "F"}
        film(tmp_path / "dcm" / ("ill", "healthy")[k % 2] / f"{k}", f"p{k}", **tags)
    settings, said = proposal(tmp_path / "png")
    assert settings == {"data": str(tmp_path / "png"), "positive": ["TB"], "task": "TB"}
    assert "Their class folders are NORMAL (6), TB (6)." in said and "The patient is not told by folders." in said
    assert len(opens(settings, tmp_path).table) == 12
    settings, said = proposal(tmp_path / "dcm")
    assert settings["positive"] == ["ill"] and settings["bands"] == {"age": [0, 40, 60, 120]}
    assert "Their DICOM tags give patient_id, sex, age." in said
    assert opens(settings, tmp_path / "c").patients_known


def test_a_table_that_names_images_below_it_is_proposed_as_their_labels(tmp_path):
    for k in range(12):
        png(tmp_path / "deep" / "er" / f"s{k % 2}" / f"im{k}.png", k)
    table = csv(tmp_path / "meta.csv", "id,label,subject", [f"im{k},{k % 2},{k // 2 % 6}" for k in range(12)])
    settings, _ = proposal(tmp_path)
    assert (settings["data"], settings["labels"]) == (str(tmp_path), str(table))
    assert settings["columns"] == {"image": "id", "label": "label", "patient": "subject"}
    assert len(opens(settings, tmp_path / "c").table) == 12


def test_what_holds_nothing_is_a_sentence(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(StudyError, match="neither an image nor a table is in it; there is nothing"):
        proposal(tmp_path / "empty")
    with pytest.raises(StudyError, match="there is no such folder or file. Give a table, a folder of images"):
        proposal(tmp_path / "not-there")
    png(tmp_path / "flat" / "a.png")
    settings, said = proposal(tmp_path / "flat")
    assert settings == {"data": str(tmp_path / "flat")} and "Nothing tells their labels" in " ".join(said)


def test_the_real_radiographs(shared_data):
    settings, said = proposal(shared_data / "nih-cxr14")
    assert settings["task"] == "Pneumonia" and "480 of 112,120 listed images are there" in said[0]
