"""The authors' split files: fetched by checksum, read, and counted again with nothing but the csv module."""

import csv
import functools
import http.server
import shutil
import threading
from collections import Counter

import pytest

from sourcematters.cohorts import paper_tasks, published_splits, tables
from sourcematters.cohorts.cohort import leaks
from sourcematters.errors import StudyError

STRENGTHS = (0, 10, 20, 50, 80, 100)


def write(path, rows, header=",path,pid,class"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *(f"{i},{row}" for i, row in enumerate(rows))]) + "\n")


def lung_mass_files(folder):
    """Five folds of four dev images and a test of two, as the authors lay them out."""
    write(folder / "test.csv", ["t0.png,9,NO", "t1.png,8,YES"])
    dev = [f"d{i}.png,{i},{'YES' if i % 2 else 'NO'}" for i in range(8)]
    for fold in range(1, 6):
        write(folder / f"train_fold{fold}.csv", dev[:4])
        write(folder / f"val_fold{fold}.csv", dev[4:])
    return folder


def complaint(folder):
    with pytest.raises(StudyError) as caught:
        published_splits.read(folder, published_splits.LUNG_MASS)
    return str(caught.value)


def test_a_folder_of_files_becomes_labels_parts_and_folds(tmp_path):
    frame, origin = published_splits.read(lung_mass_files(tmp_path), published_splits.LUNG_MASS)
    assert frame["image_id"].tolist() == [*(f"d{i}.png" for i in range(8)), "t0.png", "t1.png"]
    assert frame["label"].tolist() == [0, 1] * 5
    assert frame["split"].tolist() == ["dev"] * 8 + ["test"] * 2
    for fold in range(5):
        assert frame[f"fold_{fold}"].tolist() == ["train"] * 4 + ["val"] * 4 + ["test"] * 2
    assert str(tmp_path) in origin and "11 of 11 are not those that were published" in origin


def test_a_patient_is_the_same_in_all_files_however_the_id_is_written(tmp_path):
    folder = lung_mass_files(tmp_path)
    plain, _ = published_splits.read(folder, published_splits.LUNG_MASS)
    write(folder / "train_fold2.csv", [f"d{i}.png ,{i}.0,{'YES' if i % 2 else 'NO'}" for i in range(4)])
    write(folder / "val_fold3.csv", [f"d{i}.png,000{i} ,{'YES' if i % 2 else 'NO'}" for i in range(4, 8)])
    assert published_splits.read(folder, published_splits.LUNG_MASS)[0].equals(plain)


def test_what_is_wrong_with_a_folder_is_said(tmp_path):
    folder = lung_mass_files(tmp_path)
    write(folder / "val_fold3.csv", ["d4.png,4,NO", "d5.png,5,MAYBE"])
    assert "val_fold3.csv, row 3" in complaint(folder) and "'MAYBE'" in complaint(folder)
    write(folder / "val_fold3.csv", ["d4.png,4,NO"], header=",path,who,class")
    assert "val_fold3.csv: no column pid" in complaint(folder)
    write(folder / "val_fold3.csv", ["d4.png,4,YES"])
    assert "image d4.png has two classes or two patients" in complaint(folder)
    write(folder / "val_fold3.csv", ["d0.png,0,NO"])
    assert "image d0.png is in two parts of train_fold3.csv and val_fold3.csv" in complaint(folder)
    (folder / "val_fold3.csv").unlink()
    assert "1 of 11 split files are not there, e.g. val_fold3.csv" in complaint(folder)
    assert "11 of 11" in complaint(tmp_path / "nowhere") and published_splits.REPOSITORY in complaint(
        tmp_path / "nowhere"
    )


def test_every_file_has_a_checksum():
    names = [*published_splits.LUNG_MASS.files, *published_splits.GENDER.files]
    assert len(names) == len(set(names)) == 11 + 61
    assert set(published_splits.checksums()) == set(names)
    assert published_splits.COMMIT in published_splits.URL and len(published_splits.COMMIT) == 40
    assert published_splits.GENDER.folds["fold_2_p010"] == ("gender/F_10/train_fold3.csv", "gender/F_10/val_fold3.csv")


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A web server of tmp_path/served, which stands in for GitHub."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    (tmp_path / "served").mkdir()
    handler = functools.partial(Quiet, directory=tmp_path / "served")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(published_splits, "URL", f"http://127.0.0.1:{server.server_port}/")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        yield tmp_path / "served"
        server.shutdown()


