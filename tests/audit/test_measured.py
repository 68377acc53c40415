"""A finished model whose every log-odds is known: what it leans on, worked out from the images themselves."""

import numpy as np
import pandas as pd
import pytest
import tiny_audit
from PIL import Image
from scipy.special import logit
from sklearn.metrics import roc_auc_score

from sourcematters.audit import measured
from sourcematters.audit.measured import CONTROL, Measured
from sourcematters.audit.measures import controls
from sourcematters.audit.measures import probe as probing
from sourcematters.audit.model import finished
from sourcematters.confounders import Tag, apply, key_for
from sourcematters.errors import StudyError
from sourcematters.results import verdicts
from sourcematters.results.verdicts import LEANS, NO_SIGN, NOT_VISIBLE
from sourcematters.training import image_bank

DRAWN = Tag(**tiny_audit.TAG)
LEANER, BLIND = tiny_audit.weights(disc=40, corner=25), tiny_audit.weights(disc=40)
BIAS = -20.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images with their table, and a model of each kind."""
    made = tmp_path_factory.mktemp("audit")
    tiny_audit.images(made / "images")
    tiny_audit.model(made / "leaner.onnx", LEANER, BIAS)
    tiny_audit.model(made / "blind.onnx", BLIND, BIAS)
    tiny_audit.model(made / "unable.onnx", BLIND, BIAS, sees="a quarter")
    return made


@pytest.fixture(scope="module")
def ask(folder):
    """What is measured of a model, "leaner", "blind" or "unable", with other settings; all keep to one folder."""

    def made(name, **changes):
        given = {"audited": ["tag"]} | ({"model": tiny_audit.asked(folder / f"{name}.onnx")} if name else {}) | changes
        return Measured(tiny_audit.study(folder, folder / "images" / "cohort.csv", **given))

    return made


@pytest.fixture(scope="module")
def table(folder):
    """The cohort's table with the pixels of each image, and with the tag drawn, by the confounder itself."""
    found = pd.read_csv(folder / "images" / "cohort.csv")
    found["pixels"] = [np.asarray(Image.open(folder / "images" / path)) for path in found["path"]]
    carrier = DRAWN.carrier
    found["carrying"] = [
        apply(carrier, pixels, key_for(0, name, carrier))[0]
        for pixels, name in found[["pixels", "image_id"]].itertuples(index=False)
    ]
    return found


def by_hand(table, weight):
    """Logits without and with the tag, and the AUCs of them by scikit-learn."""
    without, carrying = (tiny_audit.logits(np.stack(table[name]), weight, BIAS) for name in ("pixels", "carrying"))
    label = table["label"].to_numpy()
    aucs = {
        "auc_without": roc_auc_score(label, without),
        "auc_with": roc_auc_score(label, carrying),
        "auc_reversed": roc_auc_score(label, np.where(label == 0, carrying, without)),
        "auc_aligned": roc_auc_score(label, np.where(label == 1, carrying, without)),
    }
    return without, carrying, aucs


@pytest.fixture(scope="module")
def leaner(ask):
    return ask("leaner")


@pytest.fixture(scope="module")
def blind(ask):
    return ask("blind")


def test_the_logits_are_those_worked_out_from_the_images(leaner, table):
    without, carrying, _ = by_hand(table, LEANER)
    found = leaner.scores.pivot(index="image_id", columns="confounder", values="logit")
    np.testing.assert_allclose(found[""], without, atol=1e-4)
    np.testing.assert_allclose(found["tag"], carrying, atol=1e-4)
    bright = np.stack(table["pixels"]).clip(max=254) + np.uint8(1)
    np.testing.assert_allclose(found[CONTROL.name], tiny_audit.logits(bright, LEANER, BIAS), atol=1e-4)
    assert list(leaner.plain.index) == table["image_id"].tolist()


def test_the_lean_is_half_of_what_aligned_and_reversed_differ_by(leaner, table):
    without, carrying, aucs = by_hand(table, LEANER)
    row = leaner.effects.set_index("confounder").loc["tag"]
    for name, auc in aucs.items():
        assert row[name] == pytest.approx(auc, abs=1e-9)
    lean = (aucs["auc_aligned"] - aucs["auc_reversed"]) / 2
    assert row["lean"] == pytest.approx(lean, abs=1e-9) and lean > 0.2
    assert row["lean_low"] < lean < row["lean_high"] and (row["n"], row["positives"], row["rarer"]) == (60, 30, 30)
    assert row["shift"] == pytest.approx((carrying - without).mean(), abs=1e-4)
    (finding,) = leaner.findings
    assert verdicts.verdict(finding) == LEANS and finding.effect == pytest.approx(lean)
    assert f"leans on tag, as a sign of disease: it alone moves the AUC by {lean:.2f}" in verdicts.sentence(finding)


