"""What the page says came out: the readers' three questions, and the answer in two sentences."""

import json

import pytest
import small_results
from small_results import answers, compared, write

from sourcematters import report
from sourcematters.audit.measures.controls import OneGreyLevel
from sourcematters.report import data

LEANS, LITTLE, NONE = "leans on it", "too little data to tell", "no sign of leaning"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "demo"


def told(folder):
    report.write(folder)
    return json.loads((folder / "report.json").read_text())


# The readers' three questions, written down before the page was: who reads nothing but the page must know within half
# a minute which source leans more on the tag and how sure that is, whether anything is confounded in the data itself,
# and whether a tag of this size could be seen at all.
def test_the_three_questions_are_answered_above_the_first_figure(folder):
    small_results.study(folder)
    small_results.audit(folder)
    page = report.write(folder).read_text()
    leans, data, seen = json.loads((folder / "report.json").read_text())["questions"]
    assert leans["question"] == "Which source leans more on tag, and how sure is that?"
    assert leans["short"] == (
        "radiology relies more than natural by 0.36 [0.17, 0.54], p 0.004, for these development patients."
    )
    assert "radiology 0.46 [0.30, 0.61] and natural 0.10 [-0.05, 0.25]" in leans["why"]
    assert data["short"] == "Yes."
    assert data["why"] == (
        "With the label goes sex (Cramér's V 0.24 [0.12, 0.37]). Without reading the anatomy the label is told by sex "
        "(AUC 0.62 [0.53, 0.70])."
    )
    assert seen["short"] == "Yes."
    assert seen["why"].startswith("Tag changes 0.41 % of the pixels at the networks' input, by up to 214 of 255")
    assert "a linear probe" in seen["why"].lower() and "radiology 0.82 to 1.00" in seen["why"]
    assert "the networks of 2 of 2 sources rank a test that is like the training better" in seen["why"]
    places = [page.index(it["question"]) for it in (leans, data, seen)]
    assert places == sorted(places) and places[-1] < page.index("<figure")


def test_sources_that_cannot_be_told_apart_are_not(folder):
    answers(folder, "tag", ("a", 0.5, 0.2, 0.8, LITTLE, ""), ("b", 0.3, 0.1, 0.5, LEANS, ""))
    compared(folder, ("tag", "a", "b", 0.2, -0.1, 0.5, 0.21, 0.412), ("noise", "a", "b", 0.1, -0.9, 0.9, 0.8, 1.5))
    found = told(folder)
    assert found["questions"][0]["short"] == "Not told apart."
    assert (
        "smallest p 0.210" in found["questions"][0]["why"] and "have to be 0.41 to be" in found["questions"][0]["why"]
    )
    assert found["answer"] == [
        "b leans on tag, by an AUC of 0.30 [0.10, 0.50]; of 2 pairs of source and confounder, 1 with too little data "
        "to tell.",
        "Whether one source leans more than another cannot be told: none of the 2 differences is beyond chance, and "
        "half of them would have been found, four times in five, only from 0.96 on.",
    ]


def test_of_many_findings_the_strongest_is_named(folder):
    answers(
        folder, "tag", *((who, effect, 0.1, 0.9, LEANS, "") for who, effect in (("a", 0.3), ("b", 0.6), ("c", 0.2)))
    )
    assert told(folder)["answer"][0] == (
        "Leaning was found in 3 of 3 pairs of source and confounder, most of b on tag: where it misleads, the AUC "
        "falls by 0.60 [0.10, 0.90]."
    )


def test_who_relies_more_is_named_whichever_way_the_pair_is_written(folder):
    answers(folder, "tag", ("a", 0.5, 0.4, 0.6, LEANS, ""), ("b", 0.0, -0.02, 0.02, NONE, ""))
    for pair in (("tag", "a", "b", 0.5, 0.35, 0.65, 0.0001, 0.2), ("tag", "b", "a", -0.5, -0.65, -0.35, 0.0001, 0.2)):
        compared(folder, pair)
        assert told(folder)["answer"][1] == (
            "a relies more than b on tag by 0.50 [0.35, 0.65], p below 0.001, for these development patients (1 of 1 "
            "comparisons, corrected by Holm)."
        )


