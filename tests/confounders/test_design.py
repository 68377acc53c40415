import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sourcematters import confounders
from sourcematters.confounders import design
from sourcematters.errors import StudyError

STRENGTHS = (0.0, 0.1, 0.2, 0.5, 0.8, 1.0)


def make_cohort(patients=60, images=2, seed=0):
    """Labels and sex alternate over patients; the last quarter of the patients is the test part."""
    rows = []
    for patient in range(patients):
        for image in range(images):
            rows.append(
                {
                    "image_id": f"i{patient:03d}-{image}",
                    "path": "unused.png",
                    "patient_id": f"p{patient:03d}",
                    "label": patient % 2,
                    "split": "test" if patient >= 0.75 * patients else "dev",
                    "sex": "F" if patient // 2 % 2 else "M",
                }
            )
    return pd.DataFrame(rows)


def counts(sets):
    return sets.groupby(["part", "label"])["carries"].agg(["size", "sum"])


@pytest.mark.parametrize("p_art", STRENGTHS)
def test_drawn_sets_have_the_shares_of_the_paper(p_art):
    sets = design.sets(make_cohort(), confounders.Tag(), p_art=p_art, fold=0, seed=1)
    table = counts(sets)
    for part in ("train", "val", "iid"):
        assert table.loc[(part, 1), "sum"] == round(p_art * table.loc[(part, 1), "size"])
        assert table.loc[(part, 0), "sum"] == 0
    assert table.loc[("ood", 1), "sum"] == 0
    assert table.loc[("ood", 0), "sum"] == table.loc[("ood", 0), "size"] > 0
    assert table.loc["clean", "sum"].tolist() == [0, 0]
    for test_set in ("ood", "clean"):
        assert set(sets.loc[sets.part == test_set, "row"]) == set(sets.loc[sets.part == "iid", "row"])


@given(st.integers(0, 10**6), st.floats(0, 1), st.floats(0, 1), st.integers(0, 4))
@settings(max_examples=25, deadline=None)
def test_carriers_are_nested_and_training_images_stay(seed, p, q, fold):
    low, high = sorted((p, q))
    few = design.sets(make_cohort(), confounders.Tag(), p_art=low, fold=fold, seed=seed)
    many = design.sets(make_cohort(), confounders.Tag(), p_art=high, fold=fold, seed=seed)
    assert (many["carries"] >= few["carries"]).all()
    assert few.drop(columns="carries").equals(many.drop(columns="carries"))


@pytest.mark.parametrize("confounder", [confounders.Tag(), confounders.Gender()], ids=["drawn", "sampled"])
@pytest.mark.parametrize("fold", range(5))
def test_no_patient_is_in_two_parts(confounder, fold):
    sets = design.sets(make_cohort(), confounder, p_art=0.5, fold=fold, seed=0)
    patients = {
        part: set(sets.loc[sets["part"].isin(names), "patient_id"])
        for part, names in {"train": ["train"], "val": ["val"], "test": list(design.TEST_SETS)}.items()
    }
    for one, other in itertools.combinations(patients.values(), 2):
        assert one and other and not one & other


def test_the_order_of_the_rows_does_not_matter():
    cohort = make_cohort()
    shuffled = cohort.sample(frac=1, random_state=3).reset_index(drop=True)
    keys = ["part", "image_id", "carries"]
    for confounder in (confounders.Tag(), confounders.Gender()):
        one, other = (
            design.sets(c, confounder, p_art=0.5, fold=2, seed=9)[keys].sort_values(keys).reset_index(drop=True)
            for c in (cohort, shuffled)
        )
        assert one.equals(other)


def test_rows_point_into_the_cohort():
    cohort = make_cohort().sample(frac=1, random_state=5).reset_index(drop=True)
    sets = design.sets(cohort, confounders.Tag(), p_art=0.2, fold=1, seed=0)
    assert (cohort["image_id"].to_numpy()[sets["row"]] == sets["image_id"]).all()


