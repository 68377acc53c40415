"""Values that pydantic checks when they are made: one base for settings, parameters and options.

Its complaints become one StudyError: every wrong value at once, and the nearest name for one that is unknown.
"""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from sourcematters.errors import StudyError


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
        message = found["msg"].removeprefix("Value error, ").removeprefix("Input ")
        if found["type"] == "extra_forbidden":
            message = unknown("setting", name, known)
        elif name:
            message = f"{name} = {found['input']!r}: {message}."
        lines.append(message)
    return f"{what}: " + "\n  ".join(lines)


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
    return f"unknown {what} `{name}`.{nearest(name, known)} Known: {', '.join(known) or 'none'}."


def nearest(name: str, known: Iterable[str]) -> str:
    """A question with the one of `known` that is nearest to `name`, or that begins as it does; "" if none is."""
    plain = {one.casefold(): one for one in known if one}
    name = name.casefold()
    near = difflib.get_close_matches(name, plain, n=1, cutoff=0.5)
    near += [one for one in plain if name and (name.startswith(one) or one.startswith(name))]
    return f" Did you mean {plain[near[0]]}?" if near else ""