def test_no_leaning_and_no_comparison_say_so(folder):
    answers(folder, "tag", ("a", 0.0, -0.02, 0.02, NONE, ""), ("b", 0.3, -0.1, 0.5, LITTLE, ""))
    first, second = told(folder)["answer"]
    assert first == (
        "No source was found to lean on any of the 1 confounders (1 without a sign of it, 1 with too little data to "
        "tell)."
    )
    assert "--only 31" in second


def test_a_comparison_without_a_test_says_why(folder):
    answers(folder, "tag", ("a", 0.0, "", "", LITTLE, ""))
    head = "task,confounder,a,b,folds,difference,ci_low,ci_high,p_holm,detectable,problem\n"
    write(folder / "tables" / "primary.csv", head + "lesion,tag,a,b,1,.1,,,,,one fold\n")
    assert told(folder)["answer"][1] == "Whether sources differ could not be tested: one fold."


def test_of_a_model_that_leans_on_nothing_it_says_what_would_have_been_found(folder):
    head = "who,confounder,effect,low,high,p,detectable,n,positives,unseen,few,measure,verdict,sentence\n"
    rows = 'the model,tag,.01,-.01,.03,1,.07,200,90,,,lean,no sign of leaning,"x"\n'
    rows += 'the model,gamma,.02,-.01,.04,1,.124,200,90,,,lean,no sign of leaning,"y"\n'
    write(folder / "tables" / "audit_answer.csv", f'{head},,,,,,,,,,,,,"No leaning (0.1) was found."\n{rows}')
    assert told(folder)["answer"] == [
        "No leaning (0.1) was found.",
        "A fall of the AUC by 0.07 to 0.12 would have been found four times in five (n = 200 images, 90 of them "
        "positive).",
    ]


def test_a_control_that_failed_is_said(folder):
    for lean, error, failed in ((".001", ".002", False), (".12", ".01", True)):
        table = f"confounder,lean,lean_low,lean_high,lean_error\none_grey_level,{lean},0,.2,{error}\n"
        write(folder / "tables" / "audit_effects.csv", table)
        assert ("the control failed" in told(folder)["controls"][0]) == failed


def test_what_cannot_be_seen_is_not_taken_for_seen(folder):
    small_results.study(folder)
    reach = "run_id,confounder,input_images,input_seen_in,input_changed_pixels,input_largest_change\na,tag,40,.3,0,2\n"
    write(folder / "tables" / "tag.csv", reach)
    assert told(folder)["questions"][2]["short"] == "No."
    assert any("Not seen in nine of ten images" in each for each in told(folder)["controls"])


def test_a_confounder_that_is_seen_on_films_may_not_be_on_slices(folder):
    head = "run_id,task,confounder,input_images,input_seen_in,input_changed_pixels,input_largest_change\n"
    write(folder / "tables" / "all_runs.csv", f"{head}a,films,noise,40,1,.5,30\nb,slices,noise,40,.2,.1,2\n")
    for task, short in (("films", "Yes."), ("slices", "No.")):
        answers(folder, "noise", ("a", 0.5, 0.4, 0.6, LEANS, ""), task=task)
        assert told(folder)["questions"][2]["short"] == short
    (table,) = json.loads((folder / "report.json").read_text())["control_tables"]
    assert [row[1] for row in table["rows"]] == ["films", "slices"]


def test_nothing_that_tells_the_label_is_said_with_the_most_that_was_looked_at(folder):
    table = "what,of,auc,ci_low,ci_high,p_holm,note\nsex,attribute,.5,,,1,\nsize,image,.55,.46,.64,.8,\n"
    write(folder / "tables" / "audit_shortcuts.csv", f"{table}view,image,,,,,same\n")
    data = told(folder)["questions"][1]
    assert data["short"] == "Nothing was found."
    assert data["why"] == (
        "None of the 2 things that were looked at tells the label. The largest AUC alone is 0.55 [0.46, 0.64], of size."
    )


def test_the_negative_control_is_known_by_the_audits_name():
    assert data.CONTROL == OneGreyLevel().name