@pytest.mark.parametrize("p_art", STRENGTHS)
def test_sampled_sets_have_the_same_shares_and_constant_size(p_art):
    cohort = make_cohort(patients=80)
    sets = design.sets(cohort, confounders.Gender(), p_art=p_art, fold=0, seed=0)
    sex = cohort.set_index("image_id")["sex"]
    assert (sets["carries"] == (sets["image_id"].map(sex) == "F")).all()
    table, reference = counts(sets), counts(design.sets(cohort, confounders.Gender(), p_art=0, fold=0, seed=0))
    assert table["size"].equals(reference["size"])
    for part in ("train", "val", "iid"):
        assert table.loc[(part, 1), "sum"] == round(p_art * table.loc[(part, 1), "size"])
        assert table.loc[(part, 0), "sum"] == 0
    assert table.loc[("ood", 1), "sum"] == 0 and table.loc[("ood", 0), "sum"] == table.loc[("ood", 0), "size"]
    assert table.loc["clean", "sum"].tolist() == [0, 0]
    # 20 test patients of 2 images, 5 of each label and sex: 10 images in each group.
    assert table.loc[["iid", "ood", "clean"], "size"].tolist() == [10] * 6


def test_sampled_carriers_are_nested():
    previous = set()
    for p_art in STRENGTHS:
        sets = design.sets(make_cohort(), confounders.Gender(), p_art=p_art, fold=0, seed=4)
        carriers = set(sets.loc[(sets.part == "train") & (sets.carries == 1), "image_id"])
        assert previous <= carriers
        previous = carriers
    assert previous


def test_validation_takes_the_asked_share_of_patients_and_folds_differ():
    cohort = make_cohort(patients=80)
    vals = []
    for fold in range(5):
        parts = design.fold_parts(cohort, fold=fold)
        patients = cohort.groupby(parts)["patient_id"].nunique()
        # 15 % of 60 dev patients
        assert (patients["val"], patients["train"], patients["test"]) == (9, 51, 20)
        vals.append(frozenset(cohort.loc[parts == "val", "patient_id"]))
    assert len(set(vals)) == 5


def test_without_a_confounder_nobody_carries_and_clean_is_the_only_test():
    sets = design.sets(make_cohort(), None, p_art=0, fold=0, seed=0)
    assert set(sets["part"]) == {"train", "val", "clean"} and sets["carries"].sum() == 0


@pytest.mark.parametrize("p_art", [-0.1, 1.01, float("nan")])
def test_p_art_outside_0_to_1(p_art):
    with pytest.raises(StudyError, match=r"p_art = .*lies in 0\.\.1"):
        design.sets(make_cohort(), confounders.Tag(), p_art=p_art, fold=0, seed=0)


def test_fewer_patients_than_folds():
    with pytest.raises(StudyError, match="3 patients: there must be more patients than folds"):
        design.fold_parts(make_cohort(patients=4), fold=4)


def test_a_part_without_a_class_is_named():
    cohort = make_cohort(patients=40)
    cohort["label"] = (cohort["patient_id"] == "p001").astype(int)
    with pytest.raises(StudyError, match=r"fold 0, taking validation patients .* without images of class 1"):
        design.fold_parts(cohort, fold=0)


def test_an_attribute_that_is_not_there_and_one_without_a_group():
    with pytest.raises(StudyError, match=r"no attribute 'race'\. It has: sex"):
        confounder = confounders.Attribute(attribute="race", value="A", other="B", leaf="ethnicity")
        design.sets(make_cohort(), confounder, p_art=1, fold=0, seed=0)
    cohort = make_cohort()
    cohort.loc[(cohort.label == 0) & (cohort.split == "test"), "sex"] = "M"
    with pytest.raises(StudyError, match=r"test part has no image with label 0 and sex = 'F'"):
        design.sets(cohort, confounders.Gender(), p_art=1, fold=0, seed=0)


SCANNER = {"leaf": "patient positioning", "attribute": "scanner"}


def sampled(column, value, other, name="scanner"):
    cohort = pd.DataFrame({"image_id": list("abcd"), name: column})
    return design.values_of(cohort, confounders.Attribute(**SCANNER, value=value, other=other)).fillna("?").tolist()


def test_values_are_what_they_mean_where_a_cell_is_missing_or_a_zero_leads():
    numbers = pd.array([1, 2, None, 1], dtype="Int64")
    assert sampled(numbers, "1", "2") == ["1", "2", "?", "1"]
    assert sampled([1.0, 2.0, np.nan, 1.0], "1", 2) == ["1", "2", "?", "1"]
    assert sampled(["01", "02", "x", "01"], 1, 2) == ["1", "2", "x", "1"]
    assert sampled(["01", "1", "2", "2"], 1, 2) == ["01", "1", "2", "2"], "what is written goes before what it means"
    assert sampled(numbers, "1", "2", name="Scanner ") == ["1", "2", "?", "1"]


