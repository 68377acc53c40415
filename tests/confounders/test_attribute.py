"""Sampled confounders: any column, any two values."""

import pytest

from sourcematters.confounders import ORIGINAL, Attribute, Gender
from sourcematters.errors import StudyError

VIEW = {"attribute": "view", "value": "AP", "other": "PA", "leaf": "patient positioning"}


def test_any_attribute_can_be_sampled_under_any_name():
    view = Attribute(**VIEW)
    assert view.sampled and view.name == "patient_positioning" and view.carrier == view.base == ORIGINAL
    assert view.label == "patient_positioning: view AP against PA"
    assert Attribute(**VIEW, name="view").name == "view"
    assert view.to_dict() == {"name": "patient_positioning"} | VIEW
    assert Attribute(**view.to_dict()) == view


def test_values_are_text_as_in_a_cohort():
    assert Attribute(**VIEW | {"value": 1, "other": 0}) == Attribute(**VIEW | {"value": "1", "other": "0"})


def test_gender_is_the_papers():
    gender = Gender()
    assert gender.to_dict() == {"name": "gender", "leaf": "gender", "attribute": "sex", "value": "F", "other": "M"}
    assert gender.label == "gender: sex F against M"
    assert Attribute(**gender.to_dict()).label == gender.label
    assert Gender(value="female", other="male").name == "gender"


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"other": "AP"}, "two different values"),
        ({"value": ""}, "value = ''"),
        ({"attribute": ""}, "attribute = ''"),
        ({"leaf": "ruler"}, "unknown leaf of MICCAT `ruler`"),
        ({"name": "View!"}, "small letters"),
    ],
)
def test_what_cannot_be_sampled_is_refused(fields, says):
    with pytest.raises(StudyError, match=says):
        Attribute(**VIEW | fields)


def test_all_that_is_missing_is_said_at_once():
    with pytest.raises(StudyError, match="leaf(.|\\n)*attribute(.|\\n)*value(.|\\n)*other"):
        Attribute()
