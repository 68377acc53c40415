"""Settings proposed by looking at data: a file that opens them as it stands, with what was seen as comments."""

import numpy as np
import pytest
import yaml
from small_images import csv, png

from sourcematters.audit.settings_file import proposed
from sourcematters.errors import StudyError
from sourcematters.study.settings import Settings
from sourcematters.study.study import Study


def opened(folder, text):
    """The study of a file that holds `text`."""
    path = folder / "audit.yaml"
    path.write_text(text, encoding="utf-8")
    return Study(str(path), {}, folder / "results" / "audit")


def comments(text):
    return "\n".join(line for line in text.splitlines() if line.startswith("#"))


def test_a_table_of_another_person(tmp_path):
    """Semicolons, decimal commas, and J and N for labels."""
    rows = []
    for k in range(24):
        png(tmp_path / "films" / f"film{k}.tif", seed=k, bits=16)
        sick = ("J", "N", "?")[k % 3] if k > 2 else "JNJ"[k]
        rows.append(f"films/film{k}.tif;{sick};P{k // 2};{'FM'[k // 2 % 2]};{40 + k},5")
    table = csv(tmp_path / "mine.csv", "File;Pneumonia;Patient ID;Sex;Age", rows)
    text = proposed(table)
    values = yaml.safe_load(text)
    assert values["data"] == str(table) and values["task"] == "Pneumonia"
    assert values["columns"]["label"] == "Pneumonia" and values["columns"]["path"] == "File"
    assert values["positive"] == ["J"] and values["negative"] == ["N"] and "age" in values["bands"]
    assert values["interpolation"] == "antialias" and "# size: 224" in text
    assert set(values) <= set(Settings.model_fields)
    assert "sourcematters audit audit.yaml" in comments(text) and "# budget: 30 min" in text
    assert "24" in comments(text) and "J" in comments(text)

    study = opened(tmp_path, text)
    found = study.cohort.table
    labels = [row.split(";")[1] for row in rows]
    assert found["label"].value_counts().to_dict() == {1: labels.count("J"), 0: labels.count("N")}
    assert found["patient_id"].nunique() == len({k // 2 for k in range(24) if labels[k] != "?"})
    assert {"sex", "age_band"} <= set(found)


def test_each_setting_is_explained_beside_it(tmp_path):
    for k in range(8):
        png(tmp_path / "x" / ("sick" if k % 2 else "normal") / f"{k}.png", seed=k)
    text = proposed(tmp_path / "x")
    for name in ("data", "task", "interpolation"):
        (line,) = [line for line in text.splitlines() if line.startswith(f"{name}: ")]
        assert line.endswith(f"  # {Settings.model_fields[name].description}")


def test_a_folder_a_class(tmp_path):
    for k in range(24):
        png(tmp_path / "x" / ("pneumonia" if k % 2 else "normal") / f"{k}.png", seed=k)
    text = proposed(tmp_path / "x")
    values = yaml.safe_load(text)
    assert (values["positive"], values["task"]) == (["pneumonia"], "pneumonia")
    assert "normal (12), pneumonia (12)" in comments(text) and "The patient is not told by folders." in comments(text)
    assert opened(tmp_path, text).cohort.table["label"].sum() == 12


def test_a_medmnist_file(tmp_path):
    rng, arrays = np.random.default_rng(0), {}
    for part, n in (("train", 20), ("val", 10), ("test", 10)):
        arrays[f"{part}_images"] = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        arrays[f"{part}_labels"] = np.arange(n)[:, None] % 2
    np.savez(tmp_path / "pneumoniamnist.npz", **arrays)
    text = proposed(tmp_path / "pneumoniamnist.npz")
    assert "40 images of 28 px, in MedMNIST's layout" in comments(text)
    table = opened(tmp_path, text).cohort.table
    assert len(table) == 40 and table["label"].sum() == 20


def test_an_empty_folder_and_nothing_at_all(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(StudyError, match="neither an image nor a table is in it"):
        proposed(tmp_path / "empty")
    with pytest.raises(StudyError, match="Give a table, a folder of images, or a MedMNIST file."):
        proposed(tmp_path / "nowhere")
