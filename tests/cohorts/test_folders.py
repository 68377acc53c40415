"""Folders of images: a folder a class, parts above them, a table of labels, DICOM."""

import pytest
from small_images import csv, film, opened, png, refusal


def classes(root, *names, images=6):
    for name in names:
        for k in range(images):
            png(root / name / f"{name[:1]}{k}.png", k)
    return root


def test_a_folder_a_class(tmp_path):
    own = opened(classes(tmp_path / "data", "positive", "negative"))
    table = own.table.set_index("image_id")
    assert len(table) == 12 and table["label"].sum() == 6 and table.loc["positive/p3.png", "label"] == 1
    assert table.loc["positive/p3.png", "path"] == str(tmp_path / "data" / "positive" / "p3.png")
    assert not own.patients_known and "Of the labels positive is taken as 1" in own.notes[0]


@pytest.mark.parametrize(
    ("names", "request_", "ones"),
    [
        (("NORMAL", "PNEUMONIA"), {}, "PNEUMONIA"),
        (("cyst", "tumour"), {"positive": ["Tumour"]}, "tumour"),
        (("cyst", "tumour"), {"task": "cyst"}, "cyst"),
        (("No_Mass", "Mass"), {}, "Mass"),
        (("a", "b", "c"), {"positive": ["b"]}, "b"),
    ],
)
def test_which_class_is_positive(tmp_path, names, request_, ones):
    own = opened(classes(tmp_path, *names), **request_)
    assert set(own.table.loc[own.table["label"] == 1, "image_id"].str.split("/").str[0]) == {ones}
    assert len(own.table) == 6 * len(names)


def test_parts_above_the_classes_are_the_split_and_a_folder_around_all_is_passed_over(tmp_path):
    for part in ("train", "val", "test"):
        classes(tmp_path / "chest_xray" / part, "NORMAL", "PNEUMONIA", images=2)
    own = opened(tmp_path)
    assert own.table.groupby("split").size().to_dict() == {"dev": 8, "test": 4}
    assert "The split is that of the folders: train and val are dev." in own.notes
    assert len(opened(classes(tmp_path / "b" / "c", "yes", "no").parent).table) == 12


def test_what_cannot_be_told_is_asked_for(tmp_path):
    one = classes(tmp_path / "one", "positive")
    assert "only one class folder, positive" in refusal(one)
    flat = png(tmp_path / "flat" / "a.png").parent
    csv(flat / "list.csv", "a", ["b"])
    assert "no class folders with images in it; there is a.png, list.csv" in refusal(flat)
    assert f"labels: {flat / 'list.csv'}" in refusal(flat)
    three = classes(tmp_path / "three", "a", "b", "c")
    assert "the class folders are a, b, c. Say which count as 1" in refusal(three)
    assert "no image is labelled d" in refusal(three, positive=["d"])


def test_labels_are_asked_for_by_whom_has_a_use_for_them(tmp_path):
    for k in range(8):
        png(tmp_path / "d" / "images" / f"f{k}.png", k)  # as ChestX-ray14 has them
    labels = csv(tmp_path / "labels.csv", "image,label", [f"f{k},{k % 2}" for k in range(8)])
    assert opened(tmp_path / "d", labels=labels).name == "d"
    own = opened(labels, columns={"path": "image"}, root=tmp_path / "d" / "images", labels=tmp_path / "x.csv")
    assert own.notes[-1] == "Of no use for csv, and not used: labels."


@pytest.mark.parametrize("key", ["s/f{}.png", "f{}.png", "f{}"])
def test_labels_are_joined_by_path_name_or_stem(tmp_path, key):
    for k in range(9):
        png(tmp_path / "im" / "s" / f"f{k}.png", k)
    rows = [f"{key.format(k)},{k // 2},{'yn'[k % 2]},{k}" for k in [*range(8), 30]]
    labels = csv(tmp_path / "labels.csv", "image,patient,target,age", rows)
    own = opened(tmp_path / "im", labels=labels)
    assert own.patients_known and own.table["label"].tolist() == [1, 0] * 4 and own.table["age"].tolist() == [*range(8)]
    assert own.table["path"].iloc[0] == str(tmp_path / "im" / "s" / "f0.png")
    assert "1 of 9 rows of the table are of images that are not there." in own.notes
    assert "1 of 9 images have no row in the table, or no label." in own.notes
    assert own.problems[0][:2] == ("no image", key.format(30))


def test_names_that_occur_twice_in_a_tree_are_refused_and_paths_tell_them_apart(tmp_path):
    for k in range(8):
        png(tmp_path / "im" / "ab"[k % 2] / f"f{k // 2}.png", k)
    short = csv(tmp_path / "labels.csv", "image,label", [f"f{k // 2}.png,{k % 2}" for k in range(8)])
    text = refusal(tmp_path / "im", labels=short)
    assert "4 names stand for several files: f0.png for a/f0.png, b/f0.png" in text
    whole = csv(tmp_path / "labels.csv", "image,label", [f"{'ab'[k % 2]}/f{k // 2}.png,{k % 2}" for k in range(8)])
    assert len(opened(tmp_path / "im", labels=whole).table) == 8
    other = csv(tmp_path / "labels.csv", "image,label", [f"g{k}.png,{k % 2}" for k in range(8)])
    assert "none of its 8 rows names an image that is there: g0.png" in refusal(tmp_path / "im", labels=other)
    nameless = csv(tmp_path / "labels.csv", "who,label", [f"g{k}.png,{k % 2}" for k in range(8)])
    assert "no column says which image a row is of; the table has who, label" in refusal(
        tmp_path / "im", labels=nameless
    )


def test_dicom_files_bring_their_patients_ids_and_attributes(tmp_path):
    for k in range(8):
        film(
            tmp_path / "d" / ("mass" if k % 2 else "normal") / f"im{k}", f"p{k // 2 if k < 4 else k}",
            SOPInstanceUID=f"1.2.3.{k}", PatientSex="FM"[k % 2], PatientAge=f"{40 + k:03d}Y", InstitutionName="Ulm",
        )  # fmt: skip
    (tmp_path / "d" / "mass" / "bad.dcm").write_bytes(b"no DICOM")
    own = opened(tmp_path / "d", cache=tmp_path / "c", bands={"age": [0, 44, 60]})
    table = own.table.set_index("image_id")
    assert own.patients_known and sorted(table.index) == [f"1.2.3.{k}" for k in range(8)]
    assert table.loc["1.2.3.3", ["patient_id", "label", "sex", "age", "site", "age_band"]].tolist() == [
        "p1", 1, "M", 43.0, "Ulm", "0-44"
    ]  # fmt: skip
    assert [kind for kind, *_ in own.problems] == ["damaged"]
    labels = csv(tmp_path / "l.csv", "SOPInstanceUID,label", [f"1.2.3.{k},{k % 2}" for k in range(8)])
    joined = opened(tmp_path / "d", cache=tmp_path / "c", labels=labels, columns={"image": "SOPInstanceUID"})
    assert joined.table["label"].tolist() == [0, 1] * 4 and joined.patients_known
