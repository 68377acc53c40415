"""One sampled attribute a leaf, and names that nothing else has."""

import pytest

from sourcematters.confounders import implemented, known, make
from sourcematters.confounders.taxonomy import leaves
from sourcematters.errors import StudyError
from sourcematters.study.settings import SECTIONS, Settings

LEAVES = {
    "age_band": "age",
    "gender": "gender",
    "ethnicity": "ethnicity",
    "insurance": "socioeconomic status",
    "comorbidity": "comorbidity",
    "projection": "patient positioning",
    "site": "contrast",
}


def test_each_hangs_on_its_leaf():
    assert {name: kind.model_fields["leaf"].default for name, kind in known().items() if name in LEAVES} == LEAVES
    assert all(known()[name].sampled for name in LEAVES)


def test_every_leaf_of_patients_and_of_what_is_around_them_has_an_instance():
    filled = implemented()
    assert set(leaves()[: leaves().index("noise")]) <= set(filled)
    assert set(filled["medical device"]) >= {
        "pacemaker", "ecg_electrodes", "chest_drain", "port", "surgical_clips", "necklace",
    }  # fmt: skip
    assert set(filled["annotation"]) >= {"arrow", "ruler", "text_line", "burnt_in_date", "crop_border"}


def test_no_confounder_is_called_as_a_setting_or_a_section_is():
    # A profile's key could mean either: `view: AP` is a setting, `projection: {...}` a section.
    assert not set(known()) & {*Settings.model_fields, *SECTIONS}


def test_defaults_are_those_of_published_tables():
    assert make("projection").label == "projection: view AP against PA"
    assert make("insurance").label == "insurance: insurance Medicaid against Private"
    assert make("comorbidity", attribute="Cardiomegaly").label == "comorbidity: Cardiomegaly 1 against 0"
    assert make("age_band", value="60-120", other="0-40").label == "age_band: age_band 60-120 against 0-40"
    assert (
        make("site", attribute="scanner", value="A", other="B", name="scanner").label == "scanner: scanner A against B"
    )


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("age_band", "value(.|\\n)*other"),
        ("ethnicity", "value(.|\\n)*other"),
        ("site", "value(.|\\n)*other"),
        ("comorbidity", "attribute"),
    ],
)
def test_what_only_the_table_knows_has_to_be_given(name, missing):
    with pytest.raises(StudyError, match=missing):
        make(name)