def test_files_are_fetched_once_and_only_as_published(server, monkeypatch):
    files = lung_mass_files(server)
    sums = {name: published_splits.files.sha256(files / name) for name in published_splits.LUNG_MASS.files}
    monkeypatch.setattr(published_splits, "checksums", lambda: sums)
    frame, origin = published_splits.read("published", published_splits.LUNG_MASS)
    assert len(frame) == 10 and "all 11 files" in origin
    shutil.rmtree(server)
    assert published_splits.read("published", published_splits.LUNG_MASS)[0].equals(frame)


def test_another_file_or_no_connection_is_an_error_with_a_way_out(server, monkeypatch):
    lung_mass_files(server)
    with pytest.raises(StudyError, match=r"cannot fetch .*hash.*[\s\S]*clone https://github.com"):
        published_splits.read("published", published_splits.LUNG_MASS)
    monkeypatch.setattr(published_splits, "URL", "http://127.0.0.1:9/")
    with pytest.raises(StudyError, match="cannot fetch"):
        published_splits.read("published", published_splits.LUNG_MASS)


@pytest.fixture(scope="module")
def chest14(shared_data):
    return shared_data / "published-splits" / "chest14"


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_the_real_lung_mass_files(chest14):
    frame, origin = published_splits.read(chest14, published_splits.LUNG_MASS)
    assert "all 11 files are those of commit 9251394" in origin
    assert leaks(frame)["patients"].tolist() == [0] * 5
    for fold in range(5):
        for part, name in (("train", f"train_fold{fold + 1}"), ("val", f"val_fold{fold + 1}"), ("test", "test")):
            rows = rows_of(chest14 / f"{name}.csv")
            found = frame[frame[f"fold_{fold}"] == part]
            assert dict(zip(found["image_id"], found["label"], strict=True)) == {
                row["path"]: int(row["class"] == "YES") for row in rows
            }
    assert Counter(frame.loc[frame["split"] == "test", "label"]) == {0: 52, 1: 31}


def test_the_real_gender_files_and_the_patients_they_share(chest14):
    frame, _ = published_splits.read(chest14, published_splits.GENDER)
    assert Counter(zip(frame["split"], frame["label"], strict=True)) == {
        ("dev", 1): 400, ("dev", 0): 200, ("test", 1): 200, ("test", 0): 200
    }  # fmt: skip
    shared = leaks(frame).set_index("fold")
    test = {row["pid"] for row in rows_of(chest14 / "gender" / "test.csv")}
    for strength in STRENGTHS:
        for fold in range(5):
            train, val = (
                rows_of(chest14 / "gender" / f"F_{strength}" / f"{part}_fold{fold + 1}.csv")
                for part in ("train", "val")
            )
            trained, validated = ({row["pid"] for row in rows} for rows in (train, val))
            row = shared.loc[f"fold_{fold}_p{strength:03d}"]
            assert (row["train"], row["val"], row["test"]) == (len(train), len(val), 400)
            assert row["names"] == sorted(trained & test | validated & test | trained & validated)
    # Counted by hand from the files: at each strength the same number in all five folds.
    assert shared["patients"].tolist() == [n for n in (2, 2, 3, 5, 7, 8) for _ in range(5)]


@pytest.mark.parametrize("task", ["lung-mass", "atelectasis-gender"])
def test_a_cohort_is_known_as_the_published_one_by_its_content(shared_data, tmp_path, task):
    folder = shared_data / "published-splits" / "chest14"
    table = paper_tasks.listed(shared_data / "nih-cxr14", task=task, splits=folder).table
    assert published_splits.are_published(table.sample(frac=1, random_state=0)[table.columns[::-1]])
    tables.write_csv(tmp_path / "kept.csv", table)
    assert published_splits.are_published(tables.read_csv(tmp_path / "kept.csv", shared_patients_allowed=True))
    first, column = table.index[0], table.columns[-1]
    for changed in (
        table.drop(index=first),
        table.drop(columns=column),
        table.assign(label=1 - table["label"]),
        table.assign(**{column: table[column].where(table.index != first, "val")}),
    ):
        assert not published_splits.are_published(changed)
    own = paper_tasks.listed(shared_data / "nih-cxr14", task=task).table
    assert not published_splits.are_published(own)
