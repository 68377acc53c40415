"""`sourcematters audit`: settings of data, an audit of settings, and who is asked before networks are trained."""

import io
import sys

import pandas as pd
import pytest
import tiny_audit
import yaml

from sourcematters.audit import comparison
from sourcematters.audit.budget import Step
from sourcematters.study import execute

STEP = Step(2, (0.0, 1.0), 4, 400.0, 0.5)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """40 images of 32 px, and their table."""
    return tiny_audit.images(tmp_path_factory.mktemp("images"), n=40, size=32)


@pytest.fixture
def executed(tmp_path, monkeypatch):
    """Plans that would be executed; nothing is."""
    plans = []
    monkeypatch.setattr(execute, "run", lambda plan: plans.append(plan) or tmp_path / "index.html")
    return plans


@pytest.fixture
def proposed(monkeypatch):
    """How often a comparison of sources was proposed; none is timed."""
    asked = []
    monkeypatch.setattr(comparison, "proposed", lambda study, names: (asked.append(names), STEP))
    return asked


def test_data_give_settings_and_nothing_else(command, data):
    code, out, err = command("audit", str(data))
    assert (code, err) == (0, "")
    assert yaml.safe_load(out)["data"] == str(data)
    assert all(line.startswith("#") or ": " in line or not line for line in out.splitlines())


def test_settings_give_the_answer_and_where_the_page_is(command, data, tmp_path):
    model = tiny_audit.model(tmp_path / "m.onnx", tiny_audit.weights(disc=40, corner=25), -20, size=32)
    file = tiny_audit.settings(tmp_path, data, size=32, model=tiny_audit.asked(model), audited=["tag"])
    code, out, err = command("audit", str(file), "--results", str(tmp_path / "out"))
    assert code == 0, err
    folder = tmp_path / "out" / "audit"
    sentences = pd.read_csv(folder / "tables" / "audit_answer.csv")["sentence"].tolist()
    assert out.splitlines()[0].startswith("[1/1] 40_audit")
    assert out.splitlines()[1:] == [sentences[0], *(f"- {each}" for each in sentences[1:])] + [
        f"figures and tables: {folder / 'index.html'}"
    ]
    assert "tag" in sentences[0] + sentences[1] and (folder / "index.html").is_file()
    assert (folder / "notebooks" / "40_audit.html").is_file()


def test_without_a_model_the_page_has_what_there_is(command, data, tmp_path, executed):
    file = tiny_audit.settings(tmp_path, data, size=32)
    code, out, _ = command("audit", str(file), "--results", str(tmp_path / "out"))
    assert code == 0 and [notebook.name for notebook in executed[0].notebooks] == ["40_audit"]
    assert out.splitlines() == [
        "No model was audited: what is confounded in the data stands on the page.",
        f"figures and tables: {tmp_path / 'index.html'}",
    ]


def test_without_a_terminal_nobody_agrees(command, data, tmp_path, executed, proposed, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    file = tiny_audit.settings(tmp_path, data, size=32, budget="30 min")
    code, out, err = command("audit", str(file), "--results", str(tmp_path / "out"))
    assert code == 0, err
    assert proposed == [["tag"]] and "4 fine-tunings, about 7 min" in out
    assert "Train these networks? Nobody is there to answer: no (--yes says so beforehand)." in out
    assert executed[0].study.settings.budget == "" and executed[0].parameters["budget"] == ""


def test_yes_is_not_asked(command, data, tmp_path, executed, proposed):
    file = tiny_audit.settings(tmp_path, data, size=32, budget="30 min")
    code, out, _ = command("audit", str(file), "--yes", "--results", str(tmp_path / "out"))
    assert code == 0 and proposed == [] and "Train" not in out
    assert executed[0].study.settings.budget == "30 min" and "budget" not in executed[0].parameters


@pytest.mark.parametrize(("said", "budget"), [("y", "30 min"), (" Yes ", "30 min"), ("", ""), ("no", "")])
def test_a_person_is_asked(command, data, tmp_path, executed, proposed, monkeypatch, said, budget):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stdin", Terminal(f"{said}\n"))
    file = tiny_audit.settings(tmp_path, data, size=32, budget="30 min")
    code, out, _ = command("audit", str(file), "--results", str(tmp_path / "out"))
    assert code == 0 and "Train these networks? [y/N]" in out
    assert executed[0].study.settings.budget == budget


def test_settings_on_the_command_line(command, data, tmp_path, executed):
    file = tiny_audit.settings(tmp_path, data, size=32)
    command("audit", str(file), "-p", "audited", "[noise]", "-p", "tag.height", "128", "--results", str(tmp_path))
    assert executed[0].study.settings.audited == ("noise",) and executed[0].study.confounder("tag").height == 128


REFUSED = {
    "no such file": ((), {}, "no such profile file"),
    "no such data": ((), {}, "Give a table, a folder of images, or a MedMNIST file."),
    "an unknown setting": (("-p", "modle", "x"), {}, "unknown setting `modle`. Did you mean model?"),
    "an unknown confounder": ((), {"audited": ["tagg"]}, "unknown confounder `tagg`. Did you mean tag?"),
    "a model that is not there": ((), {"model": {"path": "/no/such.onnx"}}, "/no/such.onnx does not exist"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_wrong_is_one_sentence_and_nothing_runs(command, data, tmp_path, executed, what):
    more, changes, said = REFUSED[what]
    paths = {"no such file": tmp_path / "none.yaml", "no such data": tmp_path / "none"}
    path = paths.get(what) or tiny_audit.settings(tmp_path, data, size=32, **changes)
    code, out, err = command("audit", str(path), *more)
    assert (code, out, executed) == (2, "", []) and err.startswith("error: ") and said in err
    assert "Traceback" not in err
