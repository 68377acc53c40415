"""What every confounder keeps, those from outside too; and the registry where they are found."""

import importlib
import pickle
import re
import sys
import typing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sourcematters import confounders
from sourcematters.confounders import HOUNSFIELD, ORIGINAL, Confounder, apply, design, known, make, register, taxonomy
from sourcematters.errors import StudyError

# Parameters for those that have no default. Images are large enough for the default of every other.
NEEDED = {
    "attribute": {"attribute": "view", "value": "AP", "other": "PA", "leaf": "patient positioning"},
    "age_band": {"value": "60-120", "other": "0-40"},
    "ethnicity": {"value": "A", "other": "B"},
    "comorbidity": {"attribute": "Cardiomegaly"},
    "site": {"value": "north", "other": "south"},
}
SHAPES = [(400, 400), (391, 500), (520, 380)]
ALL = [make(name, **NEEDED.get(name, {})) for name in known()] + [make("noise", domain="hounsfield")]
each_confounder = pytest.mark.parametrize("confounder", ALL, ids=lambda c: f"{c.name}-{c.carrier.name}")


def image_for(alteration, shape, seed=0):
    image = np.random.default_rng(seed).integers(60, 200, shape, dtype=np.uint8)
    return image.astype(np.int16) * 4 - 900 if alteration.space == HOUNSFIELD else image


@each_confounder
def test_it_says_what_it_is_and_where_it_occurs(confounder):
    assert confounder.leaf in taxonomy.leaves()
    assert confounder.title and len(confounder.practice.split()) > 5
    assert type(confounder).__doc__
    assert all(field.description for field in confounder.parameters().values())
    assert confounder.name in confounder.label and confounder.to_dict()["leaf"] == confounder.leaf


@each_confounder
def test_it_can_be_compared_hashed_and_sent_to_a_worker(confounder):
    again = pickle.loads(pickle.dumps(confounder))
    assert again == confounder == confounder.replaced() and len({again, confounder}) == 1


@each_confounder
def test_its_label_is_the_same_if_and_only_if_its_parameters_are(confounder):
    assert confounder.replaced().label == confounder.label
    for name, field in confounder.parameters().items():
        other = confounder.replaced(**{name: another(getattr(confounder, name), field.annotation)})
        assert other != confounder and other.label != confounder.label, name


def another(value, annotation):
    if choices := typing.get_args(annotation):
        return next(choice for choice in choices if choice != value)
    if isinstance(value, bool):
        return not value
    return value + "x" if isinstance(value, str) else value + 1 if isinstance(value, int) else 0.9 * value


@each_confounder
def test_a_name_of_its_own_changes_no_pixel(confounder):
    renamed = confounder.replaced(name="another_name")
    assert renamed != confounder and renamed.label.startswith("another_name")
    assert (renamed.base, renamed.carrier) == (confounder.base, confounder.carrier)


@each_confounder
def test_it_keeps_shape_and_type_and_its_mask_covers_all_changes(confounder):
    for shape in SHAPES:
        for alteration in (confounder.base, confounder.carrier):
            image = image_for(alteration, shape)
            altered, mask = apply(alteration, image, 7)
            assert altered.dtype == image.dtype and altered.shape == mask.shape == shape and mask.dtype == bool
            assert (altered[~mask] == image[~mask]).all()
            assert (altered != image).any() or alteration == ORIGINAL


@each_confounder
def test_it_is_pure_and_depends_on_image_and_key_alone(confounder):
    image = image_for(confounder.carrier, SHAPES[1])
    before = image.copy()
    first, _ = apply(confounder.carrier, image, 7)
    assert (image == before).all() and not np.shares_memory(first, image)
    other = apply(confounder.carrier, image, 8)[0]
    apply(confounder.carrier, image_for(confounder.carrier, SHAPES[0], seed=1), 7)
    assert (apply(confounder.carrier, image, 7)[0] == first).all()
    assert (other != first).any() or (apply(confounder.carrier, image, 9)[0] == first).all()


