"""The widgets: what each control draws, and what is said of parameters that do not fit."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sourcematters import confounders
from sourcematters.study.explorer.cases import Network, Subject, cases, drawable
from sourcematters.study.explorer.panels import PANELS
from sourcematters.study.explorer.widget import widget
from sourcematters.training.recipe import Preprocessing

HOW = Preprocessing(size=32)


@pytest.fixture
def table(tmp_path):
    rng, rows = np.random.default_rng(0), []
    for number in range(6):
        path = tmp_path / f"i{number}.png"
        Image.fromarray(rng.integers(40, 200, (64, 64)).astype(np.uint8)).save(path)
        rows.append((f"i{number}", str(path), number % 2))
    return pd.DataFrame(rows, columns=["image_id", "path", "label"])


def subject_of(table, *names, **more):
    shown = cases(table, seed=0)
    own = {"denoising": {"diameter": 30}}
    chosen = [confounders.make(name, **own.get(name, {})) for name in names]
    return Subject(shown, drawable(chosen, shown[0], HOW, seed=0), HOW, 0, **more)


def everything(box):
    for child in getattr(box, "children", ()):
        yield child
        yield from everything(child)


class Hand:
    """What a user sees and moves."""

    def __init__(self, subject):
        self.box = widget(subject)

    def __getitem__(self, description):
        return next(one for one in everything(self.box) if getattr(one, "description", None) == description)

    @property
    def pictures(self):
        return [bytes(one.value) for one in everything(self.box) if type(one).__name__ == "Image"]

    @property
    def text(self):
        return "\n".join(one.value for one in everything(self.box) if type(one).__name__ == "HTML")


def test_moving_a_slider_draws_what_it_changes(table):
    hand = Hand(subject_of(table, "tag"))
    before = hand.pictures
    assert len(before) == len(PANELS) and all(each.startswith(b"\x89PNG") for each in before)
    hand["height"].value = max(value for _, value in hand["height"].options if value < 400)
    after = hand.pictures
    assert all(one != other for one, other in zip(before, after, strict=True))
    hand["height"].value = 64
    assert hand.pictures == before, "the same parameters draw the same pictures"


def test_a_combination_that_does_not_fit_is_a_sentence_and_the_pictures_stay(table):
    hand = Hand(subject_of(table, "tag", "noise_high_vs_low"))
    before = hand.pictures
    hand["x"].value = 1000
    assert "role='alert'" in hand.text and "would span columns" in hand.text and "Traceback" not in hand.text
    assert hand.pictures == before
    hand["x"].value = 100
    assert "role='alert'" not in hand.text and hand.pictures != before
    hand["confounder"].value = "noise_high_vs_low"
    hand["high"].value = hand["high"].options[-1][1]
    assert "fewer are noisier" in hand.text, "what pydantic refuses is a sentence, too"


def test_every_declared_parameter_has_its_control(table):
    hand = Hand(subject_of(table, "tag", "noise", "denoising"))
    kinds = {name: type(hand[name]).__name__ for name in ("letter", "height", "x", "y", "reference")}
    assert kinds == {"letter": "Text"} | dict.fromkeys(("height", "x", "y", "reference"), "SelectionSlider")
    hand["confounder"].value = "denoising"
    assert type(hand["truncate"]).__name__ == "Checkbox" and "height" not in [
        getattr(one, "description", "") for one in everything(hand.box)
    ]
    hand["confounder"].value = "noise"
    assert type(hand["domain"]).__name__ == "Dropdown"
    assert hand["n0"].tooltip == "photons per pixel; per ray in domain projection"


def test_image_and_blinking(table):
    hand = Hand(subject_of(table, "tag"))
    labels = [label for label, _ in hand["image"].options]
    assert labels[0] == "i1 (positive)" and sorted(labels) == sorted(
        f"i{k} ({'positive' if k % 2 else 'negative'})" for k in range(6)
    )
    first = hand.pictures
    hand["show it without"].value = True
    image, difference, spectrum, seen = zip(first, hand.pictures, strict=True)
    assert image[0] != image[1] and difference[0] == difference[1] and spectrum[0] == spectrum[1]
    hand["show it without"].value = False
    hand["image"].value = hand["image"].options[1][1]
    assert all(one != other for one, other in zip(first, hand.pictures, strict=True))


def test_scores_are_those_of_the_network_on_what_it_sees(table):
    asked = []

    def logits(images):
        asked.append(images)
        return (images.reshape(len(images), -1) == 255).sum(1) / 4 - 2.0

    hand = Hand(subject_of(table, "tag", networks={"white": Network(logits, 0.0)}))
    assert [(one.shape, one.dtype) for one in asked] == [((1, 32, 32), np.uint8)] * 2
    assert "white scores 0.12 without it" in hand.text, "1 / (1 + e^2)"
    hand["height"].value = max(value for _, value in hand["height"].options if value < 500)
    assert "it turns to positive" in hand.text and "(positive from 0.50 on)" in hand.text
    assert len(asked) == 3, "the image without it is still the same"


def test_only_what_can_be_drawn_on_the_image_is_offered(table):
    found = subject_of(table, "tag", "ring_artefact", "gender", "gamma")
    assert list(found.confounders) == ["tag", "gamma"]


def test_few_images_of_each_class_whatever_the_cohort(table):
    many = pd.concat([table.assign(image_id=table["image_id"] + f"-{k}") for k in range(50)], ignore_index=True)
    shown = cases(many, seed=0)
    assert [case.label for case in shown] == [1] * 8 + [0] * 8
    assert shown[0].image_id == "i1-0" and shown == cases(many, seed=0) != cases(many, seed=1)
