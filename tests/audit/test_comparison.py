"""Comparing sources within a time: what is timed, what is refused, and where the steps end, by a clock of our own."""

import types

import pytest
import tiny_audit
from tiny_runs import seem_done as seem_sealed

from sourcematters.audit import comparison
from sourcematters.errors import StudyError
from sourcematters.files import write_json
from sourcematters.processes import cores
from sourcematters.runs import grids
from sourcematters.study.study import Study


def seem_done(folder, seconds):
    """Write what a run folder holds when it is done, and how long that took."""
    seem_sealed(folder)
    write_json(folder / "env.json", {"seconds": seconds})


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny_audit.images(tmp_path_factory.mktemp("images"))


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until fine-tunings are made: each is said to take `said` s, and takes `takes`."""
    clock = types.SimpleNamespace(now=0.0, said=100, takes=100, steps=[])
    monkeypatch.setattr(comparison, "time", types.SimpleNamespace(monotonic=lambda: clock.now))

    def make(specs, workspace):
        for folder in {workspace.run(spec.fit) for spec in specs}:
            if not (folder / "done").exists():
                seem_done(folder, clock.said)
                clock.now += clock.takes

    def run(study, *names, save_as):
        make([spec for name in names for spec in study.specs(name)], study.workspace)
        clock.steps.append((study.settings.folds, study.settings.p_art, save_as))
        return len(clock.steps)

    monkeypatch.setattr(grids, "run", lambda specs, workspace, **how: make(specs, workspace))
    monkeypatch.setattr(Study, "run", run)
    return clock


@pytest.fixture
def ask(tmp_path, data):
    """A study of one source; it fine-tunes 4, 6, 10, 15, 25 and 50 networks in its steps."""
    return lambda **changes: tiny_audit.study(tmp_path, data, epochs=1, smallest_test=4, **changes)


def test_one_run_is_made_and_timed(ask, clock, capsys):
    steps = comparison.planned(ask(), ["tag"])
    said = capsys.readouterr().out
    assert "One run is made and timed." in said and clock.now == 100
    assert "A fine-tuning takes 100 s, 1 at once; the test has 12 patients with label 1 and 12 with label 0." in said
    assert [step.fits for step in steps] == [4, 6, 10, 15, 25, 50]
    assert [step.seconds for step in steps] == [400, 600, 1000, 1500, 2500, 5000]


def test_what_is_done_is_timed_by_what_its_folder_says(ask, clock, capsys):
    study = ask()
    specs = comparison._specs(comparison._of_step(study, (2, (0.0, 1.0))), ["tag"])
    for spec, seconds in zip(specs, (50, 250, 60), strict=False):
        seem_done(study.workspace.run(spec.fit), seconds)
    steps = comparison.planned(study, ["tag"])
    assert "A fine-tuning takes 120 s" in capsys.readouterr().out and clock.now == 0
    assert steps[0].seconds == 4 * 120


def test_a_run_that_does_not_tell_its_time_is_named(ask, clock):
    study = ask()
    specs = comparison._specs(comparison._of_step(study, (2, (0.0, 1.0))), ["tag"])
    for spec in specs:
        seem_done(study.workspace.run(spec.fit), 1)
        (study.workspace.run(spec.fit) / "env.json").unlink()
    with pytest.raises(StudyError, match="env.json does not tell what the run took. Delete the folder."):
        comparison.planned(study, ["tag"])


def test_as_many_at_once_as_the_machine_has_cores(ask, clock):
    steps = comparison.planned(ask(workers=0), ["tag"])
    assert steps[1].seconds == -(-6 // cores()) * 100


def test_a_budget_that_is_too_small_is_refused(ask, clock):
    with pytest.raises(StudyError) as caught:
        comparison.run(ask(budget="5 min"), ["tag"])
    assert str(caught.value) == (
        "budget 5 min: the smallest comparison, 4 fine-tunings, takes about 7 min. Give it that, or fewer sources, "
        "confounders or epochs."
    )
    assert clock.steps == []


def test_the_proposal_is_the_largest_that_fits(ask, clock):
    table, step = comparison.proposed(ask(budget="1000 s"), ["tag"])
    assert (step.folds, step.p_art, step.fits) == (5, (0, 1), 10)
    assert table["fits"].tolist() == [True, True, True, False, False, False]


ENDPOINTS, NAME = (0, 1), comparison.NAME


def test_steps_go_on_until_the_proposal_is_used_up(ask, clock, capsys):
    assert comparison.run(ask(budget="1000 s"), ["tag"]) == 3
    assert clock.steps == [(folds, ENDPOINTS, NAME) for folds in (2, 3, 5)] and clock.now == 1000
    said = capsys.readouterr().out
    assert "2 folds, strengths 0, 1: done after 6.7 min" in said and "5 folds, strengths 0, 1: done after 16.7" in said


def test_strengths_between_come_last(ask, clock):
    assert comparison.run(ask(budget="1 h"), ["tag"]) == 5
    assert clock.steps[3:] == [(5, (0, 0.5, 1), NAME), (5, (0, 0.2, 0.5, 0.8, 1), NAME)]


def test_steps_end_before_the_time_does_where_runs_take_longer_than_was_said(ask, clock):
    clock.takes = 150
    assert comparison.run(ask(budget="1000 s"), ["tag"]) == 2
    assert clock.now == 6 * 150


def test_the_first_step_is_always_made(ask, clock):
    clock.takes = 10_000
    assert comparison.run(ask(budget="1000 s"), ["tag"]) == 1
    assert clock.steps == [(2, ENDPOINTS, NAME)]


def test_what_is_done_is_not_made_again(ask, clock):
    comparison.run(ask(budget="1000 s"), ["tag"])
    before = clock.now
    assert comparison.run(ask(budget="1000 s"), ["tag"]) == 6 and clock.now == before