@each_confounder
def test_its_sets_can_be_drawn(confounder):
    n = 240
    rows = pd.DataFrame({"image_id": [f"i{i:03d}" for i in range(n)], "patient_id": [f"p{i:03d}" for i in range(n)]})
    rows["label"] = np.arange(n) % 2
    rows["split"] = np.where(np.arange(n) < 160, "dev", "test")
    if confounder.sampled:
        rows[confounder.attribute] = np.where(np.arange(n) // 2 % 2, confounder.value, confounder.other)
    sets = design.sets(rows, confounder, p_art=0.5, fold=0, seed=0)
    assert set(sets["part"]) == {"train", "val", *design.TEST_SETS}
    assert 0 < sets.loc[sets["part"] == "train", "carries"].sum() < len(sets)
    if confounder.sampled:
        carries = rows.set_index("image_id").loc[sets["image_id"], confounder.attribute] == confounder.value
        assert (carries.to_numpy() == (sets["carries"] == 1)).all()


CONTRACT = [
    test_it_says_what_it_is_and_where_it_occurs,
    test_its_label_is_the_same_if_and_only_if_its_parameters_are,
    test_a_name_of_its_own_changes_no_pixel,
    test_it_keeps_shape_and_type_and_its_mask_covers_all_changes,
    test_it_is_pure_and_depends_on_image_and_key_alone,
    test_its_sets_can_be_drawn,
]


# --- the registry ---------------------------------------------------------------------------------


def test_the_papers_confounders_are_known():
    assert {"tag", "denoising", "noise", "noise_high_vs_low", "gender", "attribute"} <= set(known())
    assert [c.name for c in ALL if c.base != ORIGINAL] == ["noise_high_vs_low"]
    assert {"gender", "patient_positioning"} <= {c.name for c in ALL if c.sampled}


def test_of_the_papers_only_noise_depends_on_the_key():
    papers = [c for c in ALL if c.name in ("tag", "denoising", "noise", "noise_high_vs_low", "gender")]
    drawn = {c.name: [apply(c.carrier, image_for(c.carrier, (400, 400)), key)[0] for key in (1, 2)] for c in papers}
    assert {name for name, (one, two) in drawn.items() if (one != two).any()} == {"noise", "noise_high_vs_low"}


def test_one_is_made_by_name():
    assert make("tag", height=128) == confounders.Tag(height=128.0) != confounders.Tag()
    assert make("tag", name="large_tag").name == "large_tag"
    with pytest.raises(StudyError, match="unknown confounder `tags`. Did you mean tag?"):
        make("tags")
    with pytest.raises(StudyError, match="unknown setting `heigth`. Did you mean height?"):
        make("tag", heigth=128)


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """The example of a confounder in docs/, as a module that is not part of the package."""
    page = Path(__file__).parents[2] / "docs" / "add_confounder.md"
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
    (tmp_path / "my_confounder.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("my_confounder")
    del sys.modules["my_confounder"], known()["scale_bar"]


def test_one_from_outside_is_known_and_keeps_what_the_others_keep(outside):
    assert known()["scale_bar"] is outside.ScaleBar
    assert confounders.implemented()["annotation"][-1] == "scale_bar"
    bar = make("scale_bar", width=10)
    assert bar.carrier.label == "scale_bar(share=0.5, width=10)"
    for test in CONTRACT:
        test(bar)
    _, mask = apply(bar.carrier, np.zeros((64, 90), np.uint8), 0)
    assert mask.sum() == 10 * 32


def test_a_module_that_is_loaded_again_replaces_its_own(outside):
    again = importlib.reload(outside)
    assert known()["scale_bar"] is again.ScaleBar


def test_a_name_that_is_taken_is_refused():
    class Label(confounders.Tag):
        """Another."""

    with pytest.raises(StudyError, match=r"Label: the name tag is taken by sourcematters.confounders.tag.Tag"):
        register(Label)
    assert known()["tag"] is confounders.Tag


def test_a_class_that_does_not_say_what_it_is_is_refused():
    class Bar(confounders.Artefact):
        name: str = "bar"
        leaf: str = "annotation"
        title = "bar"

    with pytest.raises(StudyError, match="Bar: give it a name .* a title and a practice"):
        register(Bar)
    assert "bar" not in known()


def test_a_confounder_has_an_effect_a_leaf_and_a_name():
    class Nothing(Confounder):
        name: str = "nothing"
        leaf: str = "tag"

    with pytest.raises(StudyError, match="carriers and the others are both original"):
        Nothing()
    with pytest.raises(StudyError, match="unknown leaf of MICCAT `tags`. Did you mean tag?"):
        confounders.Tag(leaf="tags")
    with pytest.raises(StudyError, match="name 'Tag!': use up to 40 small letters"):
        confounders.Tag(name="Tag!")