@pytest.mark.parametrize(
    ("column", "value", "sentence"),
    [
        (["female", "male", None, "male"], "F", "'F' in none.*It is 'female' .1., 'male' .2.. Did you mean female"),
        (["A01", "A02", "A02", None], "A1", "It is 'A01' .1., 'A02' .2.. Did you mean A01"),
        (["1", "01", "001", "x"], "1.0", "is '1.0' in none"),
    ],
)  # fmt: skip
def test_a_value_that_is_not_there_is_told_from_those_that_are(column, value, sentence):
    with pytest.raises(StudyError, match=sentence):
        sampled(column, value, column[1])


def test_a_small_test_counts_values_by_what_they_mean():
    cohort = make_cohort(patients=100)
    cohort["scanner"] = pd.array(np.where(cohort["sex"] == "F", 1, 2), dtype="Int64")
    scanner = confounders.Attribute(**SCANNER, value="01", other="2.0")
    gender = design.sets(cohort, confounders.Gender(), p_art=1, fold=0, seed=0)
    sets = design.sets(cohort, scanner, p_art=1, fold=0, seed=0)
    pd.testing.assert_frame_equal(sets, gender)
    with pytest.raises(
        StudyError, match=r"[1-9]\d* with label 1 and scanner '2.0', [1-9]\d* with label 0 and scanner '01'"
    ):
        design.small_tests(cohort, scanner, sets, smallest=10**6)


def test_carriers_are_drawn_without_regard_to_the_patient_order():
    sets = design.sets(make_cohort(patients=200), confounders.Tag(), p_art=0.5, fold=0, seed=0)
    positives = sets[(sets.part == "train") & (sets.label == 1)].sort_values("image_id")
    half = len(positives) // 2
    # Hypergeometric: half of about 127 carriers fall in the first half, sd 2.8; 6 sd is beyond chance.
    assert abs(positives["carries"].to_numpy()[:half].sum() - half / 2) < 17
    assert np.isclose(positives["carries"].mean(), 0.5, atol=0.01)


def cells(**numbers):
    """A cohort of one image a patient: the test part has `numbers` of images by class and sex, such as p_F=3."""
    sizes = [("dev", label, sex, 20) for label in (0, 1) for sex in "FM"]
    sizes += [("test", int(cell[0] == "p"), cell[2], n) for cell, n in numbers.items()]
    rows = [(split, label, sex) for split, label, sex, n in sizes for _ in range(n)]
    frame = pd.DataFrame(rows, columns=["split", "label", "sex"])
    frame["image_id"] = frame["patient_id"] = [f"{i:03d}" for i in range(len(frame))]
    return frame


@pytest.mark.parametrize(
    "numbers, sizes",
    [
        ({"p_M": 5, "n_F": 7}, {"ood": 10}),  # the paper's gender test
        ({"p_M": 5, "n_F": 7, "n_M": 4}, {"ood": 10, "clean": 8}),
        ({"p_M": 5, "n_F": 7, "p_F": 1}, {"ood": 10}),  # i.i.d. lacks male negatives: female positives do not count
        ({"p_M": 5, "n_F": 7, "n_M": 4, "p_F": 3}, {"ood": 10, "clean": 8, "iid": 6}),
        ({"p_M": 50, "n_F": 50, "n_M": 60, "p_F": 2}, {"ood": 100, "clean": 100, "iid": 4}),
        ({"p_M": 50, "n_F": 2, "n_M": 50, "p_F": 50}, {"ood": 4, "clean": 100, "iid": 100}),
    ],
)
@pytest.mark.parametrize("p_art", [0.0, 1.0])
def test_a_sampled_test_set_is_there_if_its_groups_are(numbers, sizes, p_art):
    sets = design.sets(cells(**numbers), confounders.Gender(), p_art=p_art, fold=0, seed=0)
    tests = sets[sets["part"].isin(design.TEST_SETS)]
    assert tests["part"].value_counts().to_dict() == sizes
    assert (tests.groupby("part")["label"].mean() == 0.5).all()


NUMBERS = st.integers(1, 12)


