"""Scores of every image, plain and altered: computed once and kept, or read from tables made elsewhere."""

import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from scipy.special import expit

from sourcematters.audit.measures.probe import probe, ranked
from sourcematters.audit.measures.sanity import sanity
from sourcematters.audit.measures.scoring import read_scores, scores
from sourcematters.audit.model.choice import ModelChoice
from sourcematters.audit.model.finished import Finished, open_model
from sourcematters.confounders import Gender, NoiseHighVsLow, Tag
from sourcematters.errors import StudyError
from sourcematters.training.image_bank import Rendering, render
from sourcematters.training.recipe import Preprocessing

HOW = Preprocessing(size=32, interpolation="antialias")


def brightness(folder, slope=4.0, end=""):
    """A model whose logit is slope x (mean of the normalized pixels), and whose features are channels' means."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["p"]), helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w"], ["z"]), *([helper.make_node(end, ["z"], ["y"])] if end else []),
    ]  # fmt: skip
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ("n", 1, "s", "s"))
    made = helper.make_tensor_value_info("y" if end else "z", TensorProto.FLOAT, None)
    weight = numpy_helper.from_array(np.full((1, 1), slope, np.float32), "w")
    graph = helper.make_graph(nodes, "g", [given], [made], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "m.onnx")
    return open_model(ModelChoice(path=folder / "m.onnx", size=32, mean=0, std=1))


@pytest.fixture
def table(tmp_path):
    """12 images of 6 patients; those with label 1 are brighter."""
    rng, rows = np.random.default_rng(0), []
    for k in range(12):
        path = tmp_path / "images" / f"i{k:02d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(60 * (k % 2), 160 + 60 * (k % 2), (64, 64), dtype=np.uint8)).save(path)
        rows.append((f"id{k}", str(path), f"p{k // 2}", k % 2))
    return pd.DataFrame(rows, columns=["image_id", "path", "patient_id", "label"])


def test_each_image_is_scored_as_it_is_rendered(tmp_path, table, monkeypatch):
    model = brightness(tmp_path)
    drawn = [Tag(height=400), NoiseHighVsLow(), Gender()]
    found = scores(model, table, drawn, HOW, folder=tmp_path / "kept", seed=3)
    assert list(found) == ["image_id", "patient_id", "label", "confounder", "variant", "logit"]
    parts = found.groupby(["confounder", "variant"], sort=False).size()
    wanted = [("", "original"), ("tag", drawn[0].carrier.label)]
    wanted += [(drawn[1].name, alteration.label) for alteration in (drawn[1].base, drawn[1].carrier)]
    assert list(parts.index) == wanted and set(parts) == {12}
    for alteration in (drawn[0].carrier, drawn[1].base):
        own = found[found["variant"] == alteration.label]
        rendering = Rendering(alteration=alteration, seed=3, **HOW.model_dump())
        pixels = [render(*row, [rendering])[0] for row in zip(table["path"], table["image_id"], strict=True)]
        np.testing.assert_allclose(own["logit"], 4 * np.mean(pixels, axis=(1, 2)) / 255, atol=1e-5)
    assert list(own["image_id"]) == list(table["image_id"])

    def never(*_):
        raise AssertionError("scored again")

    monkeypatch.setattr(Finished, "logits", never)
    pd.testing.assert_frame_equal(scores(model, table, drawn, HOW, folder=tmp_path / "kept", seed=3), found)
    kept = next((tmp_path / "kept" / "scores").glob("draw_tag*.csv"))
    kept.write_text(kept.read_text().replace("id3", "id4"))
    with pytest.raises(AssertionError, match="scored again"):
        scores(model, table, drawn, HOW, folder=tmp_path / "kept", seed=3)


def given(folder, name, values, ids, column="score", key="image_id"):
    pd.DataFrame({key: ids, column: values}).to_csv(folder / name, index=False)
    return folder / name


@pytest.mark.parametrize("by", ["image_id", "path", "file name", "stem of the file name"])
def test_scores_made_elsewhere(tmp_path, table, by):
    paths = [str(path) for path in table["path"]]
    ids = {
        "image_id": list(table["image_id"]), "path": paths,
        "file name": [f"C:\\data\\i{k:02d}.png" for k in range(12)],
        "stem of the file name": [f"i{k:02d}" for k in range(12)],
    }[by]  # fmt: skip
    p = np.linspace(0.05, 0.95, 12)
    a = given(tmp_path, "a.csv", p, ids, "Probability", "File")
    b = given(tmp_path, "b.csv", p[::-1], ids[::-1], "y_pred", "image")
    found = read_scores({"tag": b, "without": a}, table)
    assert list(found["confounder"]) == [""] * 12 + ["tag"] * 12
    np.testing.assert_allclose(expit(found["logit"]), [*p, *p])
    assert list(found["image_id"]) == [*table["image_id"]] * 2
    first, second, kinds = found.attrs["notes"]
    assert first == f"tag: scores from column 'y_pred', images by 'image' as {by}."
    assert "taken as probabilities; 0 are 0 or 1" in kinds


def test_logits_made_elsewhere(tmp_path, table):
    ids = list(table["image_id"])
    a, b = given(tmp_path, "a.csv", np.full(12, 0.3), ids, "logit"), given(tmp_path, "b.csv", np.full(12, 0.4), ids)
    assert set(read_scores({"without": a, "tag": b}, table)["logit"]) == {0.3, 0.4}, "a column called logit"
    a, b = given(tmp_path, "a.csv", np.full(12, 0.3), ids), given(tmp_path, "b.csv", np.full(12, -2), ids)
    found = read_scores({"without": a, "tag": b}, table)
    assert set(found["logit"]) == {0.3, -2} and found.attrs["notes"][-1] == "The scores are taken as logits."


def test_bad_scores_are_said(tmp_path, table):
    ids, p = list(table["image_id"]), list(np.linspace(0.1, 0.9, 12))
    good = given(tmp_path, "good.csv", p, ids)
    bad = {
        "1 images of the cohort have no score: id11. Score them too": given(tmp_path, "1.csv", p[:11], ids[:11]),
        "12 images of the cohort have no score: id0, id1, id2, id3, id4 and 7 more .and 12 rows are of other "
        "images: x0": given(tmp_path, "2.csv", p, [f"x{k}" for k in range(12)]),
        "1 images are there more than once: id0": given(tmp_path, "3.csv", [*p, 0.2], [*ids, "id0"]),
        "1 images have a score and are not in the cohort: other": given(tmp_path, "4.csv", [*p, 0.2], [*ids, "other"]),
        "2 of 12 scores are no finite numbers, the first 'high' of image 'id0'": given(
            tmp_path, "5.csv", ["high", "nan", *p[2:]], ids
        ),
        "no column of scores": given(tmp_path, "6.csv", p, ids, "value"),
        "no column of images": given(tmp_path, "7.csv", p, ids, key="row"),
        "there is no such table": tmp_path / "none.csv",
    }
    for said, path in bad.items():
        with pytest.raises(StudyError, match=said):
            read_scores({"without": good, "tag": path}, table)
    with pytest.raises(StudyError, match="'score' or 'prob' could be the scores"):
        both = pd.DataFrame({"image_id": ids, "score": p, "prob": p})
        both.to_csv(tmp_path / "8.csv", index=False)
        read_scores({"without": good, "tag": tmp_path / "8.csv"}, table)
    with pytest.raises(StudyError, match="under `without`"):
        read_scores({"tag": good}, table)


def images(n=60, gap=40.0):
    rng = np.random.default_rng(1)
    labels = np.arange(n) % 2
    level = rng.normal(100 + gap * labels, 20)[:, None, None]
    pixels = (level + rng.normal(0, 5, (n, 32, 32))).clip(0, 255).astype(np.uint8)
    return pixels, labels, [f"p{k // 2}" for k in range(n)]


def test_sanity_of_a_model_that_sees(tmp_path):
    pixels, labels, patients = images()
    found = sanity(brightness(tmp_path), pixels, labels, patients)
    means = pixels.mean(axis=(1, 2))
    wins = (means[labels == 1][:, None] > means[labels == 0]).mean()  # Mann and Whitney
    assert found.found.auc == pytest.approx(wins) and found.found.ci_low > 0.5 and not found.warnings
    data = "60 images (30 with label 1) of 30 patients"
    assert found.sentences == (f"On these data the model's AUC is {found.found}, 95 % interval, of {data}.",)


def test_sanity_says_what_is_suspicious(tmp_path):
    pixels, labels, patients = images()
    model = brightness(tmp_path)
    wrong = sanity(model, 255 - pixels, labels, patients)
    assert "the wrong way round" in wrong.warnings[0] and "With inverted: true the AUC would be" in wrong.warnings[1]
    chance = sanity(model, *images(gap=0))
    assert "not told from chance" in chance.warnings[0] and "none does clearly better" in chance.warnings[1]
    plain = sanity(brightness(tmp_path, slope=0), pixels, labels, patients)
    assert "the same score (0)" in plain.warnings[0]
    tied = sanity(brightness(tmp_path, slope=100, end="Sigmoid"), pixels, labels, patients)
    assert tied.clipped >= 55 and "are 0 or 1, and tie" in tied.warnings[-1]
    with pytest.raises(StudyError, match="all 60 labels are 0"):
        sanity(model, pixels, 0 * labels, patients)


def test_a_probe_finds_what_features_show(tmp_path):
    pixels, _, patients = images(gap=0)
    model = brightness(tmp_path)
    brighter = (pixels + 60.0).clip(0, 255).astype(np.uint8)
    seen = probe(model, pixels, brighter, patients, seed=0)
    assert seen.auc > 0.95 and seen.ci_low > 0.9 and seen.n == 120
    assert seen == probe(model, pixels, brighter, patients, seed=0)
    mirrored = probe(model, pixels, pixels[:, :, ::-1].copy(), patients, seed=0)
    assert mirrored.ci_low <= 0.5, "a mean shows no mirroring"
    with pytest.raises(StudyError, match="at least two patients"):
        probe(model, pixels, brighter, ["p"] * 60, seed=0)


def test_intervals_at_the_ends_by_hand():
    labels, scored = np.array([0] * 20 + [1] * 15), np.arange(35.0)
    perfect = ranked(labels, scored, [f"p{k}" for k in range(35)])
    assert perfect == pytest.approx((1, 0.025 ** (1 / 15), 1, 35))
    assert ranked(labels, -scored, [f"p{k}" for k in range(35)]) == pytest.approx((0, 0, 1 - 0.025 ** (1 / 15), 35))
    assert ranked(labels, 0 * scored, [f"p{k}" for k in range(35)])[:3] == (0.5, 0.5, 0.5)
