"""Every step has a revision in the identity of runs, and keeps it only as long as it gives the same.

If a test here fails because a number or digest differs, and you meant to change what the step gives: raise its revision
where the message says, and put the new revision and value into the table here. Then nothing old is reused.
"""

import hashlib
import json
import re
import sys

import dicom_files
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from tiny_runs import files_of, make_cohort, plan

from sourcematters import confounders, plugins
from sourcematters.confounders import apply, design
from sourcematters.files import read_json, write_json
from sourcematters.runs import grids, provenance
from sourcematters.runs.run_folder import Workspace
from sourcematters.sources import resolve
from sourcematters.training import batches, fine_tuning, image_bank
from sourcematters.training.classifier import Classifier, reproducible
from sourcematters.training.image_bank import Pixels, Rendering
from sourcematters.training.recipe import REVISIONS, Training

CPU = torch.device("cpu")
GREY = np.add.outer(np.arange(96), 1.5 * np.arange(80)).astype(np.uint8)
HU = (np.add.outer(np.arange(64), 2 * np.arange(64)) * 7 - 900).astype(np.int16)


def digest(*arrays):
    text = b"".join(str((a.dtype.str, a.shape)).encode() + np.ascontiguousarray(a).tobytes() for a in arrays)
    return hashlib.sha256(text).hexdigest()[:12]


# Of each alteration: its revision, and the digest of the image and mask that it gives.
ALTERATIONS = {
    "original": ("1", "36d40f09b1c3"),
    "low_pass(diameter=500, truncate=False)": ("1", "51c066265763"),
    "low_pass(diameter=20, truncate=False)": ("1", "f7e874a584c6"),
    "low_pass(diameter=20, truncate=True)": ("1", "690ff1f35e63"),
    "poisson_noise(n0=2e+07)": ("1", "429d8edce013"),
    "poisson_noise(n0=1.5e+07)": ("1", "49974b89fab1"),
    "hounsfield_noise(n0=2e+07)": ("1", "52cf53094489"),
    "projection_noise(n0=2e+07, pixel_mm=0.7, views=360)": ("1", "f14fc8909887"),
    "draw_tag(height=64, letter=R, reference=1024, x=200, y=200)": ("1", "60f93611ffb7"),
    "heart_size(factor=1.15, field_mm=350, radius_mm=70, x=0.56, y=0.62)": ("1", "a4fc742a5238"),
    "mirrored_heart": ("1", "175cec0677e9"),
    "soft_tissue(field_mm=350, scatter=0.3, thickness_mm=30)": ("1", "d8d927f832a5"),
    "arrow(length=80, reference=1024, width=9)": ("1", "81fc87210079"),
    "crop_border(colour=black, reference=1024, width=24)": ("1", "0fc59fc0ec13"),
    "ruler(edge=right, field_mm=350, line_mm=0.8, step_mm=10, tick_mm=5)": ("1", "39e348b4d9c1"),
    "text_line(corner=top left, height=24, margin=24, number=True, reference=1024, text=PORTABLE ERECT)": (
        "1",
        "13059f1a49d3",
    ),
    "burnt_in_date(corner=top left, date=, height=24, margin=24, reference=1024)": ("1", "5fbb6a7da746"),
    "chest_drain(blur_mm=0.15, field_mm=350, french=28)": ("1", "39b44b80ea15"),
    "ecg_electrodes(blur_mm=0.15, electrodes=3, field_mm=350, pad_mm=35, snap_mm=10, wire_mm=1.4)": (
        "1",
        "29a0374c1e39",
    ),
    "necklace(bead_mm=3, blur_mm=0.15, field_mm=350, gap_mm=1, pendant_mm=12)": ("1", "2d2dc8da3971"),
    "pacemaker(blur_mm=0.15, field_mm=350, height_mm=45, lead_mm=2, leads=2, width_mm=50)": ("1", "15b2df7c48dc"),
    "port(blur_mm=0.15, catheter_mm=2.7, diameter_mm=27, field_mm=350)": ("1", "9e584697741d"),
    "surgical_clips(blur_mm=0.15, clips=6, field_mm=350, length_mm=8, spread_mm=14, width_mm=2)": ("1", "e59b1cd18372"),
    "gamma(gamma=0.7)": ("1", "cbb3213625dc"),
    "window_shift(level=0.1, width=1)": ("1", "abfb81c9a0a7"),
    "exposure(decades=2, factor=2)": ("1", "c519d4e33701"),
    "equalized(clip=0.01, method=adaptive, tiles=8)": ("1", "33df97182771"),
    "patient_table(field_mm=350, hu=-100, radius_mm=500, shell_mm=2, thickness_mm=30)": ("1", "5409d30affde"),
    "metal_streaks(diameter_mm=6, field_mm=350, hu=8940, n0=1e+06, pieces=2)": ("1", "64390eabc96e"),
    "motion_blur(degrees=90, field_mm=350, length_mm=3)": ("1", "5447821a4e59"),
    "rotated(degrees=10, drawn=False, fill=edge)": ("1", "f0b54805c2ad"),
    "tilted(degrees=15, distance_mm=1000, field_mm=350, fill=edge)": ("1", "931c696742cf"),
    "collimation(field_mm=350, uneven=True, width_mm=20)": ("1", "675ce3f56882"),
    "kernel(field_mm=350, gain=2, half=0.35)": ("1", "80d6ea2f53c6"),
    "slice_thickness(field_mm=350, native_mm=1.25, thickness_mm=5)": ("1", "932edc4610c1"),
    "downsampled(side=256)": ("1", "93e801a69cf2"),
    "jpeg(quality=50)": ("1", "dfdf95c4b683"),
    "ring_artefact(field_mm=350, hu=30, rings=3, width_mm=1)": ("1", "ccd04a36047a"),
}


