"""Each kind of figure looks as it was kept, from made-up tables; `python tests/results/test_baselines.py` keeps anew.

Letters are drawn without hinting, which is what versions of FreeType differ in, and pictures compared at a quarter of
their 200 dpi, so that the kept ones are small. A marker that moves, or a line less, is beyond what is allowed.
"""

import io
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.testing.compare import calculate_rms
from PIL import Image

import sourcematters.demo.standins  # noqa: F401  (registers the stand-ins)
from sourcematters import confounders
from sourcematters.audit import pictures
from sourcematters.audit.data import pictures as data_pictures
from sourcematters.results import ct_figures, diagrams, figures, galleries, statistics, verdicts
from sourcematters.results.forest import forest
from sourcematters.training.image_bank import LUNG
from sourcematters.training.reach import Reach
from sourcematters.training.recipe import Preprocessing

KEPT = Path(__file__).parent / "baseline"
ALLOWED = 2.0  # grey levels of 255, root mean square over the picture
SAID = "phantoms, not patients; natural-standin is not ImageNet"


def curves(*names, folds=5, moved=0.0):
    rows = []
    for a, name in enumerate(names):
        for b, source in enumerate(("natural-standin", "radiology-standin", "random")):
            for p in (0.0, 0.1, 0.5, 1.0):
                means = {"ood": 0.8 - 0.1 * a - (0.6 - 0.1 * b) * p, "iid": 0.8 + 0.15 * p, "clean": 0.78}
                for test_set, mean in means.items():
                    mean += moved * (source == "random" and p == 1)
                    ends = (max(mean - 0.15, 0), min(mean + 0.1, 1), mean - 0.06, mean + 0.06)
                    rows.append(("lesion", name, source, "resnet50", test_set, p, folds, mean, *ends, ""))
    return pd.DataFrame(rows, columns=statistics.SUMMARY).assign(caution=SAID, n=62, positives=31, unlearned=0)


def compared():
    rows = [
        ("tag", 0.42, 0.2, 0.64, 0.001, 0.004, 0.3),
        ("noise", -0.1, -1.3, 0.9, 0.8, 0.8, 1.4),
        ("gamma", 0.02, -0.1, 0.14, 0.7, 0.8, 0.2),
    ]
    table = pd.DataFrame(rows, columns=["confounder", "difference", "ci_low", "ci_high", "p", "p_holm", "detectable"])
    table = table.assign(task="lesion", backbone="resnet50", a="natural-standin", problem="")
    return pd.concat([table.assign(b=b) for b in ("radiology-standin", "random")])


def leaning():
    found = [
        verdicts.Finding("the model", "tag", 0.31, 0.22, 0.40, 0.001, 0.15, 60, 30),
        verdicts.Finding("the model", "gamma", 0.02, -0.01, 0.04, 1.0, 0.08, 60, 30),
        verdicts.Finding("the model", "noise", 0.06, -0.2, 0.3, 1.0, 0.5, 60, 30),
    ]
    names = [one.confounder for one in found]
    effects = pd.DataFrame({"confounder": names, "auc_without": 0.8, "auc_aligned": 0.9, "auc_reversed": 0.5})
    rungs = {"rung": [0, 1, 2], "given": [False, True, False], "lean": [0.1, 0.3, 0.45], "n": 40}
    strengths = pd.DataFrame(rungs).assign(confounder="tag")
    return pictures.leaning(verdicts.as_table(found), effects, strengths, note="phantoms, not patients")


def confounded():
    shortcuts = pd.DataFrame({
        "what": ["size of picture and file", "view", "the order of the files"], "of": ["image", "attribute", "order"],
        "auc": [0.8, 0.61, 0.5], "ci_low": [0.75, 0.55, 0.45], "ci_high": [0.85, 0.66, 0.55],
    })  # fmt: skip
    associations = pd.DataFrame({"attribute": ["view"], "auc": [0.61]})
    counts = pd.DataFrame({"attribute": "view", "value": ["AP", "PA"], "negatives": [129, 52], "positives": [82, 86]})
    return data_pictures.already_confounded(associations, counts, shortcuts, note="phantoms, not patients")


