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


def test_check_names_all_that_is_damaged_and_nothing_else(finished):
    clone, kept, numbers = finished
    clone.restore(kept / "finished")
    sound = clone.call("check", str(clone.results))
    assert sound.code == 0, sound.text
    damage.lose(clone, damage.AT_ZERO)  # weights are compared when a run needs them
    damaged = [
        damage.changed(damage.run(clone) / "predictions.csv", damage.flip),
        damage.changed(damage.run(clone, damage.NONE) / "weights.safetensors", damage.bytes_at(0.5)),
        damage.changed(next(clone.results.glob("bank/draw_tag*.npy")), damage.bytes_at(0.9)),
        damage.changed(clone.own / "plans" / "gender.csv", damage.cut),
        damage.changed(next(clone.results.glob("cohorts/*.csv")), damage.cut),
        damage.changed(clone.results / "bank" / "files.csv", damage.empty),
    ]
    ended = clone.call("check", str(clone.results))
    assert ended.code == 1 and damage.raw(clone, ended) == ""
    assert [path for path in damaged if str(path) not in ended.text] == []
    assert damage.run(clone, "tag-p100-random-test_resnet-f1").name not in ended.text
    mended = clone.run()
    assert mended.code == 0, mended.text
    assert clone.numbers() == numbers