@given(groups=st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS), p_art=st.floats(0, 1), more=st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_counts_of_sampled_sets_are_those_of_the_design(groups, p_art, more):
    numbers = dict(zip(("p_F", "p_M", "n_F", "n_M"), groups, strict=True))
    cohort = cells(**numbers)
    sets = design.sets(cohort, confounders.Gender(), p_art=p_art, fold=0, seed=3)
    found = sets.groupby(["part", "label", "carries"]).size().to_dict()
    ood, clean = min(numbers["p_M"], numbers["n_F"]), min(numbers["p_M"], numbers["n_M"])
    iid = min(numbers["p_M"], numbers["p_F"], numbers["n_M"])
    expected = {("ood", 1, 0): ood, ("ood", 0, 1): ood, ("clean", 1, 0): clean, ("clean", 0, 0): clean}
    for part, n in (("iid", iid), ("train", 17), ("val", 3)):  # of 20 in a group 15 % validate, whatever their rank
        carriers = round(p_art * n)
        expected |= {(part, 1, 1): carriers, (part, 1, 0): n - carriers, (part, 0, 0): n}
    assert found == {group: n for group, n in expected.items() if n}
    # Without replacement, nobody in two parts, and who carries at one strength does at every larger one.
    assert not sets.duplicated(["part", "image_id"]).any()
    homes = sets.replace({"part": dict.fromkeys(design.TEST_SETS, "test")}).groupby("patient_id")["part"].nunique()
    assert (homes == 1).all()
    larger = design.sets(cohort, confounders.Gender(), p_art=max(p_art, more), fold=0, seed=3)
    few, many = (set(s.loc[s["carries"] == 1, ["part", "image_id"]].itertuples(index=False)) for s in (sets, larger))
    assert few <= many


def test_all_folds_share_who_carries():
    sets = [design.sets(make_cohort(), confounders.Tag(), p_art=0.5, fold=fold, seed=0) for fold in range(3)]
    tests = [s[s["part"] == "iid"].set_index("image_id")["carries"] for s in sets]
    assert tests[0].equals(tests[1]) and tests[0].equals(tests[2])
    assert set(sets[0].loc[sets[0].part == "val", "image_id"]) != set(sets[1].loc[sets[1].part == "val", "image_id"])


def small(cohort, confounder, smallest, p_art=0.5):
    sets = design.sets(cohort, confounder, p_art=p_art, fold=0, seed=0)
    return design.small_tests(cohort, confounder, sets, smallest=smallest)


def test_a_test_set_that_is_too_small_is_named_with_its_groups():
    cohort, gender = cells(p_M=50, n_F=50, n_M=60, p_F=2), confounders.Gender()
    assert small(cohort, gender, 2) == []
    (sentence,) = small(cohort, gender, 10)
    assert sentence == (
        "gender: the i.i.d. test has 2 positive and 2 negative images; smallest_test asks for 10 of each. "
        "The test part has 2 with label 1 and sex 'F', 50 with label 1 and sex 'M', 60 with label 0 and sex 'M'. "
        "It is left out."
    )
    assert len(small(cohort, gender, 50)) == 1 and small(cells(p_M=5, n_F=5), gender, 5) == []


def test_an_ood_test_that_is_too_small_is_refused():
    with pytest.raises(
        StudyError,
        match=r"gender: the o\.o\.d\. test has 2 positive and 2 negative images; smallest_test asks for 10 of each\. "
        r"The test part has 50 with label 1 and sex 'M', 2 with label 0 and sex 'F'\. Get more",
    ):
        small(cells(p_M=50, n_F=2, n_M=50, p_F=50), confounders.Gender(), 10)
    drawn = cells(p_M=3, n_F=20, n_M=10, p_F=4)
    assert small(drawn, confounders.Tag(), 7) == []
    with pytest.raises(StudyError, match=r"tag: .* has 7 positive and 30 negative images; .* 8 of each"):
        small(drawn, confounders.Tag(), 8)


def test_a_test_part_that_a_cohort_brings_obeys_the_minimum_too():
    cohort, gender = cells(p_M=6, n_F=5), confounders.Gender()
    # At .5 half of the positives in dev are women, of the negatives none.
    used = ~((cohort["label"] == 0) & (cohort["sex"] == "F")) | (cohort["split"] == "test")
    parts = np.where(cohort["split"] == "test", "test", np.where(np.arange(len(cohort)) % 4 == 0, "val", "train"))
    cohort["fold_0_p050"] = pd.Series(parts, dtype=object).where(used, None)
    assert small(cohort, gender, 5) == []
    with pytest.raises(
        StudyError, match="the o.o.d. test has 6 positive and 5 negative images; smallest_test asks for 6"
    ):
        small(cohort, gender, 6)


@pytest.mark.parametrize(
    "numbers, lacking", [({"p_F": 2, "n_F": 2}, "1 and sex = 'M'"), ({"p_M": 2, "n_M": 2}, "0 and sex = 'F'")]
)
def test_without_an_ood_test_there_is_no_study(numbers, lacking):
    with pytest.raises(StudyError, match=rf"test part has no image with label {lacking}"):
        design.sets(cells(**numbers), confounders.Gender(), p_art=0, fold=0, seed=0)


