"""Where sliders stop: within what a field declares, the value itself among the stops."""

from typing import Annotated

import numpy as np
import pytest
from pydantic import Field, TypeAdapter

from sourcematters import confounders
from sourcematters.confounders import Artefact
from sourcematters.study.explorer.stops import stops

FIELDS = [
    (name, field) for name, kind in confounders.known().items() if not kind.sampled for field in kind.parameters()
]  # fmt: skip


class Sliders(Artefact):
    name: str = "sliders"
    leaf: str = "tag"
    share: float = Field(0.56, ge=0, le=1)
    exclusive: float = Field(0.3, gt=0, lt=1)
    angle: float = Field(10, ge=-180, le=180)
    leads: int = Field(2, ge=0, le=3)
    place: float = Field(200, ge=0)
    length: float = Field(64, gt=0)
    photons: float = Field(2e7, gt=0, le=1e15)
    side: int = Field(256, ge=1)
    offset: float = 0.0
    word: str = "R"

    def draw(self, image, key):
        return image, np.ones(image.shape, bool)

    def stronger(self):
        return self.replaced(photons=self.photons / 4)


def of(name):
    return stops(Sliders(), name)


@pytest.mark.parametrize(("name", "field"), FIELDS)
def test_every_stop_is_taken_and_the_value_is_one_of_them(name, field):
    confounder = confounders.make(name)
    found, now = stops(confounder, field), getattr(confounder, field)
    assert (found == []) == (isinstance(now, str) and field in ("letter", "text", "date"))
    if found:
        assert now in found and len(found) == len(set(found)) <= 70
        declared = type(confounder).model_fields[field]
        taken = TypeAdapter(Annotated[declared.annotation, Field(), *declared.metadata])
        assert [taken.validate_python(value) for value in found] == found
        if not isinstance(now, str):
            assert found == sorted(found) and len(found) >= 2


def test_near_bounds_are_the_ends_and_steps_are_round():
    assert of("share")[:3] == [0, 0.02, 0.04] and of("share")[-1] == 1 and 0.56 in of("share")
    assert of("angle")[0] == -180 and of("angle")[-1] == 180 and set(np.diff(of("angle"))) == {10}
    assert of("leads") == [0, 1, 2, 3]


def test_what_is_excluded_is_no_stop():
    assert min(of("exclusive")) > 0 and max(of("exclusive")) < 1


def test_without_a_near_bound_a_place_goes_to_five_times_itself_and_a_length_by_equal_ratios():
    assert (of("place")[0], of("place")[-1]) == (0, 1000)
    ratios = np.diff(np.log(of("length")))
    assert ratios.max() / ratios.min() < 1.2
    assert of("length")[0] == pytest.approx(64 / 16) and of("length")[-1] == pytest.approx(64 * 16, rel=0.01)
    assert all(isinstance(value, int) for value in of("side")) and of("side")[0] == 16


def test_what_stronger_changes_by_a_larger_ratio_has_a_longer_slider():
    assert of("photons")[-1] / 2e7 == pytest.approx(4**4, rel=0.01)


def test_without_any_bound_it_goes_either_way():
    assert of("offset")[0] == -5 and of("offset")[-1] == 5 and 0 in of("offset")


def test_text_has_no_stops():
    assert of("word") == []
