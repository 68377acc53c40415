"""Ten kills at random moments; `kills.py` makes more."""

import kills


def test_a_study_that_is_killed_at_random_moments_ends_with_the_same_numbers(tmp_path):
    outcome = kills.kill(10, 7, tmp_path)
    assert outcome.wrong == []
    assert len(outcome.hit) == 10 and outcome.studies >= 2
