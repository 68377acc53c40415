import dataclasses
import re

import pytest

from sourcematters import confounders, sources
from sourcematters.errors import StudyError
from sourcematters.runs import run_folder, specs
from sourcematters.runs.specs import RunSpec
from sourcematters.training.recipe import Training

RANDOM = sources.resolve("random", "test_resnet")


def spec(**changes):
    settings = dict(
        data="cxr14",
        task="Lung Mass",
        cohort="abc",
        confounder=confounders.Tag(),
        base=confounders.ORIGINAL,
        p_art=0.5,
        source=RANDOM,
        backbone="resnet50",
        fold=2,
        training=Training(),
    )
    return RunSpec(**{**settings, **changes})


def test_the_id_reads_and_ends_in_a_hash():
    assert re.fullmatch(r"cxr14-lung_mass-tag-p050-random-resnet50-f2-[0-9a-f]{8}", spec().id)


@pytest.mark.parametrize(
    "change",
    [
        {"cohort": "abd"},
        {"p_art": 0.51},
        {"fold": 3},
        {"seed": 1},
        {"training": Training(epochs=199)},
        {"training": Training(crop=362)},
        {"training": Training(compiled=True)},
        {"training": Training(window=(40, 400))},
        {"confounder": confounders.Tag(height=63)},
        {"source": dataclasses.replace(RANDOM, identity="sha256:1")},
        {"source": dataclasses.replace(RANDOM, mean=(0.5, 0.5, 0.5))},
    ],
    ids=str,
)
def test_whatever_changes_the_result_changes_the_id(change):
    assert spec(**change).id != spec().id


def test_two_ways_to_say_the_same_are_one_run():
    assert spec(p_art=1).id == spec(p_art=1.0).id
    whole, real = (confounders.Denoising(diameter=diameter) for diameter in (500, 500.0))
    assert spec(confounder=whole).id == spec(confounder=real).id
    assert spec(training=Training(window=[-600, 1500])).id == spec().id
    assert spec(smallest_test=20, caution="phantoms").id == spec().id
    elsewhere = dataclasses.replace(RANDOM, location="/another/machine")
    assert spec(source=elsewhere).id == spec().id


def test_ct_settings_reach_the_rendering_of_both_kinds_of_image():
    noise = confounders.NoiseHighVsLow(domain="hounsfield")
    training = Training(size=96, crop=64, window=(40, 400))
    base, carrier = run_folder.renderings(spec(confounder=noise, base=noise.base, training=training, seed=3))
    assert (base.alteration, carrier.alteration) == (noise.base, noise.carrier)
    for rendering in (base, carrier):
        assert (rendering.size, rendering.crop, rendering.window, rendering.seed) == (96, 64, (40, 400), 3)
        assert rendering.interpolation == "nearest"


def test_without_the_confounder_all_drawn_ones_share_one_fit():
    tag, filtered = (spec(confounder=c(), p_art=0).fit for c in (confounders.Tag, confounders.Denoising))
    assert tag == filtered and tag.confounder is None and tag.id == filtered.id
    assert spec(confounder=confounders.Tag(), p_art=0).id != spec(confounder=confounders.Denoising(), p_art=0).id


def test_who_may_not_share():
    assert spec(p_art=0.1).fit == spec(p_art=0.1)
    # Training sets of a sampled confounder differ from the others' at p_art = 0 too.
    gender = spec(confounder=confounders.Gender(), p_art=0)
    assert gender.fit == gender
    # All images at low noise are not the same pixels as no noise.
    noise = confounders.NoiseHighVsLow()
    assert spec(confounder=noise, base=noise.base, p_art=0).fit != spec(p_art=0).fit


def test_the_grid_is_the_product_of_its_axes():
    runs = specs.grid(
        data="d",
        task="t",
        cohort="c",
        confounders=[confounders.Tag(), confounders.NoiseHighVsLow()],
        p_art=[0, 1],
        sources=[RANDOM, dataclasses.replace(RANDOM, name="other")],
        backbone="resnet50",
        folds=3,
        training=Training(),
    )
    assert len(runs) == len({run.id for run in runs}) == 2 * 2 * 2 * 3
    assert [run.fold for run in runs[:4]] == [0, 1, 2, 0]
    assert {run.base.name for run in runs if run.confounder.name == "tag"} == {"original"}
    assert {run.base.name for run in runs if run.confounder.name == "noise_high_vs_low"} == {"poisson_noise"}


@pytest.mark.parametrize(
    ("axis", "message"),
    [
        ({"p_art": [0, 0]}, "p_art = .* each of them once"),
        ({"p_art": [0, 1.2]}, r"p_art = 1\.2: should be less than or equal to 1"),
        ({"folds": 0}, "folds = .* at least one"),
        ({"sources": []}, "sources = .* at least one"),
    ],
)
def test_axes_that_make_no_grid(axis, message):
    settings = dict(
        data="d", task="t", cohort="c", confounders=[confounders.Tag()], p_art=[0], sources=[RANDOM],
        backbone="resnet50", folds=1, training=Training(),
    )  # fmt: skip
    with pytest.raises(StudyError, match=message):
        specs.grid(**{**settings, **axis})


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"learning_rate": 0},
        {"batch_size": 1},
        {"dropout": 1.0},
        {"interpolation": "cubic"},
        {"precision": "fp16"},
        {"compiled": "auto"},
        {"size": 8},
        {"patience": 0},
        {"rotation": -1},
        {"crop": -1},
        {"crop": 8},
        {"crop": 362.5},
        {"window": (-600, 0)},
        {"window": (-600,)},
        {"window": ("lung", 1500)},
        {"window": None},
    ],
    ids=str,
)
def test_training_settings_that_make_no_sense(wrong):
    (name,) = wrong
    with pytest.raises(StudyError, match=rf"^Training: {name}(\.\d)? = "):
        Training(**wrong)


def test_the_defaults_are_the_papers():
    paper = Training()
    assert (paper.size, paper.batch_size, paper.epochs, paper.patience) == (512, 32, 200, 30)
    assert (paper.learning_rate, paper.dropout, paper.bn_momentum) == (1e-5, 0.5, 0.01)
    assert (paper.crop, paper.window) == (0, (-600, 1500))
    assert (paper.rotation, paper.shift, paper.zoom, paper.interpolation) == (10, 0.1, 0.1, "nearest")
