"""MedMNIST's files, small ones made in their layout."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from sourcematters.cohorts import Request, open_cohort
from sourcematters.cohorts.releases import medmnist
from sourcematters.errors import StudyError

SIZES = {"train": 12, "val": 4, "test": 8}


def mnist(path, *, shape=(28, 28), classes=2, findings=0, **changed):
    """A file in MedMNIST's layout; the label of image k is k mod `classes`."""
    arrays = {}
    for seed, (part, n) in enumerate(SIZES.items()):
        arrays[f"{part}_images"] = np.random.default_rng(seed).integers(0, 256, (n, *shape), np.uint8)
        wide = (np.arange(n)[:, None] + np.arange(findings)) % 2
        arrays[f"{part}_labels"] = (wide if findings else np.arange(n)[:, None] % classes).astype(np.uint8)
    np.savez_compressed(path, **{name: cells for name, cells in (arrays | changed).items() if cells is not None})
    return path


def opened(path, **request):
    return open_cohort(Request(data=path, **{"task": "x", "cache": path.parent / "cache", **request}))


def refusal(path, **request):
    with pytest.raises(StudyError) as caught:
        opened(path, **request)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 3), (64, 64)])
def test_images_become_files_with_the_releases_test_part(tmp_path, shape):
    path = mnist(tmp_path / "pneumoniamnist.npz", shape=shape)
    own = opened(path)
    table = own.table.set_index("image_id")
    assert table["split"].value_counts().to_dict() == {"dev": 16, "test": 8} and not own.patients_known
    assert table.loc["val_000003", "label"] == 1 and table.loc["test_000002", "label"] == 0
    with np.load(path) as arrays, Image.open(table.loc["test_000002", "path"]) as image:
        assert np.array_equal(np.asarray(image), arrays["test_images"][2])
    assert "Label 1 is pneumonia, label 0 is normal." in own.notes


def test_files_are_written_once_and_damaged_ones_again(tmp_path, capsys):
    path = mnist(tmp_path / "mine.npz")
    first = opened(path).table["path"].tolist()
    stamps = [file.stat().st_mtime_ns for file in map(type(path), first)]
    opened(path)
    assert [file.stat().st_mtime_ns for file in map(type(path), first)] == stamps
    content = open(first[3], "rb").read()
    open(first[3], "wb").write(b"damaged")
    type(path)(first[5]).unlink()
    assert opened(path).table["path"].tolist() == first and open(first[3], "rb").read() == content
    assert "does not match its checksum" in capsys.readouterr().err and type(path)(first[5]).exists()


def test_classes_by_name_number_or_task(tmp_path):
    path = mnist(tmp_path / "octmnist_64.npz", classes=4)
    for how in ({"positive": ["drusen"]}, {"positive": [2]}, {"task": "Drusen"}):
        own = opened(path, **how)
        assert own.table["label"].sum() == 6 and len(own.table) == 24
    healthy = opened(path, positive=["drusen", 0], negative=["normal"])
    assert len(healthy.table) == 18 and "left out 6 images of other classes" in healthy.notes[0]
    text = refusal(path)
    assert "its classes are 0 choroidal neovascularization, 1 diabetic macular edema, 2 drusen, 3 normal" in text
    assert "Say which count as 1: positive: [3]" in text
    assert "positive: unknown class `drusn`. Did you mean drusen?" in refusal(path, positive=["drusn"])
    assert opened(mnist(tmp_path / "breastmnist.npz"), task="malignant").table.set_index("image_id").loc[
        "test_000000", "label"
    ] == 1  # fmt: skip


def test_findings_by_task_or_column(tmp_path):
    path = mnist(tmp_path / "chestmnist.npz", findings=14)
    for how in ({"task": "Pneumonia"}, {"columns": {"label": 6}}):
        own = opened(path, **how)
        assert own.table.set_index("image_id").loc[["test_000000", "test_000001"], "label"].tolist() == [0, 1]
        assert "Label 1 is finding 6, pneumonia." in own.notes
    assert "unknown finding `Pneumona`. Did you mean pneumonia?" in refusal(path, task="Pneumona")


def test_what_is_no_such_file_is_a_sentence(tmp_path):
    whole = mnist(tmp_path / "a.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    assert "no .npz file that can be read" in refusal(tmp_path / "cut.npz")
    flipped = bytearray(whole)
    flipped[200:260] = bytes(60)
    (tmp_path / "damaged.npz").write_bytes(flipped)
    assert "no .npz file that can be read" in refusal(tmp_path / "damaged.npz")
    assert "no array val_labels" in refusal(mnist(tmp_path / "b.npz", val_labels=None))
    assert "cannot be read" in refusal(tmp_path / "not-there.npz")
    assert "test has 8 images and 3 labels" in refusal(
        mnist(tmp_path / "c.npz", test_labels=np.zeros((3, 1), np.uint8))
    )
    assert "volumes, of which no picture is made" in refusal(mnist(tmp_path / "d.npz", shape=(28, 28, 28)))
    objects = mnist(tmp_path / "e.npz", test_labels=np.array([{"a": 1}] * 8))
    assert "test_labels is 8 of object. It should be N x 1" in refusal(objects)
    alike = {f"{part}_labels": np.ones((n, 1), np.uint8) for part, n in SIZES.items()}
    assert "both classes are needed" in refusal(mnist(tmp_path / "f.npz", **alike))


def test_what_claims_to_unpack_to_more_than_the_limit_is_refused_unread(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (2**22, 64, 64)})
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w") as archive:
        for part in SIZES:
            for what in ("images", "labels"):
                archive.writestr(f"{part}_{what}.npy", header.getvalue())
    assert "train_images unpacks to over 4 GiB (4194304 x 64 x 64)" in refusal(tmp_path / "bomb.npz")


def test_the_real_pneumonia_set(shared_data):
    path = shared_data / "pneumoniamnist.npz"
    assert medmnist.shapes(path)["test_images"] == (624, 28, 28)
    table, said = medmnist.labelled(path, Request(data=path, task="Pneumonia", cache=""))
    with np.load(path) as arrays:
        for part, rows in table.groupby("part"):
            assert np.array_equal(rows["label"], arrays[f"{part}_labels"][:, 0])
    assert said == ["Label 1 is pneumonia, label 0 is normal."]