def shape(size=160):
    """A body with two lungs, grey uint8."""
    y, x = np.mgrid[:size, :size] / size
    body = 40 + 150 * ((x - 0.5) ** 2 / 0.2 + (y - 0.6) ** 2 / 0.3 < 1)
    lungs = ((np.abs(x - 0.5) - 0.2) ** 2 / 0.012 + (y - 0.5) ** 2 / 0.06 < 1) * 110.0
    return (body - lungs + 20 * np.sin(40 * y)).clip(0, 255).astype(np.uint8)


def gallery():
    drawn = [confounders.Tag(height=128), confounders.Denoising(diameter=40)]
    found = galleries.effects(image=shape(), confounders=drawn, seed=0, image_id="a", window=LUNG)
    reaches = [Reach(40, 1.0, 0.0123, 0.5, 163), Reach(40, 1.0, 0.9, 2.0, 12)]
    return galleries.gallery(effects=found, reaches=reaches, how=Preprocessing(size=64), note="phantoms, not patients")


def sheet():
    cohort = pd.DataFrame({"image_id": list("abcd"), "path": "", "patient_id": list("wxyz"), "label": [0, 1, 0, 1]})
    return galleries.sheet(cohort=cohort, bank=np.stack([shape(64)] * 4), note="phantoms, not patients")


def domains():
    hu = (shape(100).astype(np.int16) - 190) * 5
    return ct_figures.noise_domains(hu, n0=2e6, seed=1, note="phantoms, not patients")[0]


def calibration():
    example = diagrams.binormal(negatives=52, positives=31, auc=0.92)
    table = diagrams.calibration_table(predictions=example, shifts=[k / 2 for k in range(-12, 13)])
    return diagrams.calibration_shift(data=table, majority=52 / 83)


FIGURES = {
    "one_panel": lambda: figures.robustness(data=curves("tag"), baseline={"lesion": 0.9}),
    "three_panels": lambda: figures.robustness(data=curves("tag", "noise", "gamma"), note="size 64, 128 (tag)"),
    "two_folds": lambda: figures.robustness(data=curves("tag", "noise", folds=2)),
    "by_task": lambda: figures.by_task(data=curves("tag", "noise"), confounders=["tag", "noise"], baseline={}),
    "forest": lambda: forest(data=compared(), caution=SAID),
    "leaning": leaning,
    "confounded": confounded,
    "gallery": gallery,
    "sheet": sheet,
    "noise_domains": domains,
    "calibration": calibration,
}


def reduced(figure, **how) -> np.ndarray:
    """The picture at 50 dpi, grey (H, W), averaged from 200 dpi."""
    buffer = io.BytesIO()
    with matplotlib.rc_context({"text.hinting": "no_hinting", **how}):
        figure.savefig(buffer, format="png", dpi=200)
    return np.asarray(Image.open(buffer).convert("L").reduce(4))


def apart(one: np.ndarray, other: np.ndarray) -> float:
    assert one.shape == other.shape, "another size"
    return float(calculate_rms(one.astype(float), other.astype(float)))


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_looks_as_it_was_kept(name):
    assert apart(reduced(FIGURES[name]()), np.asarray(Image.open(KEPT / f"{name}.png"))) < ALLOWED


def test_what_is_allowed_is_less_than_a_marker_that_moved_or_a_line_less():
    kept = np.asarray(Image.open(KEPT / "one_panel.png"))
    moved = figures.robustness(data=curves("tag", moved=0.03), baseline={"lesion": 0.9})
    assert apart(reduced(moved), kept) > ALLOWED
    lower = figures.robustness(data=curves("tag"), baseline={"lesion": 0.87})
    assert apart(reduced(lower), kept) > ALLOWED


if __name__ == "__main__":
    KEPT.mkdir(exist_ok=True)
    for name, draw in FIGURES.items():
        Image.fromarray(reduced(draw())).save(KEPT / f"{name}.png", optimize=True)
