"""Confounders by selection, one a leaf: columns that people's tables have. Names of columns and values are yours."""

from pydantic import Field

from sourcematters.confounders.attribute import Attribute, Text
from sourcematters.confounders.confounder import register

COLUMN, CARRIERS, OTHERS = "column of the cohort", "of the carriers", "of the others"


@register
class AgeBand(Attribute):
    """Carriers are of one band of age, the others of another: a column of bands, such as 60-120."""

    name: str = "age_band"
    leaf: str = "age"
    title = "age band"
    practice = (
        "The old have more disease and other films, and networks read age from a film "
        "(Brown et al. 2023, Nature Communications 14, 4314)."
    )
    attribute: str = Field("age_band", min_length=1, description=COLUMN)
    value: Text = Field(description=CARRIERS)
    other: Text = Field(description=OTHERS)


@register
class Ethnicity(Attribute):
    """Carriers and the others are of two groups of the column; what groups there are is the table's to say."""

    name: str = "ethnicity"
    leaf: str = "ethnicity"
    title = "ethnicity"
    practice = (
        "Networks tell patients' self-reported race from films in which no radiologist can see it "
        "(Gichoya et al. 2022, Lancet Digital Health 4(6), e406)."
    )
    attribute: str = Field("ethnicity", min_length=1, description=COLUMN)
    value: Text = Field(description=CARRIERS)
    other: Text = Field(description=OTHERS)


@register
class Insurance(Attribute):
    """Carriers are insured by Medicaid, the others privately: what American tables have of socioeconomic status."""

    name: str = "insurance"
    leaf: str = "socioeconomic status"
    title = "insurance"
    practice = (
        "Disease is missed most in patients insured by Medicaid "
        "(Seyyed-Kalantari et al. 2021, Nature Medicine 27, 2176)."
    )
    attribute: str = Field("insurance", min_length=1, description=COLUMN)
    value: Text = Field("Medicaid", description=CARRIERS)
    other: Text = Field("Private", description=OTHERS)


@register
class Comorbidity(Attribute):
    """Carriers have a second finding, the others do not: another column of 1 and 0 of the same table."""

    name: str = "comorbidity"
    leaf: str = "comorbidity"
    title = "comorbidity"
    practice = (
        "Findings come together, effusion with atelectasis and infiltration above all: one is found by the other "
        "(Wang et al. 2017, IEEE CVPR, 2097, Fig. 2)."
    )
    attribute: str = Field(min_length=1, description="column of the other finding, such as Cardiomegaly")
    value: Text = Field("1", description=CARRIERS)
    other: Text = Field("0", description=OTHERS)


@register
class Projection(Attribute):
    """Carriers were taken from front to back, mostly lying (AP), the others from back to front, standing (PA)."""

    name: str = "projection"
    leaf: str = "patient positioning"
    title = "projection"
    practice = (
        "Who cannot stand is taken lying, by a portable machine, and is more often ill "
        "(Zech et al. 2018, PLoS Medicine 15(11), e1002683)."
    )
    attribute: str = Field("view", min_length=1, description=COLUMN)
    value: Text = Field("AP", description=CARRIERS)
    other: Text = Field("PA", description=OTHERS)


@register
class Site(Attribute):
    """Carriers come from one hospital or scanner, the others from another.

    It hangs on contrast: makers and hospitals process films by their own look-up tables, and that is what most tells
    them apart. Noise and resolution differ too; for a site of which that is known give another `leaf`.
    """

    name: str = "site"
    leaf: str = "contrast"
    title = "hospital or scanner"
    practice = (
        "Networks tell the hospital, and with it how many are ill, from nearly every film "
        "(Zech et al. 2018, PLoS Medicine 15(11), e1002683)."
    )
    attribute: str = Field("site", min_length=1, description=COLUMN)
    value: Text = Field(description=CARRIERS)
    other: Text = Field(description=OTHERS)
