"""Where the sliders of the explorer stop, made from what a confounder declares of its parameters."""

import math
from typing import Any, Literal, get_args, get_origin

import numpy as np
from numpy.typing import NDArray

from sourcematters.confounders import Confounder
from sourcematters.errors import StudyError

FAR = 10  # times the value: a bound further away than this, or none, is no end for a slider
FURTHER = 5  # times the value, where the slider of a length or place then ends
STRONGER = 4  # times `stronger()` either way, where that of a strength does
RATIO = 2.0  # of `stronger()`, where nothing is known of it
STEPS = 50  # about so many stops


def stops(confounder: Confounder, name: str) -> list[Any]:
    """The values that a slider of the parameter `name` offers, ascending, its own among them.

    Numbers within what the field declares: all whole numbers or round steps between bounds that are near, and equal
    ratios of what must be above zero and may be anything. Choices and truth values as they are; [] for free text.
    """
    field, now = type(confounder).model_fields[name], getattr(confounder, name)
    if isinstance(now, bool):
        return [False, True]
    if get_origin(field.annotation) is Literal:
        return list(get_args(field.annotation))
    if not isinstance(now, int | float):
        return []
    declared: dict[str, float] = {}
    for each in field.metadata:
        declared |= {key: getattr(each, key) for key in ("gt", "ge", "lt", "le") if hasattr(each, key)}
    low, high = declared.get("ge", declared.get("gt")), declared.get("le", declared.get("lt"))
    size = abs(now) or 1
    near = high if high is not None and (high < FAR * size or (low is not None and low < 0)) else None
    if near is None and now > 0 and low is not None and (low > 0 or "gt" in declared):
        reach = _ratio(confounder, name) ** STRONGER
        found: NDArray[Any] = np.geomspace(max(low, now / reach), min(high or math.inf, now * reach), STEPS + 1)
    else:
        first, last = (-FURTHER * size if low is None else low), (FURTHER * size if near is None else near)
        step = _round_step((last - first) / STEPS)
        found = step * np.arange(math.ceil(first / step), math.floor(last / step) + 1)
    kept = {round(value) if field.annotation is int else float(f"{value:.3g}") for value in found.tolist()}
    return sorted(value for value in {*kept, now} if _fits(declared, value))


def _fits(declared: dict[str, float], value: float) -> bool:
    return (
        declared.get("gt", -math.inf) < value < declared.get("lt", math.inf)
        and declared.get("ge", -math.inf) <= value <= declared.get("le", math.inf)
    )  # fmt: skip


def _round_step(step: float) -> float:
    """The next 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(n * power for n in (1, 2, 5, 10) if n * power >= step * (1 - 1e-9))


def _ratio(confounder: Confounder, name: str) -> float:
    """By what ratio `stronger()` changes a parameter, above 1."""
    try:
        then = getattr(confounder.stronger() or confounder, name) / getattr(confounder, name)
    except StudyError:
        then = 1
    return max(then, 1 / then) if then > 0 and then != 1 else RATIO
