"""Values that pydantic checks when they are made: one base for settings, parameters and options.

Its complaints become one StudyError: every wrong value at once, and the nearest name for one that is unknown.
"""

import difflib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from sourcematters.errors import StudyError

LINE = 160  # letters of a value that a message shows


def _printed(name: str) -> str:
    if not name.isprintable() or name != name.strip():
        raise ValueError("should be printable letters, without line breaks, and no blank at its ends")
    return name


Printed = Annotated[str, Field(max_length=80), AfterValidator(_printed)]
"""What people call a task or a source: it stands in names of folders, in tables, on figures and pages."""


class Checked(BaseModel):
    """A frozen, hashable set of values; what does not fit raises StudyError when it is made.

    Numbers may come as text (YAML reads 2e7 as text), but true and false are no numbers, and NaN is none either.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise StudyError(complaint(error, type(self).__name__, type(self).model_fields)) from None

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_value_is_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool) and cls.model_fields[info.field_name or ""].annotation in (int, float):
            raise ValueError("a number is wanted, not true or false")
        return value

    def replaced(self, **changes: Any) -> Self:
        """The same values but for `changes`, checked again."""
        return type(self)(**{**dict(self), **changes})


def complaint(error: ValidationError, what: str, known: Iterable[str]) -> str:
    """All that is wrong, a line each, as in `size = 4: should be greater than or equal to 16`."""
    lines = []
    for found in error.errors():
        name = ".".join(map(str, found["loc"]))
        message = found["msg"].removeprefix("Value error, ").removeprefix("Input ").partition(", unable to")[0]
        if found["type"] == "tuple_type":
            message = f"should be a list, as in [{found['input']}]" if isinstance(found["input"], str) else "no list"
        elif found["type"] == "too_short":
            if found["input"]:  # what is in it was wrong, and is said by itself
                continue
            message = "should have at least one value"
        if found["type"] == "extra_forbidden":
            message = unknown("setting", name, known)
        elif name:
            message = f"{name} = {cut(repr(found['input']))}: {message}."
        lines.append(message)
    return f"{what}: " + "\n  ".join(lines)


def cut(text: str) -> str:
    """`text` on one line of at most `LINE` letters."""
    line = " ".join(text.split())
    return line if len(line) <= LINE else f"{line[: LINE - 20]}... ({len(line):,} letters)"


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """What lies within nested mappings, each value by its dotted name.

    >>> flat({"size": 64, "tag": {"height": 32}})
    {'size': 64, 'tag.height': 32}
    """
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """A sentence about a name that is none of `known`: the nearest one first, then all of them."""
    known = list(known)
    return f"unknown {what} `{cut(name)}`.{nearest(name, known)} Known: {', '.join(known) or 'none'}."


def nearest(name: str, known: Iterable[str]) -> str:
    """A question with the one of `known` that is nearest to `name`, or that begins as it does; "" if none is."""
    plain = {one.casefold(): one for one in known if one}
    name = name.casefold()
    if len(name) > LINE:
        return ""
    near = difflib.get_close_matches(name, plain, n=1, cutoff=0.5)
    near += [one for one in plain if name and (name.startswith(one) or one.startswith(name))]
    return f" Did you mean {plain[near[0]]}?" if near else ""