def test_folds_that_a_cohort_brings_are_taken():
    cohort = make_cohort()
    # Two images a patient, label and sex return after four patients: every fourth group of four is validation.
    given = ["test" if s == "test" else "val" if i // 8 % 4 == 0 else "train" for i, s in enumerate(cohort["split"])]
    given[0] = None
    cohort["fold_1"] = given
    for confounder in (confounders.Tag(), confounders.Gender()):
        sets = design.sets(cohort, confounder, p_art=0.5, fold=1, seed=0)
        for part in ("train", "val"):
            assert set(sets.loc[sets["part"] == part, "row"]) <= {i for i, p in enumerate(given) if p == part}
    drawn = design.sets(cohort, confounders.Tag(), p_art=0.5, fold=1, seed=0)
    assert drawn["part"].isin(["train", "val"]).sum() == sum(p in ("train", "val") for p in given)
    with pytest.raises(StudyError, match="brings no fold 0: it has 1"):
        design.fold_parts(cohort, fold=0)


def counted(**carriers):
    """By strength, as `p1=(3, 18)`: at .01 three of 18 positives carry."""
    return {
        int(name[1:]) / 100: {"train_n": 40, "train_positives": of, "carriers": number}
        for name, (number, of) in carriers.items()
    }


@pytest.mark.parametrize(
    ("strengths", "said"),
    [
        (counted(p0=(0, 18), p50=(9, 18), p100=(18, 18)), ""),
        (counted(p0=(0, 18), p6=(1, 18)), ""),
        (counted(p50=(9, 18)), ""),
        (counted(p0=(0, 18)), ""),
        (counted(p0=(0, 18), p1=(0, 18)), "p_art 0 and 0.01 are the same study: 0 of the 18 .* more than 0.056 apart"),
        (counted(p1=(0, 18)), "p_art 0.01 is the study without: 0 of the 18"),
        (counted(p50=(9, 18), p51=(9, 18)), "p_art 0.5 and 0.51 are the same study: 9 of the 18"),
        (counted(p99=(18, 18), p100=(18, 18)), "p_art 0.99 and 1 are the same study: 18 of the 18"),
    ],
)
def test_strengths_that_the_same_images_carry_are_one_study(strengths, said):
    if not said:
        return design.refuse_alike(strengths)
    with pytest.raises(StudyError, match=said):
        design.refuse_alike(strengths)


@pytest.mark.parametrize("p_art", [0, 0.3, 1])
def test_carriers_are_counted_in_training_alone(p_art):
    table = make_cohort()
    made = design.sets(table, confounders.Tag(), p_art=p_art, fold=0, seed=0)
    train = made[made["part"] == "train"]
    positives = int((train["label"] == 1).sum())
    expected = {"train_n": len(train), "train_positives": positives, "carriers": round(p_art * positives)}
    assert design.carriers(made) == expected


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 99), patients=st.integers(48, 80), images=st.integers(1, 3), p=st.floats(0, 1),
    sampled=st.booleans(),
)  # fmt: skip
def test_no_set_has_an_image_twice_or_one_of_another_part(seed, patients, images, p, sampled):
    table = make_cohort(patients, images)
    confounder = confounders.Gender() if sampled else confounders.Tag()
    made = design.sets(table, confounder, p_art=p, fold=0, seed=seed)
    assert not made.duplicated(["part", "image_id"]).any()
    parts = design.fold_parts(table, fold=0, strata=["sex"] if sampled else []).loc[made["row"]].to_numpy()
    assert (parts == made["part"].replace({"iid": "test", "ood": "test", "clean": "test"}).to_numpy()).all()


def test_few_images_to_learn_from_are_said():
    labels = {"train": [1] * 10 + [0] * 9, "val": [1] * 5 + [0] * 5, "ood": [1, 0]}
    sets = pd.DataFrame([(part, label) for part, of in labels.items() for label in of], columns=["part", "label"])
    train = "the train part has 10 positive and 9 negative images: a network learns little from so few."
    assert design.few_to_learn_from(sets) == [train]
    fewer = sets.drop(sets.index[(sets["part"] == "val") & (sets["label"] == 1)][0])
    val = "the val part has 4 positive and 5 negative images: which epoch is kept rests on few."
    assert design.few_to_learn_from(fewer) == [train, val]
    more = pd.concat([sets, pd.DataFrame({"part": ["train"], "label": [0]})])
    assert design.few_to_learn_from(more) == []
