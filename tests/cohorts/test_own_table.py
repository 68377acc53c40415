"""Tables as other people make them."""

import pandas as pd
import pytest
from small_images import csv, film, opened, png, refusal

from sourcematters.cohorts import verify


@pytest.fixture
def clinic(tmp_path):
    """Images in folders, 24 rows of 12 patients, all under other names."""
    rows = []
    for k in range(24):
        png(tmp_path / "films" / "a" / f"f{k}.png", k)
        mass = ("1.0", "0.0", "-1.0", "")[min(k // 10, 3) if k > 19 else k % 2]
        rows.append(f"a/f{k}.png,P{k // 2},{'FM'[k % 2]},{k * 4},Ulm,{mass}")
    return csv(tmp_path / "list.csv", "Datei,MRN,Geschlecht,Alter,Ward,Mass", rows)


HOW = {
    "columns": {"path": "Datei", "patient": "MRN", "sex": "Geschlecht", "age": "alter", "label": "Mass"},
    "positive": [1],
    "negative": [0],
}


def test_columns_values_root_and_bands_as_people_have_them(clinic, tmp_path):
    own = opened(clinic, root=tmp_path / "films", bands={"age": [0, 40, 90]}, **HOW)
    table = own.table.set_index("image_id")
    assert len(table) == 20 and table["label"].sum() == 10 and own.patients_known
    assert table.loc["a/f3.png", "path"] == str(tmp_path / "films" / "a" / "f3.png")
    assert table.loc["a/f3.png", ["patient_id", "sex", "age", "age_band", "Ward"]].tolist() == [
        "P1", "M", 12, "0-40", "Ulm"
    ]  # fmt: skip
    assert own.notes[0] == (
        "Columns by what they mean: 'Datei' as path, 'MRN' as patient_id, 'Geschlecht' as sex, 'Alter' as age, "
        "'Mass' as label."
    )
    assert "left out '-1.0' (4)" in own.notes[1] and own.problems[0][0] == "label '-1.0'"


def test_a_column_that_is_not_there_is_named_with_the_nearest(clinic):
    text = refusal(clinic, columns={"path": "Datei", "patient": "MNR"})
    assert "columns.patient: unknown column `MNR`. Did you mean MRN? Known: Datei, MRN" in text


def test_a_task_that_is_a_column_is_the_label(clinic, tmp_path):
    columns = {"path": "Datei", "patient": "MRN"}
    own = opened(clinic, root=tmp_path / "films", task="mass", columns=columns, positive=[1], negative=[0])
    assert len(own.table) == 20 and "'Mass' as label" in own.notes[0]


def test_without_a_patient_each_image_is_its_own_and_it_is_said(clinic, tmp_path):
    clinic.write_text(clinic.read_text().replace("MRN", "Akte"))  # MRN is known to mean the patient
    columns = {name: column for name, column in HOW["columns"].items() if name != "patient"}
    own = opened(clinic, root=tmp_path / "films", **HOW | {"columns": columns})
    assert not own.patients_known and own.table["patient_id"].tolist() == own.table["image_id"].tolist()
    assert any(note.startswith("The patient is not known") for note in own.notes)
    assert any(note.startswith("Split by image") for note in own.notes) and "unknown patients" in repr(own)
    text, problems = verify.report(own)
    assert "Patients in both dev and test: cannot be told" in text and problems.empty


def test_a_table_of_paths_and_labels_is_enough(tmp_path):
    for k in range(8):
        png(tmp_path / f"{k}.png", k)
    own = opened(csv(tmp_path / "t.csv", "file,label", [f"{k}.png,{k % 2}" for k in range(8)]))
    assert own.table["image_id"].tolist() == [f"{k}.png" for k in range(8)] and not own.patients_known
    text = refusal(csv(tmp_path / "t.csv", "file,label,who", [f"{k}.png,{k % 2},{k}" for k in range(8)]))
    assert "no column patient_id" in text and "columns: {patient: who}" in text


def test_endings_are_found_where_they_are_left_out(tmp_path):
    for k in range(8):
        png(tmp_path / f"im.{k}.tif", k, bits=16)
    path = csv(tmp_path / "t.csv", "file,label", [f"im.{k},{k % 2}" for k in range(8)])
    own = opened(path)
    assert own.table["path"].iloc[3] == str(tmp_path / "im.3.tif")
    assert "8 image files are named without their ending in the table; they were found." in own.notes
    png(tmp_path / "im.3.png")
    assert f"{tmp_path / 'im.3'}: could be {tmp_path / 'im.3.png'}, {tmp_path / 'im.3.tif'}" in refusal(path)


def test_semicolons_decimal_commas_and_german_words(tmp_path):
    for k in range(12):
        png(tmp_path / f"b{k}.tif", k, bits=16)
    rows = "\n".join(f"b{k}.tif;{k // 2};{'JN'[k % 2]};{30 + k},5;KH" for k in range(12))
    (tmp_path / "t.csv").write_text("Bild;Fall;Befund;Alter;Klinik\n" + rows)
    columns = {"path": "Bild", "patient": "Fall", "label": "Befund", "age": "Alter", "site": "Klinik"}
    own = opened(tmp_path / "t.csv", columns=columns, bands={"age": [0, 35, 60]})
    assert own.table["label"].sum() == 6 and own.table["age"].iloc[0] == 30.5
    assert own.table["age_band"].value_counts().to_dict() == {"0-35": 5, "35-60": 7}
    assert "Of the labels j is taken as 1, n as 0." in own.notes


def test_train_and_val_are_dev(tmp_path):
    for k in range(8):
        png(tmp_path / f"{k}.png", k)
    rows = [f"{k}.png,{k % 2},{['train', 'valid', 'Train', 'TEST'][k // 2]}" for k in range(8)]
    own = opened(csv(tmp_path / "t.csv", "file,label,split", rows))
    assert own.table["split"].tolist() == ["dev"] * 6 + ["test"] * 2
    assert "Of split, train is taken as dev, valid is taken as dev." in own.notes


def test_bad_labels_roots_and_rows_are_sentences(clinic, tmp_path):
    films = tmp_path / "films"
    assert "there is no such folder or file" in refusal(clinic, root=tmp_path / "flims", **HOW)
    assert "no image is labelled ill" in refusal(clinic, root=films, **HOW | {"positive": ["ill"]})
    for k in range(4):
        png(tmp_path / f"{k}.png", k)
    alike = csv(tmp_path / "alike.csv", "file,label", [f"{k}.png,1" for k in range(4)])
    assert "both classes are needed, label 0 and label 1; there is only: 1" in refusal(alike)
    odd = csv(tmp_path / "odd.csv", "file,label", [f"{k}.png,{k - 1}" for k in range(4)])
    assert "label must be 0 or 1" in refusal(odd) and "Say which labels count with `positive`" in refusal(odd)


def test_tags_of_dicom_files_are_attributes_that_the_table_lacks(tmp_path):
    for k in range(8):
        film(
            tmp_path / f"{k}.dcm", f"p{k // 2}", PatientAge="018M" if k else "045Y", PatientSex="FM"[k % 2],
            ViewPosition="AP", KVP=90 + k, Manufacturer="Acme", StationName="",
        )  # fmt: skip
    rows = [f"{k}.dcm,{k % 2},{'xy'[k % 2]}" for k in range(8)]
    path = csv(tmp_path / "t.csv", "file,label,sex", rows)
    own = opened(path, columns={"path": "file"}, cache=tmp_path / "cache", view="")
    assert own.table["sex"].tolist() == list("xy" * 4) and own.table["age"].tolist() == [45.0] + [1.5] * 7
    assert own.table["kvp"].tolist() == [90.0 + k for k in range(8)] and "station" not in own.table
    assert own.patients_known and own.table["patient_id"].tolist() == [f"p{k // 2}" for k in range(8)]
    said = "From DICOM tags: age (PatientAge), view (ViewPosition), manufacturer (Manufacturer), kvp (KVP)."
    assert said in own.notes
    (tmp_path / "cache").joinpath("x").touch()
    again = opened(path, columns={"path": "file"}, cache=tmp_path / "cache")
    pd.testing.assert_frame_equal(again.table, own.table)
