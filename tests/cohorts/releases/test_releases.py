"""Small trees in the layout of each release."""

import gzip

import pytest
from small_images import csv, film, png

from sourcematters.cohorts import Request, open_cohort
from sourcematters.cohorts.releases.release import LABELLED
from sourcematters.errors import StudyError


def opened(data, **request):
    asked = {"task": "Pneumonia", "cache": data / "cache", "test_fraction": 0.4, **request}
    return open_cohort(Request(data=data, **asked))


def refusal(data, **request):
    with pytest.raises(StudyError) as caught:
        opened(data, **request)
    return str(caught.value)


def cells(value, healthy=""):
    """The 14 cells of a row of CheXpert's labeller."""
    return ",".join({"Pneumonia": value, "No Finding": healthy}.get(name, "") for name in LABELLED)


def zipped(path):
    """Pack a table as the release does."""
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()


@pytest.fixture
def chexpert(tmp_path):
    """30 images of 15 patients: by turns 1, 0, -1, healthy and nothing; the last file is missing."""
    root, rows = tmp_path / "CheXpert-v1.0-small", []
    for k in range(30):
        view = ("frontal,Frontal,PA", "lateral,Lateral,")[k % 2].split(",")
        name = f"train/patient{k // 2:05d}/study1/view{k % 2 + 1}_{view[0]}.jpg"
        if k < 29:
            png(root / name, k)
        value, healthy = [("1.0", ""), ("0.0", ""), ("-1.0", ""), ("", "1.0"), ("", "")][k // 2 % 5]
        sex, path = ("Male", "Female")[k // 2 % 2], f"CheXpert-v1.0-small/{name}"
        rows.append(f"{path},{sex},{40 + k},{view[1]},{view[2]},{cells(value, healthy)}")
    csv(root / "train.csv", f"Path,Sex,Age,Frontal/Lateral,AP/PA,{','.join(LABELLED)}", rows)
    return root


def test_chexpert(chexpert):
    own = opened(chexpert)
    table = own.table.set_index("image_id")
    assert own.name == "chexpert" and len(table) == 12 and table["label"].sum() == 6
    row = table.loc["train/patient00001/study1/view2_lateral.jpg"]
    assert row[["patient_id", "label", "sex", "age", "view"]].tolist() == ["patient00001", 0, "F", 43, "Lateral"]
    assert "left out blank (12), '-1' (6)" in " ".join(own.notes)
    problem = ("label '-1'", str(chexpert / "train.csv"), "6 images, neither positive nor negative.")
    assert problem in own.problems
    assert opened(chexpert, view="PA").table["view"].unique().tolist() == ["PA"]
    assert "unknown task `Pneumonai`. Did you mean Pneumonia?" in refusal(chexpert, task="Pneumonai")
    assert "unknown view `Pa`. Did you mean PA?" in refusal(chexpert, view="Pa")


def test_chexpert_by_the_healthy_by_silence_and_with_the_uncertain(chexpert):
    healthy = opened(chexpert, negative=["No Finding"])
    assert len(healthy.table) == 12
    assert "label 0 is No Finding without it, 6; left out 18 that are neither" in " ".join(healthy.notes)
    assert opened(chexpert, positive=[1, -1]).table["label"].value_counts().to_dict() == {1: 12, 0: 6}
    silent = opened(chexpert, negative=[0, "blank"])
    assert silent.table["label"].value_counts().to_dict() == {0: 17, 1: 6}  # one file of a blank is missing
    assert "Left out, as their files are not there: 1 of 24 images." in silent.notes
    assert silent.problems[-1][0] == "no file"


@pytest.fixture
def mimic(tmp_path):
    """20 patients of one study with two images; splits train, validate, test; labels by turns 1, 0, -1, 0."""
    root, meta, split, label = tmp_path / "mimic", [], [], []
    for k in range(20):
        patient, study = f"{10000032 + k}", f"{50414267 + k}"
        for view in ("PA", "LATERAL"):
            name = f"{k:08x}-{view.lower()}"
            png(root / "files" / "p10" / f"p{patient}" / f"s{study}" / f"{name}.jpg", k)
            meta.append(f"{name},{patient},{study},CHEST,{view},32,32,21800506,213014,,,")
            split.append(f"{name},{study},{patient},{['train', 'validate', 'test', 'train'][k // 5]}")
        if k != 3:
            label.append(f"{patient},{study},{cells(['1.0', '0.0', '-1.0', '0.0'][k % 4])}")
    for what, header, rows in (
        ("metadata", "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,"
         "StudyDate,StudyTime,ProcedureCodeSequence_CodeMeaning,ViewCodeSequence_CodeMeaning,"
         "PatientOrientationCodeSequence_CodeMeaning", meta),
        ("split", "dicom_id,study_id,subject_id,split", split),
        ("chexpert", f"subject_id,study_id,{','.join(LABELLED)}", label),
    ):  # fmt: skip
        zipped(csv(root / f"mimic-cxr-2.0.0-{what}.csv", header, rows))
    return root


def test_mimic_cxr_jpg(mimic):
    own = opened(mimic)
    table = own.table.set_index("image_id")
    # Patients 0, 4, ... are positive; 1, 3, 5, ... negative, but for 3, whose study has no label.
    assert table["label"].value_counts().to_dict() == {0: 18, 1: 10} and own.patients_known
    assert set(table.loc[table["split"] == "test", "patient_id"]) == {str(10000032 + k) for k in (11, 12, 13)}
    row = table.loc["00000004-pa"]
    assert row[["patient_id", "view", "study", "split"]].tolist() == ["10000036", "PA", "50414271", "dev"]
    assert row["path"].endswith("files/p10/p10000036/s50414271/00000004-pa.jpg")
    assert "2 of them are of studies without labels." in own.notes and len(opened(mimic, view="PA").table) == 14
    for path in (mimic / "files" / "p10" / "p10000044").rglob("*.jpg"):
        path.unlink()  # the only positive of the test part
    again = opened(mimic)
    assert "The release's own split is not taken" in " ".join(again.notes) and len(again.table) == 26
    (mimic / "mimic-cxr-2.0.0-metadata.csv.gz").unlink()
    assert "no mimic-cxr-2.0.0-metadata.csv.gz, which lists the images" in refusal(mimic)


@pytest.fixture
def padchest(tmp_path):
    root, rows = tmp_path / "padchest", []
    for k in range(20):
        png(root / str(k % 2) / f"{k}_02.png", k, bits=16)
        labels = ["['pneumonia', 'pleural effusion']", "['normal']", "['exclude']", "['pleural effusion', '']"][k % 4]
        rows.append(
            f"{k},{k}_02.png,{k % 2},20150914,S{k},{k // 4}1234,{1950 + k}.0,{'FM'[k % 2]},POSTEROANTERIOR,"
            f'{("PA", "AP_horizontal")[k % 2]},Imaging,"{labels}"'
        )
    header = (
        ",ImageID,ImageDir,StudyDate_DICOM,StudyID,PatientID,PatientBirth,PatientSex_DICOM,ViewPosition_DICOM,"
        "Projection,Manufacturer_DICOM,Labels"
    )
    zipped(csv(root / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv", header, rows))
    return root


def test_padchest(padchest):
    own = opened(padchest, task="pneumonia")
    table = own.table.set_index("image_id")
    assert table["label"].value_counts().to_dict() == {0: 10, 1: 5} and "2_02.png" not in table.index
    assert table.loc["4_02.png", ["patient_id", "sex", "age", "view", "manufacturer"]].tolist() == [
        "11234", "F", 61, "PA", "Imaging"
    ]  # fmt: skip
    assert "left out blank (5)" in " ".join(own.notes)
    healthy = opened(padchest, task="pneumonia", negative=["normal"])
    assert healthy.table["label"].value_counts().to_dict() == {0: 5, 1: 5}
    assert opened(padchest, task="normal", view="AP_horizontal").table["label"].value_counts().to_dict() == {0: 5, 1: 5}
    assert "unknown task `pneumnia`. Did you mean pneumonia?" in refusal(padchest, task="pneumnia")


@pytest.fixture
def rsna(tmp_path):
    root, boxes, classes = tmp_path / "rsna", [], []
    for k in range(18):
        tags = {"PatientSex": "FM"[k % 2], "PatientAge": "51", "ViewPosition": "PA"}  # no unit, as in the release
        film(root / "stage_2_train_images" / f"i{k}.dcm", f"i{k}", **tags)
        found = k % 3 == 0
        boxes += [f"i{k},264.0,152.0,213.0,379.0,1"] * 2 if found else [f"i{k},,,,,0"]
        classes += [f"i{k},{('Lung Opacity', 'Normal', 'No Lung Opacity / Not Normal')[k % 3]}"] * (1 + found)
    csv(root / "stage_2_train_labels.csv", "patientId,x,y,width,height,Target", boxes)
    csv(root / "stage_2_detailed_class_info.csv", "patientId,class", classes)
    return root


def test_rsna_pneumonia(rsna):
    own = opened(rsna)
    assert own.table["label"].value_counts().to_dict() == {0: 12, 1: 6} and not own.patients_known
    assert own.table[["view", "age"]].drop_duplicates().to_numpy().tolist() == [["PA", 51.0]]
    assert own.table["sex"].value_counts().to_dict() == {"F": 9, "M": 9}
    assert len(opened(rsna, negative=["Normal"]).table) == 12
    (rsna / "stage_2_train_images" / "i3.dcm").unlink()
    assert "Left out, as their files are not there: 1 of 18 images." in opened(rsna).notes
    assert "Did you mean Pneumonia?" in refusal(rsna, task="Pneumnia")


@pytest.fixture
def vindr(tmp_path):
    root, train, test = tmp_path / "vindr", [], []
    for k in range(12):
        film(root / "train" / f"t{k}.dicom", PatientSex="F")
        # Of three readers all, two, one or none mark pneumonia.
        train += [f"t{k},R{r},{int(r < 3 - k % 4)},{int(k % 4 == 3)}" for r in range(3)]
    for k in range(6):
        film(root / "test" / f"s{k}.dicom")
        test.append(f"s{k},{k % 2},{1 - k % 2}")
    csv(root / "annotations" / "image_labels_train.csv", "image_id,rad_id,Pneumonia,No finding", train)
    csv(root / "annotations" / "image_labels_test.csv", "image_id,Pneumonia,No finding", test)
    return root


def test_vindr_cxr_takes_the_majority_of_readers(vindr):
    own = opened(vindr)
    table = own.table.set_index("image_id")
    assert table.loc[["t0", "t1", "t2", "t3"], "label"].tolist() == [1, 1, 0, 0] and not own.patients_known
    assert table["split"].value_counts().to_dict() == {"dev": 12, "test": 6}
    assert opened(vindr, negative=["No finding"]).table["label"].value_counts().to_dict() == {1: 9, 0: 6}
    assert "unknown task `Pneumona`" in refusal(vindr, task="Pneumona")
    for path in (vindr / "test").iterdir():
        path.unlink()
    assert len(opened(vindr).table) == 12
