"""Opening by what `data` is: the readers that are there, and one that is added from outside."""

import sys

import pandas as pd
import pytest

from sourcematters.cohorts import Request, known, open_cohort, readers
from sourcematters.errors import StudyError

OUTSIDE = '''
"""A reader in a module of its own, anywhere."""

from pathlib import Path

import pandas as pd

from sourcematters.cohorts import Cohort, Reader, register
from sourcematters.cohorts.cohort import check, split_by_patient


@register
class Clinic(Reader):
    name = "clinic"
    help = "a folder with clinic.txt in it; task fracture"
    recipe = "Ask the clinic for its folder."
    tasks = ("fracture",)

    def claims(self, data):
        return (Path(data) / "clinic.txt").is_file()

    def open(self, request):
        names = (Path(request.data) / "clinic.txt").read_text().split()
        rows = [(name, f"{name}.png", name[:2], int(name[2])) for name in names]
        table = pd.DataFrame(rows, columns=["image_id", "path", "patient_id", "label"])
        table = split_by_patient(check(table, origin=request.data), seed=request.seed, test_fraction=0.5)
        return Cohort(table, self.name, request.task, request.data, caution="a small clinic")
'''


@pytest.fixture
def clinic(tmp_path, monkeypatch):
    """A folder that only a reader from outside knows, which is imported, and forgotten after the test."""
    (tmp_path / "clinic_reader.py").write_text(OUTSIDE)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "clinic.txt").write_text("p10 p11 q10 q21 r30 s41 t50 u61")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(readers, "_READERS", known())
    monkeypatch.delitem(sys.modules, "clinic_reader", raising=False)
    __import__("clinic_reader")
    return tmp_path / "data"


def test_a_reader_from_outside_opens_its_data(clinic):
    assert list(known())[-1] == "clinic"
    cohort = open_cohort(Request(data=clinic, task="fracture", cache=""))
    assert (cohort.name, cohort.task, cohort.origin, cohort.caution) == (
        "clinic", "fracture", str(clinic), "a small clinic"
    )  # fmt: skip
    assert cohort.table["image_id"].tolist() == "p10 p11 q10 q21 r30 s41 t50 u61".split()
    assert cohort.table["patient_id"].nunique() == 7


def test_what_any_readers_table_may_not_mean_is_noted(clinic):
    (clinic / "clinic.txt").write_text("p10 P11 q10 q21 r30 s41 t50 u61")
    notes = open_cohort(Request(data=clinic, task="fracture", cache="")).notes
    assert notes == ["Ids that might be of one patient: 'P1' and 'p1'. A split that is drawn keeps them together."]


def test_what_a_reader_does_not_have_is_refused_before_it_opens(clinic):
    with pytest.raises(StudyError, match="unknown task `fractur`. Did you mean fracture"):
        open_cohort(Request(data=clinic, task="fractur", cache=""))
    with pytest.raises(StudyError, match="no choice of view; leave view empty, not 'PA'"):
        open_cohort(Request(data=clinic, task="fracture", view="PA", cache=""))
    with pytest.raises(StudyError, match="only lung-mass and atelectasis-gender have published ones"):
        open_cohort(Request(data=clinic, task="fracture", splits="published", cache=""))


def test_the_last_registered_is_asked_first_and_replaces_its_namesake(clinic):
    @readers.register
    class Greedy(known()["clinic"]):
        def claims(self, data):
            return True

    assert list(known()).count("clinic") == 1
    with pytest.raises(StudyError, match="unknown task `x`"):  # whoever knows tables would take any task
        open_cohort(Request(data=clinic / "table.csv", task="x", cache=""))


def test_every_reader_says_what_it_reads():
    assert {"csv", "chestx-ray14", "lidc-idri"} <= set(known())
    for name, reader in known().items():
        assert reader.name == name and name.strip()
        assert reader.help and "\n" not in reader.help and "task" in reader.help


def test_data_that_nobody_knows(tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "list.xlsx").touch()
    for data, what in (
        (tmp_path, "there is list.xlsx, pictures/"),
        (tmp_path / "no", "there is no such folder or file"),
    ):
        with pytest.raises(StudyError) as caught:
            open_cohort(Request(data=data, task="x", cache=""))
        message = str(caught.value)
        assert message.startswith(f"{data}: {what}; no reader knows it.")
        for reader in known().values():
            assert f"- {reader.name}: {reader.help}" in message and reader.recipe in message


def test_the_task_decides_whose_recipe_is_shown(clinic, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    (tmp_path / "file").touch()  # which the reader of tables claims
    for name, what in (
        ("gone", "there is no such folder or file"),
        ("link", "it is a link to nothing"),
        ("file/in-it", "there is no such folder or file"),
    ):
        with pytest.raises(StudyError) as caught:
            open_cohort(Request(data=tmp_path / name, task="fracture", cache=""))
        message = str(caught.value)
        assert message.startswith(f"{tmp_path / name}: {what}; no reader knows it.")
        assert "- clinic: a folder with clinic.txt" in message and "Ask the clinic for its folder." in message
        assert "ChestX-ray14" not in message and "LIDC" not in message
    with pytest.raises(StudyError) as caught:
        open_cohort(Request(data=clinic, task="lung-mass-ct", cache=""))
    assert "unknown task `lung-mass-ct`. Known: fracture" in str(caught.value)
    assert "lung-mass-ct is a task of\n- lidc-idri: a folder of LIDC-IDRI" in str(caught.value)


def test_of_several_readers_that_claim_a_folder_the_one_with_the_task_opens_it(clinic):
    (clinic / "images").mkdir()  # as ChestX-ray14 has them
    readers.register(readers._READERS["chestx-ray14"])  # asked first now
    assert type(readers.reader_of(str(clinic))).name == "chestx-ray14"
    assert open_cohort(Request(data=clinic, task="fracture", cache="")).name == "clinic"


def test_a_request_says_all_that_is_wrong_with_it(tmp_path):
    with pytest.raises(StudyError) as caught:
        Request(data=tmp_path, task="x", cache="", test_fraction=1.5, readers=9, vew="PA")
    assert all(text in str(caught.value) for text in ("test_fraction = 1.5", "readers = 9", "Did you mean view"))


def test_a_request_takes_paths_and_lists(tmp_path):
    request = Request(data=tmp_path, task="x", cache=tmp_path / "c", images=[20, 10], splits=tmp_path)
    assert (request.data, request.splits, request.images) == (str(tmp_path), str(tmp_path), (20, 10))
    assert pd.Series([request]).nunique() == 1, "hashable"
