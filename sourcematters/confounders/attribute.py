"""Confounders by selection: a column of the cohort decides which images are used, and no pixel is touched."""

from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from sourcematters.confounders.confounder import Confounder, register

Text = Annotated[str, BeforeValidator(str), Field(min_length=1)]  # values are compared as text: 1 is "1"


@register
class Attribute(Confounder):
    """Carriers have `value` in the cohort's column `attribute`, the others have `other`; it is named after its leaf."""

    name: str = "attribute"
    title = "sampled attribute"
    practice = (
        "Age, sex, ethnicity and insurance go with what a patient has, and with what a network misses "
        "(Seyyed-Kalantari et al. 2021, Nature Medicine 27, 2176)."
    )
    sampled = True
    attribute: str = Field(min_length=1, description="column of the cohort")
    value: Text = Field(description="of the carriers")
    other: Text = Field(description="of the others")

    @model_validator(mode="before")
    @classmethod
    def _is_named_after_its_leaf(cls, values: dict[str, Any]) -> dict[str, Any]:
        return {"name": str(values["leaf"]).replace(" ", "_"), **values} if "leaf" in values else values

    @model_validator(mode="after")
    def _has_two_values(self) -> Self:
        if self.value == self.other:
            raise ValueError(f"value and other are both {self.value!r}: give two different values.")
        return self

    @property
    def label(self) -> str:
        """E.g. `gender: sex F against M`."""
        return f"{self.name}: {self.attribute} {self.value} against {self.other}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return self.model_dump()


@register
class Gender(Attribute):
    """The paper's sampled confounder: carriers are female, the others male."""

    name: str = "gender"
    leaf: str = "gender"
    title = "gender"
    practice = (
        "Networks trained on few women find disease in women less well (Larrazabal et al. 2020, PNAS 117(23), 12592)."
    )
    attribute: str = Field("sex", min_length=1, description="column of the cohort")
    value: Text = Field("F", description="of the carriers")
    other: Text = Field("M", description="of the others")
