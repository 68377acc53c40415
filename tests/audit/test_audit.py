"""An audit from its settings to its answer: what is said, what is kept, and what is refused before anything is done."""

import re

import documented
import pandas as pd
import pytest
import tiny_audit
from IPython.display import Image
from scipy.special import expit

from sourcematters.audit import Audit
from sourcematters.audit.data import shortcuts, telling
from sourcematters.errors import StudyError
from sourcematters.runs import check

LEANER = tiny_audit.weights(disc=40, corner=25)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images with their table, and models of one output and of 14."""
    made = tmp_path_factory.mktemp("audit")
    tiny_audit.images(made / "images")
    tiny_audit.model(made / "leaner.onnx", LEANER, -20)
    tiny_audit.model(made / "many.onnx", LEANER, -20, outputs=14)
    return made


@pytest.fixture
def ask(folder):
    """The audit of these images with other settings; without any, of nothing but the data."""
    return lambda **changes: Audit(tiny_audit.study(folder, folder / "images" / "cohort.csv", **changes))


def test_from_the_data_to_the_answer(ask, folder, capsys, monkeypatch):
    # All statistics, with as many trees, take a minute.
    monkeypatch.setattr(shortcuts, "STATISTICS", {"mean and spread of grey": ["mean", "std"]})
    monkeypatch.setattr(telling, "TREES", 5)
    monkeypatch.setattr(telling, "REPEATS", 1)
    audit = ask(model=tiny_audit.asked(folder / "leaner.onnx"), audited=["tag"], primary="tag")
    assert audit.has_model and "audit.yaml" not in audit._repr_html_() and "tag" in audit._repr_html_()

    assert isinstance(audit.data(), Image)
    said = capsys.readouterr().out
    assert "Each AUC is of others' patients (60 images of 60 patients" in said

    row = audit.model().iloc[0]
    said = capsys.readouterr().out
    assert said.startswith("leaner.onnx: ONNX") and "flatter it (scored: test leaves them out)" in said
    assert "On these data the model's AUC is" in said and row["n"] == 60 and row["positives"] == 30

    assert isinstance(audit.show(), Image) and isinstance(audit.leaning(), Image)
    said = capsys.readouterr().out
    assert said.startswith("Negative control: one grey level")

    turned = audit.flipped()
    wrong = pd.read_csv(audit.study.results / "tables" / "audit_flipped.csv")
    share = audit.measured.effects.set_index("confounder")["flips"]["tag"]
    assert isinstance(turned, Image) and len(wrong) == round(60 * share) > 0
    assert set(wrong["confounder"]) == {"tag"} and set(wrong["flips"]) == {"to positive"}

    groups = audit.groups()
    assert sorted(zip(groups["attribute"], groups["value"], strict=True)) == [("age", ""), ("sex", "F"), ("sex", "M")]

    assert audit.sources() is None and audit.plan() is None
    assert "No budget is set, so no sources were compared" in capsys.readouterr().out

    answer = audit.answer()
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("the model leans on tag (0.") and said[1].startswith(
        "- the model leans on tag, as a sign"
    )
    assert answer["confounder"].iloc[0] == "tag" and answer["verdict"].iloc[0] == "leans on it"

    kept = audit.study.results
    written = pd.read_csv(kept / "tables" / "audit_answer.csv")
    assert ["- ".join(["", each]) if k else each for k, each in enumerate(written["sentence"])] == said
    tables = "associations counts shortcuts model effects probes strengths flipped groups answer".split()
    assert {path.stem for path in (kept / "tables").glob("*.csv")} == {f"audit_{name}" for name in tables}
    assert {path.name for path in (kept / "figures").glob("*.png")} == {
        "audit_data.png", "audit_confounders.png", "audit_leaning.png", "audit_flipped.png",
    }  # fmt: skip
    written = documented.written(kept.parent)
    elsewhere = "where|audit_sources_compared"  # of networks with gradients, and of runs: see tests/notebooks
    assert not documented.flaws(
        written, lambda name: name in written or "audit" in name and not re.search(elsewhere, name)
    )
    text, wrong = check.report(kept)
    assert wrong == 0 and "as they were written" in text, text
    assert audit.page().data


def test_what_an_earlier_audit_left_is_not_taken_for_this_ones(folder, tmp_path):
    left, ours = ["figures/audit_leaning.svg", "tables/audit_answer.csv", "audit_explorer.html"], "tables/tag.csv"
    for name in (*left, ours):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("of another model")
    wrong = {"profile": str(folder / "none.yaml"), "results": str(tmp_path)}
    with pytest.raises(StudyError):
        Audit.of(wrong)
    assert all((tmp_path / name).exists() for name in left), "nothing was asked, so nothing is other than it was"
    profile = tiny_audit.settings(tmp_path, folder / "images" / "cohort.csv")
    audit = Audit.of({"profile": str(profile), "results": str(tmp_path)})
    assert not any((tmp_path / name).exists() for name in left) and (tmp_path / ours).exists()
    assert audit.answer() is None and not (tmp_path / left[1]).exists()


def test_the_explorers_scores_are_the_models_on_the_studys_image(ask, folder):
    audit = ask(model=tiny_audit.asked(folder / "leaner.onnx"), audited=["tag"], scored_images=20)
    shown = audit.explore()
    (said,) = (one.value for one in _everything(shown) if "leaner.onnx scores" in str(getattr(one, "value", "")))
    case = next(one.value for one in _everything(shown) if getattr(one, "description", "") == "image")
    scored = audit.measured.scores[audit.measured.scores["image_id"] == case.image_id]
    without, carrying = expit(scored[scored["confounder"].isin(["", "tag"])]["logit"])
    assert f"leaner.onnx scores {without:.2f} without it, {carrying:.2f} with it" in said
    assert f"positive from {expit(audit.measured.threshold):.2f} on" in said
    assert (audit.study.results / "audit_explorer.html").is_file()


def _everything(box):
    for child in getattr(box, "children", ()):
        yield child
        yield from _everything(child)


def test_without_a_model_the_data_are_all_that_is_asked(ask, capsys):
    audit = ask()
    assert not audit.has_model
    assert [audit.model(), audit.leaning(), audit.flipped(), audit.groups(), audit.answer()] == [None] * 5
    said = capsys.readouterr().out
    assert "No model is given: set model to {path: FILE, architecture: NAME}, or scores to tables" in said
    assert "There is no model that could lean." in said and "No model was audited" in said
    assert audit.compared == ["tag"] and ask(audited=["noise"]).compared == ["noise"]


def test_scores_made_elsewhere(ask, folder, capsys):
    table = pd.read_csv(folder / "images" / "cohort.csv")
    for name, logits in (("without", 0 * table["label"]), ("tag", 1 - 2 * table["label"])):
        table[["image_id"]].assign(logit=logits).to_csv(folder / f"{name}.csv", index=False)
    audit = ask(scores={name: str(folder / f"{name}.csv") for name in ("without", "tag")}, primary="tag", threshold=0.6)
    assert audit.has_model and audit.model() is None and audit.show() is None and audit.explore() is None
    assert isinstance(audit.leaning(), Image)
    said = capsys.readouterr().out
    assert "The scores were made elsewhere." in said and "No negative control: only who made the scores can" in said
    # Aligned and reversed: positives fall by one, negatives rise by one, the others stay where they were: 0 and 0.
    assert audit.flipped() is None
    assert "30 decisions turn, in tables/audit_flipped.csv: there is no image" in capsys.readouterr().out
    assert "tag" in audit.answer()["confounder"].tolist()
    assert audit.measured.effects[["auc_aligned", "auc_reversed", "auc_with"]].iloc[0].tolist() == [0, 0, 0]


REFUSED = {
    "an unknown confounder": ({"audited": ["tagg"]}, "audited: unknown confounder `tagg`. Did you mean tag?"),
    "a primary that is not tried": (
        {"audited": ["noise"], "primary": "tag"},
        "primary: 'tag' is not among `audited`: name it there, too.",
    ),
    "a model and scores": (
        {"model": {"path": "leaner.onnx"}, "scores": {"without": "a.csv", "tag": "b.csv"}},
        "model and scores are both given",
    ),
    "a model that is not there": ({"model": {"path": "nowhere.onnx"}}, r"nowhere.onnx does not exist. Correct `path`."),
    "14 outputs": ({"model": {"path": "many.onnx"}}, "this model has 14 outputs: give output: 0..13"),
    "no path": ({"model": {"pfad": "x"}}, "path"),
    "a budget that is no time": ({"budget": "soon"}, "budget: 'soon' is no time. Write it as 30 min"),
    "one table of scores": ({"scores": {"without": "a.csv"}}, "give two tables or more"),
    "tables that are not there": ({"scores": {"without": "no.csv", "tag": "no.csv"}}, "no.csv"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_wrong_is_said_before_anything_is_looked_at(ask, folder, what, capsys):
    changes, said = REFUSED[what]
    changes = {name: dict(each) if isinstance(each, dict) else each for name, each in changes.items()}
    if "path" in changes.get("model", {}):
        changes["model"] = tiny_audit.asked(folder / changes["model"]["path"])
    if "scores" in changes:
        changes["scores"] = {name: str(folder / path) for name, path in changes["scores"].items()}
    with pytest.raises(StudyError, match=said):
        ask(**changes)
    assert capsys.readouterr().out == ""


def test_scores_of_other_images(ask, folder):
    for name in ("without", "tag"):
        pd.DataFrame({"image_id": ["x", "y"], "logit": [0, 1]}).to_csv(folder / f"other-{name}.csv", index=False)
    with pytest.raises(StudyError, match="60 images of the cohort have no score") as caught:
        ask(scores={name: str(folder / f"other-{name}.csv") for name in ("without", "tag")})
    assert "and 2 rows are of other images: x, y" in str(caught.value)