def every_alteration():
    kinds = [confounders.make(name) for name, kind in confounders.known().items() if not kind.sampled]
    kinds += [confounders.Noise(domain=domain) for domain in ("hounsfield", "projection")]
    kinds += [confounders.Denoising(diameter=20, truncate=True)]
    found = {alteration.label: alteration for kind in kinds for alteration in (kind.base, kind.carrier)}
    return {**found, confounders.Denoising(diameter=20).carrier.label: confounders.Denoising(diameter=20).carrier}


@pytest.mark.parametrize("label", every_alteration())
def test_an_alteration_keeps_its_revision_as_long_as_it_gives_the_same_pixels(label):
    alteration = every_alteration()[label]
    image = HU if alteration.space == HU.dtype else np.tile(GREY, (8, 8)) if re.search("=500|side=", label) else GREY
    now = (alteration.revision, digest(*apply(alteration, image, 5)))
    assert now == ALTERATIONS[label], f"raise `revision` of the confounder that draws {label}"


def changed(step, now, pinned):
    """What to say of a step whose value differs from the table's."""
    return f"{step} gives {now}, not {pinned}: raise REVISIONS[{step!r}] in training/recipe.py, and change the table"


# Of each step: its revision, and what it gives on fixed inputs.
RENDERING = (2, "2cecea93277d")
DESIGN = (2, "d94179b3b27f")
AUGMENTATION = (1, "010101010110010101110001", [124.257, 130.347, 119.413, 138.687])
TRAINING = (1, [1.2205163, 0.686105, 1.2016783, 0.7516943, 0.8438366, 0.825784])
SCORING = (1, [0.4369992, 0.4515426, 0.4588702, 0.4361371])


