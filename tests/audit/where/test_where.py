"""From a study's settings to shares, maps and frequencies of its networks: what is made, kept, said and refused."""

import numpy as np
import pandas as pd
import pytest
from IPython.display import Image
from tiny_runs import make_cohort
from tiny_study import PROFILE

from sourcematters.audit.where import Where, attribution, frequencies, pictures, shares
from sourcematters.errors import StudyError
from sourcematters.runs import check
from sourcematters.study.study import Study

OWN = {"folds": 1, "workers": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("where")
    make_cohort(made).table.to_csv(made / "cohort.csv", index=False)
    (made / "demo.yaml").write_text(PROFILE.format(data=made / "cohort.csv"))
    return made


@pytest.fixture
def ask(folder):
    return lambda **changes: Where(Study(str(folder / "demo.yaml"), {**OWN, **changes}, folder / "results" / "demo"))


def test_without_weights_it_says_how_to_get_them(ask, folder):
    said = (
        r"tag: of 2 runs 2 are not done and 0 have kept no network, e\.g\. cohort-.*`-p keep weights`.*keep = .weights."
    )
    with pytest.raises(StudyError, match=said):
        ask().share("tag")
    study = Study(str(folder / "demo.yaml"), OWN, folder / "results" / "demo")
    study.run("tag")
    # At strength 0 the network is that of the run without confounder, which is always kept.
    with pytest.raises(StudyError, match="tag: of 2 runs 0 are not done and 1 have kept no network"):
        ask().share("tag")


def test_the_share_on_the_tag_by_source_and_strength(ask, capsys, monkeypatch):
    where = ask(keep="weights")
    assert isinstance(where.share("tag", images=4), Image)
    said = capsys.readouterr().out
    assert "1 runs that are done have kept no weights: they are trained again" in said
    assert pictures.NO_PROOF in said and "s an image by Grad-CAM" in said and "left out" not in said
    tables = where.study.results / "tables"
    table = pd.read_csv(tables / "where_share.csv")
    assert table.columns.tolist() == shares.SHARES
    assert len(table) == 2 * 3 * 2 and table["folds"].unique().tolist() == [1]
    assert (table["images"] == 4).all() and set(table["method"]) == set(attribution.METHODS)
    assert ((0 <= table["low"]) & (table["low"] <= table["share"]) & (table["share"] <= table["high"])).all()
    assert table["area"].nunique() == 1 and 0.005 < table["area"].iloc[0] < 0.2
    sets = pd.read_csv(tables / "where_share_sets.csv")
    assert sets.groupby("images_are")["images"].unique().map(list).to_dict() == {
        "iid": [2], "ood": [2], "with": [4], "without": [4],
    }  # fmt: skip
    # All with the confounder are the carriers of both tests.
    mean = sets[sets["images_are"].isin(["iid", "ood"])].groupby(["p_art", "method", "randomized"])["share"].mean()
    whole = sets[sets["images_are"] == "with"].set_index(["p_art", "method", "randomized"])["share"]
    assert mean.to_dict() == pytest.approx(whole.to_dict())
    assert check.report(where.study.results)[1] == 0

    # What was computed is kept; one that is damaged is computed again, to the same table.
    before = (tables / "where_share.csv").read_bytes()
    kept = sorted(where.workspace.shared("where").glob("share-*.csv"))
    assert len(kept) == 2 * 3 * 2
    calls, attribute = [], attribution.attribute
    monkeypatch.setattr(attribution, "attribute", lambda *given: calls.append(given) or attribute(*given))
    ask(keep="weights").share("tag", images=4)
    assert not calls
    kept[0].write_text("damaged")
    ask(keep="weights").share("tag", images=4)
    assert len(calls) == 2 and (tables / "where_share.csv").read_bytes() == before
    assert f"{kept[0]}: does not match its checksum" in capsys.readouterr().err


def test_maps_of_each_source_without_and_with(ask):
    where = ask(keep="weights", size=64, sources=["random"])
    assert isinstance(where.maps("tag"), Image)
    kept = [np.load(path) for path in where.workspace.shared("where").glob("maps-*.npy")]
    assert [each.shape for each in kept] == [(4, 2, 64, 64)] * 2
    for each in kept:  # without is not with, and shuffled weights show something else
        assert np.abs(each[0] - each[1]).max() > 0 and np.abs(each[0] - each[2]).max() > 0
    assert {path.name for path in (where.study.results / "figures").glob("where_maps.*")} >= {
        "where_maps.png", "where_maps.pdf", "where_maps.csv", "where_maps.sha256",
    }  # fmt: skip


def test_a_filter_is_asked_by_frequency(ask):
    where = ask(keep="weights")
    with pytest.raises(StudyError, match=r'denoising covers 100% of the image: .* where\.frequencies\("denoising"\)'):
        where.share("denoising", images=4)
    assert isinstance(where.frequencies("denoising", images=4), Image)
    table = pd.read_csv(where.study.results / "tables" / "where_frequencies.csv")
    assert table.columns.tolist() == shares.FREQUENCIES
    assert sorted(set(table["frequency"])) == frequencies.chosen(32)
    assert (table["images"] == 4).all() and (table["change"] > 0).all() and table["spectrum"].max() == 1


def test_a_sampled_confounder_has_no_place(ask):
    with pytest.raises(StudyError, match="gender is sampled: nothing is drawn"):
        ask(keep="weights").share("gender")


def test_the_sentences_tell_share_interval_and_what_shuffled_weights_show():
    row = {
        "task": "t",
        "confounder": "tag",
        "source": "a",
        "method": "occlusion",
        "images": 9,
        "area": 0.01,
        "folds": 2,
    }
    rows = [
        {"p_art": 0, "share": 0.02, "low": 0.01, "high": 0.04, "randomized": 0},
        {"p_art": 1, "share": 0.6, "low": 0.5, "high": 0.7, "randomized": 0},
        {"p_art": 0, "share": 0.03, "low": 0.01, "high": 0.04, "randomized": 1},
        {"p_art": 1, "share": 0.05, "low": 0.01, "high": 0.04, "randomized": 1},
    ]
    said = list(pictures.in_words(pd.DataFrame([row | each for each in rows])))
    assert said == [
        "a, occlusion: 2.0 % [1.0 %, 4.0 %] on the tag at strength 0, 60 % [50 %, 70 %] on the tag at strength 1; "
        "shuffled weights 4.0 %; it is 1.0 % of the image.",
        pictures.NO_PROOF,
    ]
    alone = pd.DataFrame([row | rows[0] | {"p_art": np.nan}])
    assert (
        list(pictures.in_words(alone))[0] == "a, occlusion: 2.0 % [1.0 %, 4.0 %] on the tag; it is 1.0 % of the image."
    )