def test_youdens_threshold_and_the_users_own(leaner, ask, table):
    without, _, _ = by_hand(table, LEANER)
    label = table["label"].to_numpy()
    gain = lambda cut: (without[label == 1] >= cut).mean() + (without[label == 0] < cut).mean()  # noqa: E731
    assert gain(leaner.threshold) == pytest.approx(max(gain(cut) for cut in [*without, np.inf]))
    mine = ask("leaner", threshold=0.9)
    assert mine.threshold == pytest.approx(logit(0.9)) and mine.threshold != leaner.threshold
    row = mine.effects.set_index("confounder").loc["tag"]
    _, carrying, _ = by_hand(table, LEANER)
    assert row["flips"] == pytest.approx(((without >= logit(0.9)) != (carrying >= logit(0.9))).mean())


def test_a_model_that_looks_elsewhere_shows_exactly_nothing_and_could_have_leaned(blind):
    row = blind.effects.set_index("confounder").loc["tag"]
    exactly = ["shift", "flips", "lean", "lean_low", "lean_high", "lean_error", "damage"]
    assert row[exactly].astype(float).tolist() == [0.0] * 7
    probes = blind.probes.set_index("confounder")
    assert probes.loc["tag", "auc"] > 0.95 and blind.unseen == {}
    (finding,) = blind.findings
    assert verdicts.verdict(finding) == NO_SIGN
    assert "shows no sign of leaning on tag: 0.00 [0.00, 0.00], and a fall of 0.05" in verdicts.sentence(finding)


def test_one_that_cannot_see_it_is_not_called_robust(ask):
    unable = ask("unable")
    tag, grey = unable.probes.itertuples()
    assert (tag.confounder, tag.auc) == ("tag", 0.5) and tag.ci_low <= 0.5 and grey.ci_low > 0.5
    (finding,) = unable.findings
    assert (finding.effect, verdicts.verdict(finding)) == (0, NOT_VISIBLE)
    assert "a linear probe on its features tells images with it from those without at an AUC of 0.5" in finding.unseen


def test_a_probe_tells_carriers_from_what_the_others_have(ask, monkeypatch):
    """Of high noise against low, the others are not the plain images."""
    shown = []

    def probe(model, without, carrying, patients, *, seed):
        shown.append((without, carrying))
        return probing.Ranked(0.5, 0.4, 0.6, len(without))

    monkeypatch.setattr(probing, "probe", probe)
    asked = ask("blind", audited=["noise_high_vs_low"], force=True)
    assert asked.probes["confounder"].tolist() == ["noise_high_vs_low", CONTROL.name]
    noise, some = asked.visible[0].confounder, asked.images["image_id"].isin(asked.some["image_id"]).to_numpy()
    for given, alteration in zip(shown[0], (noise.base, noise.carrier), strict=True):
        assert (given == asked.bank(asked.images, alteration)[some]).all()
    assert (shown[0][0] != asked.bank(asked.images)[some]).any()


def test_the_negative_control_is_scored_and_is_no_finding(leaner, table):
    assert [one.name for one in leaner.tried] == ["tag", CONTROL.name]
    assert leaner.negative_control.startswith("Negative control: one grey level moves the AUC by 0.0")
    assert [one.confounder for one in leaner.findings] == ["tag"]


def test_strengths_are_weaker_and_stronger_tags(leaner):
    found = leaner.strengths
    assert found["given"].tolist().count(True) == 1 and set(found["confounder"]) == {"tag"}
    given = found[found["given"]].iloc[0]
    assert given["lean"] == pytest.approx(leaner.effects["lean"].iloc[0])  # all 60 images are fewer than 100
    labels = {Tag(height=height).carrier.label for height in (150, 300, 600)}
    assert {DRAWN.carrier.label} < set(found["variant"]) <= labels


def test_groups_are_those_of_the_attributes(leaner, table):
    without, _, _ = by_hand(table, LEANER)
    found = leaner.by_group.set_index(["attribute", "value"])
    for sex in "FM":
        inside = (table["sex"] == sex).to_numpy()
        assert found.loc[("sex", sex), "auc"] == pytest.approx(roc_auc_score(table["label"][inside], without[inside]))
    assert found.loc[("age", ""), "note"].endswith("give bands, such as bands: {age: [0, 40, 60]}")
    assert len(leaner.group_findings) == 1, "two sexes are mirror images"


def elsewhere(folder, table, weight, where="scores", **others):
    """Scores of a model as CSV files, as another program would write them: {without: file, tag: file}."""
    (folder / where).mkdir(exist_ok=True)
    without, carrying, _ = by_hand(table, weight)
    files = {}
    for name, values in {"without": without, "tag": carrying, **others}.items():
        files[name] = str(folder / where / f"{name}.csv")
        pd.DataFrame({"image": table["path"], "logit": values}).to_csv(files[name], index=False)
    return files