def test_the_rendering_keeps_its_revision_as_long_as_it_gives_the_same_pixels(tmp_path):
    grey, colour = tmp_path / "grey.png", tmp_path / "colour.png"
    Image.fromarray(GREY).save(grey)
    Image.fromarray(np.stack([GREY, GREY // 2, 255 - GREY], axis=2)).save(colour)
    (slice_,) = dicom_files.write_series(tmp_path, positions=[0], hu=HU)
    tag = confounders.Tag(height=300).carrier
    how = [Rendering(size=31), Rendering(size=31, interpolation="antialias"), Rendering(size=24, crop=40, seed=2)]
    how += [Rendering(size=31, alteration=tag), Rendering(size=31, window=(40, 400))]
    pixels = [each for path in (grey, colour, slice_) for each in image_bank.render(str(path), "a", how)]
    now = REVISIONS["rendering"], digest(*pixels)
    assert now == RENDERING, changed("rendering", now, RENDERING)


def test_the_design_keeps_its_revision_as_long_as_it_draws_the_same_sets():
    n = np.arange(160)
    cohort = pd.DataFrame({"image_id": [f"i{i}" for i in n], "patient_id": [f"p{i // 2}" for i in n]})
    cohort = cohort.assign(
        label=n // 2 % 2, sex=np.where(n // 2 % 5 < 2, "F", "M"), split=np.where(n < 112, "dev", "test")
    )
    sets = [
        design.sets(cohort, confounder, p_art=p, fold=fold, seed=3)
        for confounder in (confounders.Tag(), confounders.Gender(), None)
        for p, fold in ((0.3, 0), (1, 1))
    ]
    text = pd.concat(sets)[["image_id", "part", "carries"]].to_csv(index=False, lineterminator="\n")
    now = REVISIONS["design"], hashlib.sha256(text.encode()).hexdigest()[:12]
    assert now == DESIGN, changed("design", now, DESIGN)


def small_set(n=24, size=24):
    """Images whose positives are brighter, in double precision further on, so that no machine rounds otherwise."""
    rng, labels = np.random.default_rng(0), np.arange(n) % 2
    images = (rng.integers(0, 200, (n, size, size)) + 40 * labels[:, None, None]).astype(np.uint8)
    parts = np.array(["train", "train", "val", "clean"])[np.arange(n) // 2 % 4]
    table = pd.DataFrame({"row": np.arange(n), "image_id": [f"i{i}" for i in range(n)], "label": labels})
    return Pixels(images, 255 - images), table.assign(part=parts, carries=np.arange(n) // 8 % 2)


def test_the_augmentation_keeps_its_revision_as_long_as_it_gives_the_same_batches():
    pixels, table = small_set()
    training = Training(size=24, batch_size=8)
    chosen = batches.TrainingSet(pixels, table[table["part"] == "train"], training, seed=1, device=torch.device("cpu"))
    fed = [batch for epoch in (0, 1) for batch in chosen.epoch(epoch)]
    labels = torch.cat([labels for _, labels in fed]).tolist()
    means = [round(images.mean(dtype=torch.float64).item(), 3) for images, _ in fed]
    now = REVISIONS["augmentation"], "".join(map(str, labels)), means
    assert now[:2] == AUGMENTATION[:2] and now[2] == pytest.approx(AUGMENTATION[2], abs=2e-3), changed(
        "augmentation", now, AUGMENTATION
    )


def trained():
    pixels, table = small_set()
    training = Training(size=24, epochs=3, patience=3, learning_rate=1e-3, batch_size=8, bn_momentum=0.1)
    cpu = torch.device("cpu")
    with reproducible(7, cpu):
        model = Classifier(resolve("random", "test_resnet"), "test_resnet", size=24).double()
        history = fine_tuning.fine_tune(model, pixels, table, training, seed=1, device=cpu)
        return history, fine_tuning.score(model, pixels, table, training, device=cpu)


def test_training_and_scoring_keep_their_revisions_as_long_as_they_give_the_same_numbers():
    history, scores = trained()
    now = REVISIONS["training"], history[["train_loss", "val_loss"]].to_numpy().ravel().round(7).tolist()
    assert now[0] == TRAINING[0] and now[1] == pytest.approx(TRAINING[1], rel=1e-5), changed("training", now, TRAINING)
    now = REVISIONS["scoring"], scores[::6].round(7).tolist()
    assert now[0] == SCORING[0] and now[1] == pytest.approx(SCORING[1], rel=1e-5), changed("scoring", now, SCORING)


# The identity


@pytest.mark.parametrize("step", REVISIONS)
def test_a_new_revision_of_a_step_is_another_run(tmp_path, monkeypatch, step):
    before = {spec.id for spec in plan(make_cohort(tmp_path), Workspace(str(tmp_path / "r")))}
    monkeypatch.setitem(REVISIONS, step, REVISIONS[step] + 1)
    after = {spec.id for spec in plan(make_cohort(tmp_path), Workspace(str(tmp_path / "r")))}
    assert len(before) == 4 and not before & after


def test_a_new_revision_of_a_confounder_is_another_run_and_bank_with_the_same_noise(tmp_path, monkeypatch):
    noise, images = confounders.Noise(n0=1e5), pd.Series({"a": "0"})

    def now():
        specs = plan(make_cohort(tmp_path), Workspace(str(tmp_path / "r")), noise)
        names = {image_bank.bank_path(images, Rendering(alteration=a), "").name for a in (noise.base, noise.carrier)}
        return (
            {spec.id for spec in specs if spec.p_art},
            names,
            apply(noise.carrier, GREY, confounders.key_for(0, "a", noise.carrier)),
        )

    (ids, banks, (pixels, _)), _ = now(), monkeypatch.setattr(confounders.Noise, "revision", 2)
    new_ids, new_banks, (new_pixels, _) = now()
    assert not ids & new_ids and len(banks & new_banks) == 1 and np.array_equal(pixels, new_pixels)


def test_a_new_revision_of_the_rendering_is_another_bank(monkeypatch):
    images = pd.Series({"a": "0"})
    before = image_bank.bank_path(images, Rendering(), "")
    monkeypatch.setitem(REVISIONS, "rendering", 99)
    assert image_bank.bank_path(images, Rendering(), "") != before


def test_a_new_revision_of_a_source_is_another_source(monkeypatch):
    source = resolve("random", "test_resnet")
    before = json.dumps(source.to_dict())
    monkeypatch.setattr(type(source), "revision", 2)
    assert json.dumps(source.to_dict()) != before


PLUGIN = """
from sourcematters.confounders import Artefact, register

@register
class Dot(Artefact):
    name: str = "dot"
    leaf: str = "annotation"
    title = "dot"
    practice = "made up"

    def draw(self, image, key):
        image = image.copy()
        image[0, 0] = {value}
        return image, image >= 0
"""


def test_whoever_edits_a_plugin_gets_another_revision(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    revisions = []
    for number, value in enumerate((1, 2, 1)):
        (tmp_path / str(number)).mkdir()
        path = tmp_path / str(number) / f"dots{number}.py"
        path.write_text(PLUGIN.format(value=value))
        confounders.known().pop("dot", None)
        plugins.load([str(path)])
        revisions.append(confounders.make("dot").carrier.revision)
    assert revisions[0] == revisions[2] != revisions[1] and all(each.startswith("1+") for each in revisions)


# What is kept of the code


def test_the_environment_keeps_commit_and_code(tmp_path, monkeypatch):
    kept = provenance.environment("cpu", 1.0)
    assert kept["code"].keys() >= {"confounders/denoising.py", "training/fine_tuning.py", "seeds.py"}
    own = hashlib.sha256((provenance.PACKAGE / "seeds.py").read_bytes()).hexdigest()
    assert own.startswith(kept["code"]["seeds.py"])
    assert kept["commit"] is None or (len(kept["commit"]) == 40 and kept["changed"] in (True, False))
    # Outside of a clone there is nothing to tell.
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path)
    provenance._commit.cache_clear()
    assert provenance._commit() == (None, None)
    provenance._commit.cache_clear()


def test_runs_of_other_code_under_the_same_revisions_are_taken_and_told(tmp_path, capsys):
    workspace = Workspace(str(tmp_path / "r"))
    specs = plan(make_cohort(tmp_path), workspace, p_art=[1], folds=2)
    grids.run(specs, workspace, name="tag", workers=1)
    before = files_of(workspace)
    grids.run(specs, workspace, name="tag", workers=1)
    assert "note" not in capsys.readouterr().err
    path = workspace.run(specs[0]) / "env.json"
    env = read_json(path)
    env["code"]["training/batches.py"] = "0" * 12
    write_json(path, env)
    grids.run(specs, workspace, name="tag", workers=1)
    said = capsys.readouterr().err
    assert "1 finished runs were made before training/batches.py changed" in said and "raise the revision" in said
    assert files_of(workspace) == before
