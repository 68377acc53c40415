"""Bars of worker processes, which only their parent can show."""

import time

import pytest

from sourcematters import processes
from sourcematters.processes import over_processes, progress


def step_by_step(task):
    with progress(range(4), desc=f"task {task}", unit="step", mininterval=0) as bar:
        for number in bar:
            bar.set_postfix_str(f"loss {number}")
            time.sleep(0.3)
    for _ in progress(range(2), desc="nobody asked for", disable=True):
        pass
    return task


def in_silence(task):
    return step_by_step(task) if task else time.sleep(60)


class Network:
    """A source that takes a while to be made, as a stand-in does."""

    at_hand = False

    def __init__(self, name):
        self.name = name

    def fetch(self, backbone):
        step_by_step(f"{backbone} for {self.name}")

    def __str__(self):
        return self.name


class Bar:
    """What a front end would show of a bar."""

    every = []

    def __init__(self, iterable=None, **options):
        self.iterable, self.options, self.seen, self.open = iterable, options, [], True
        self.n = options.get("initial", 0)
        self.every.append(self)

    def __iter__(self):
        for each in self.iterable:
            self.n += 1
            yield each

    def set_postfix_str(self, text):
        self.seen.append((self.n, text))

    def close(self):
        self.open = False

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()


@pytest.fixture(autouse=True)
def bars(monkeypatch):
    monkeypatch.delenv("SOURCEMATTERS_HEADLESS", raising=False)
    monkeypatch.setattr(processes, "widget_bar", Bar)
    monkeypatch.setattr(Bar, "every", [])
    monkeypatch.setattr(processes, "LOOKS", 0.1)
    return Bar.every


def test_each_worker_has_its_bar_in_the_parent_while_it_works(bars):
    assert sorted(task for task, _ in over_processes(step_by_step, [1, 2, 3], 2)) == [1, 2, 3]
    assert sorted(bar.options["desc"] for bar in bars) == ["task 1", "task 2", "task 3"]
    for bar in bars:
        assert (bar.options["total"], bar.options["unit"]) == (4, "step")
        steps = [n for n, _ in bar.seen]
        assert steps == sorted(steps) and len(set(steps)) >= 2 and set(steps) <= set(range(5)), "it moves"
        assert any(text.startswith("loss ") for _, text in bar.seen)
        assert not bar.open and bar.total == bar.n, "and goes when its work is done, for it counts as full"


def test_a_headless_parent_shows_none_of_them(bars, monkeypatch, capfd):
    monkeypatch.setenv("SOURCEMATTERS_HEADLESS", "1")
    assert len(list(over_processes(step_by_step, [1, 2], 2))) == 2
    assert bars == [] and "task" not in capfd.readouterr().err


def test_whoever_stops_early_leaves_no_bar(bars):
    results = over_processes(in_silence, [0, 1, 2], 2)
    next(results)
    results.close()
    assert bars and not any(bar.open for bar in bars)


def test_alone_a_bar_is_the_processes_own(bars):
    assert list(over_processes(step_by_step, [1], 2)) == [(1, 1)]
    assert [bar.options["desc"] for bar in bars] == ["task 1", "nobody asked for"]


def test_sources_that_are_made_at_once_have_their_bars(bars):
    from sourcematters.runs import grids  # workers import this module, and nothing of that

    grids._fetch([Network("b"), Network("a")], "net", workers=2)
    assert {bar.options["desc"] for bar in bars} == {"sources", "task net for a", "task net for b"}
    (all_of_them,) = (bar for bar in bars if bar.options["desc"] == "sources")
    assert all_of_them.n == all_of_them.options["total"] == 2
