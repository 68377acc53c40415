"""Every kind of damage to a study's files ends in the same numbers, or in a sentence that names the file."""

import damage
import pytest


@pytest.mark.parametrize("kind", damage.KINDS, ids=[kind.name for kind in damage.KINDS])
def test_damage_never_passes_for_a_result(finished, kind):
    found, words = damage.outcome(*finished, kind)
    assert found in kind.outcomes.split(), words


def test_what_is_judged_by_would_see_a_wrong_number(finished):
    clone, kept, numbers = finished
    clone.restore(kept / "finished")
    assert clone.numbers() == numbers
    tables = [name for name in numbers if name.startswith("demo/tables")]
    runs = [name for name in numbers if name.endswith("predictions.csv")]
    assert len(tables) >= 7 and len(runs) == 20 and sum(".npy" in name for name in numbers) == 2
    damage.digits(clone.own / "tables" / "tag.csv")
    different = [name for name in numbers if clone.numbers()[name] != numbers[name]]
    assert different == ["demo/tables/tag.csv"]
    clone.restore(kept / "finished")
    assert clone.numbers() == numbers
