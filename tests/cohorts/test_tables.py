import numpy as np
import pandas as pd
import pytest

from sourcematters.cohorts import Request, open_cohort, tables
from sourcematters.cohorts.cohort import check, shared_patients
from sourcematters.errors import StudyError


def opened(data, **request):
    return open_cohort(Request(data=data, **request))


def listed(tmp_path, text, name="mine.csv"):
    (tmp_path / name).write_text(text)
    return tmp_path / name


def refusal(path, **options):
    with pytest.raises(StudyError) as caught:
        opened(path, task="mine", cache=path.parent, **options)
    assert str(path) in str(caught.value)
    return str(caught.value)


HEADER = "image_id,path,patient_id,label,split,sex\n"
ROWS = "007,a.png,01,1,dev,F\n008,b.png,02,0,dev,NA\n009,c.png,03,1,test,\n010,d.png,04,0,test,M\n"


def images(tmp_path):
    for name in "abcd":
        (tmp_path / f"{name}.png").touch()


def test_own_csv(tmp_path, monkeypatch):
    images(tmp_path)
    listed(tmp_path, "\ufeff" + HEADER + ROWS + "\n", "My Study.csv")
    monkeypatch.chdir(tmp_path)
    own = opened("My Study.csv", task="fracture", cache="")
    assert own.table["image_id"].tolist() == ["007", "008", "009", "010"]
    assert own.table["patient_id"].tolist() == ["01", "02", "03", "04"]
    assert own.table["path"].tolist() == [str(tmp_path / f"{name}.png") for name in "abcd"]
    assert own.table["sex"].fillna("?").tolist() == ["F", "NA", "?", "M"]  # only an empty cell is missing
    assert (own.name, own.task, own.origin, own.notes) == ("my-study", "fracture", "My Study.csv", [])


def test_own_csv_without_split_is_split_by_patient(tmp_path):
    (tmp_path / "a.png").touch()
    rows = "".join(f"i{i},a.png,p{i // 2},{i // 2 % 2},{'PA' if i % 2 else 'AP'}\n" for i in range(80))
    path = listed(tmp_path, "image_id,path,patient_id,label,view\n" + rows)
    own = opened(path, task="x", cache="", seed=5)
    assert own.table["split"].value_counts().to_dict() == {"dev": 60, "test": 20}
    assert shared_patients(own.table) == []
    assert "seed 5" in own.notes[0]
    assert len(opened(path, task="x", cache="", view="PA").table) == 40
    assert "unknown view `Pa`. Did you mean PA?" in refusal(path, view="Pa")


def test_own_csv_refusals(tmp_path):
    images(tmp_path)
    assert "no such table" in refusal(tmp_path / "none.csv")
    assert "no columns" in refusal(listed(tmp_path, "")) and "no columns" in refusal(listed(tmp_path, "\n,,\n"))
    assert "no rows" in refusal(listed(tmp_path, HEADER))
    assert "no column label" in refusal(listed(tmp_path, (HEADER + ROWS).replace("label", "mass")))
    assert "row 6: more than the 6 cells" in refusal(listed(tmp_path, HEADER + ROWS + "011,e.png,05,0,test,M,extra\n"))
    assert "line 6" in refusal(listed(tmp_path, HEADER + ROWS + "011,e.png,05,0,test,M,extra,more\n"))
    assert "Every row" in refusal(listed(tmp_path, HEADER + ROWS.replace("\n", ",extra,more\n")))
    assert "EOF inside string" in refusal(listed(tmp_path, HEADER + ROWS.replace(",b", ',"b')))
    assert "as many cells" in refusal(listed(tmp_path, HEADER + ROWS.replace("\n", ",extra\n")))
    assert "patient_id is missing in row 6" in refusal(listed(tmp_path, HEADER + ROWS + "011,e.png\n"))
    assert "row 4" in refusal(listed(tmp_path, HEADER + ROWS.replace("03,1", "03,2")))
    # A blank line keeps the count of rows as an editor shows it.
    assert "row 5" in refusal(listed(tmp_path, HEADER + "\n" + ROWS.replace("03,1", "03,2")))
    assert "no column view" in refusal(listed(tmp_path, HEADER + ROWS), view="PA")
    path = tmp_path / "binary.csv"
    path.write_bytes(b"image_id\xff\xfe\x00,path\n")
    assert "not a table" in refusal(path)
    (tmp_path / "cut.csv.gz").write_bytes(b"\x1f\x8b\x08\x00")
    assert "cannot be read" in refusal(tmp_path / "cut.csv.gz")


def test_own_csv_with_a_missing_image(tmp_path):
    images(tmp_path)
    (tmp_path / "c.png").unlink()
    with pytest.raises(StudyError, match=r"1 of 4 image files do not exist: .*c\.png"):
        opened(listed(tmp_path, HEADER + ROWS), task="x", cache="")


def test_written_table_moves_with_its_folder(tmp_path):
    inside = tmp_path / "one" / "images"
    frame = pd.DataFrame(
        {
            "image_id": ["d", "c", "b", "a"],
            "path": [str(inside / "d.png"), str(inside / "c.png"), "/elsewhere/b.png", str(inside / "a.png")],
            "patient_id": ["4", "3", "2", "1"],
            "label": [1, 0, 1, 0],
            "split": ["test", "test", "dev", "dev"],
            "age": [40.0, np.nan, 60.0, 70.5],
        }
    )
    tables.write_csv(tmp_path / "one" / "cohort.csv", frame)
    (tmp_path / "one").rename(tmp_path / "two")
    back = tables.read_csv(tmp_path / "two" / "cohort.csv")
    moved = tmp_path / "two" / "images"
    assert back["path"].tolist() == [
        str(moved / "a.png"),
        "/elsewhere/b.png",
        str(moved / "c.png"),
        str(moved / "d.png"),
    ]
    pd.testing.assert_frame_equal(back.drop(columns="path"), check(frame, origin="").drop(columns="path"))