def test_scores_made_elsewhere_give_what_the_model_gives(ask, leaner, folder, table):
    files = elsewhere(folder, table.sample(frac=1, random_state=0), LEANER)
    found = ask("", audited=[], scores={name: files[name] for name in ("without", "tag")})
    assert found.tried == [] and found.negative_control == "" and found.unseen == {}
    ours, theirs = leaner.effects.iloc[:1], found.effects
    assert theirs["variant"].tolist() == ["given"] and theirs["confounder"].tolist() == ["tag"]
    numbers = [name for name in ours if ours[name].dtype == float]
    # Logits differ by what 32 bits leave; ranks do not.
    np.testing.assert_allclose(theirs[numbers].astype(float), ours[numbers], atol=1e-4)
    assert [verdicts.verdict(one) for one in found.findings] == [LEANS]


def test_scores_of_other_images_are_refused(ask, folder, table):
    files = elsewhere(folder, table.assign(path="x" + table["path"]), LEANER, where="others")
    with pytest.raises(StudyError, match=r"others/\w+.csv: 60 images of the cohort have no score"):
        _ = ask("", audited=[], scores=files).scores


SMALL = {"height": 16, "reference": 1024}


def test_one_that_does_not_reach_the_model_is_refused_unless_forced(ask, folder):
    tiny_audit.model(folder / "small.onnx", tiny_audit.weights(disc=40, corner=25), BIAS, size=16)
    hidden = {"tag": SMALL, "interpolation": "nearest"}
    with pytest.raises(StudyError) as caught:
        _ = ask("small", **hidden).visible
    said = str(caught.value)
    assert said.startswith("tag cannot be seen by the network: at 16 px (nearest)") and "Seen it would be with" in said
    assert said.endswith("To go on all the same, set force to true; each number then says so.")
    forced = ask("small", force=True, **hidden)
    assert [one.name for one in forced.tried] == ["tag", CONTROL.name]
    (finding,) = forced.findings
    assert verdicts.verdict(finding) == NOT_VISIBLE and finding.unseen.startswith("at 16 px (nearest) it is seen in 0%")
    assert finding.effect == forced.effects["lean"].iloc[0]


def test_of_those_that_nobody_named_the_unseen_are_told_and_not_scored(ask, monkeypatch):
    monkeypatch.setattr(controls, "of_each_leaf", lambda images, seed: ["tag"])
    unasked = ask("small", audited=[], tag=SMALL, interpolation="nearest")
    assert [one.name for one in unasked.tried] == [CONTROL.name]
    (finding,) = unasked.findings
    assert np.isnan(finding.effect) and verdicts.verdict(finding) == NOT_VISIBLE


def test_only_the_test_part_is_asked_about(ask, table):
    found = ask("leaner", scored="test")
    test = table[table["split"] == "test"]
    assert found.images["image_id"].tolist() == test["image_id"].tolist() and len(test) == 24
    assert set(found.scores["image_id"]) == set(test["image_id"])


def test_at_most_so_many_images_and_of_each_class_alike(ask):
    found = ask("leaner", scored_images=20).images
    assert found["label"].value_counts().to_dict() == {0: 10, 1: 10}
    assert found["image_id"].is_monotonic_increasing
    assert set(ask("leaner", scored_images=40).images["image_id"]) > set(found["image_id"])


@pytest.mark.parametrize(("positives", "most", "expected"), [(5, 20, (15, 5)), (40, 20, (10, 10)), (5, 100, (45, 5))])
def test_of_the_rarer_class_all_that_there_are(positives, most, expected):
    table = pd.DataFrame({"image_id": [f"i{k}" for k in range(50)], "label": [int(k < positives) for k in range(50)]})
    taken = measured._part(table, most)["label"].value_counts()
    assert (taken[0], taken[1]) == expected
    swapped = measured._part(table.assign(label=1 - table["label"]), most)["label"].value_counts()
    assert (swapped[1], swapped[0]) == expected


def test_a_second_time_no_image_is_made_or_scored(leaner, ask, monkeypatch):
    kept = leaner.effects, leaner.probes, leaner.strengths

    def refuse(*args, **options):
        raise AssertionError("it is computed again")

    monkeypatch.setattr(image_bank, "_fill", refuse)
    monkeypatch.setattr(finished.Finished, "logits", refuse)
    again = ask("leaner")
    for before, now in zip(kept, (again.effects, again.probes, again.strengths), strict=True):
        pd.testing.assert_frame_equal(before, now)
