"""Ladders: the same confounder weaker and stronger, to see how an effect goes with strength."""

from contextlib import suppress

from sourcematters.confounders.confounder import Confounder
from sourcematters.errors import StudyError

RUNGS = 2  # at most, on either side


def ladder(confounder: Confounder) -> list[Confounder]:
    """The confounder between weaker and stronger ones, weakest first: up to 5, and it alone if none is known.

    `stronger()` says which parameters make it stronger, and by what ratio; the weaker ones have them divided by it.
    What a confounder refuses is left out.
    """
    up, down = [confounder], [confounder]
    for _ in range(RUNGS):
        with suppress(StudyError):
            if further := up[-1].stronger():
                up.append(further)
        if weaker := _weaker(down[-1]):
            down.append(weaker)
    unlike = dict.fromkeys([*down[:0:-1], *up])  # a rung that rounding repeats stands once
    return list(unlike)


def _weaker(confounder: Confounder) -> Confounder | None:
    """As far from it as `stronger()` is, the other way, on a scale of ratios; None if that is not known."""
    changes = {}
    with suppress(StudyError, TypeError, ZeroDivisionError):  # text and zero have no ratio
        for name, then in dict(confounder.stronger() or {}).items():
            if (now := getattr(confounder, name)) != then:
                back = now / (then / now)
                changes[name] = round(back) if type(confounder).model_fields[name].annotation is int else back
        return confounder.replaced(**changes) if changes else None
    return None
