"""Kills a study at random moments, and starts it again, until it is done: its numbers must be what they always are.

    python tests/harness/kills.py --kills 200 --seed 1            # what was hit, and how many studies differ
    python tests/harness/kills.py --kills 20 --seed 1 --kernels   # with notebooks in kernels, as people run them

A kill is a signal (KILL, TERM, INT) to the study's process or to its whole group, with one worker or two, at a moment
drawn evenly from the time that what is left of the study takes: banks, runs, tables and figures. Each study is killed
five times and then left alone: it has to end by itself. A study that ended before its kill came counts as no kill.
All but the clock's part in it is drawn from the seed.
"""

import argparse
import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

import studies
from studies import Clone

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
STAGES = ("before a bank is whole", "between the first and the last run", "after the last run")
RUNS = 10
A_STUDY = 5


@dataclass
class Outcome:
    """What the kills hit, and what came of the studies."""

    hit: list[tuple[str, str, str, int]] = field(default_factory=list)  # stage, signal, to whom, workers
    early: int = 0  # studies that ended before their kill came
    studies: int = 0
    wrong: list[str] = field(default_factory=list)  # what differed, or did not end
    left: int = 0  # files of interrupted writing that are still there at the end


def kill(kills: int, seed: int, folder: Path, kernels: bool = False) -> Outcome:
    """Make studies in `folder` until `kills` have hit them."""
    clone, untouched, outcome = Clone.make(folder / "clone"), folder / "untouched", Outcome()
    clone.keep(untouched)
    seconds, numbers = dict[int, float](), dict[int, dict[str, bytes]]()
    for workers in (1, 2):  # how long it takes undisturbed, and what comes of it
        clone.restore(untouched)
        began = time.monotonic()
        process = begin(clone, workers, kernels)
        process.join()
        assert process.exitcode == 0
        seconds[workers], numbers[workers] = time.monotonic() - began, clone.numbers()
    while len(outcome.hit) < kills:
        clone.restore(untouched)
        draw = random.Random(f"{seed} {outcome.studies}")
        workers = draw.choice((1, 2))
        process = None
        for _ in range(min(A_STUDY, kills - len(outcome.hit))):
            sent, to_group, share = draw.choice(SIGNALS), draw.random() < 0.5, draw.random()
            left = max(0.15, 1 - len(list(clone.results.glob("runs/*/done"))) / RUNS)
            process = begin(clone, workers, kernels)
            process.join(share * left * seconds[workers])
            if process.exitcode is not None:
                outcome.early += 1
                break
            hit = STAGES[stage(clone)]
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, sent) if to_group else os.kill(process.pid, sent)
            process.join(30)
            if process.exitcode is None:
                outcome.wrong.append(f"{hit}: still running 30 s after {sent.name}")
                os.killpg(process.pid, signal.SIGKILL)
                process.join()
            outcome.hit.append((hit, sent.name, "group" if to_group else "process", workers))
            process = None
        if process is None:
            process = begin(clone, workers, kernels)
            process.join(60 + 10 * seconds[workers])
        outcome.studies += 1
        found = clone.numbers()
        different = [
            name for name in found.keys() | numbers[workers].keys() if found.get(name) != numbers[workers].get(name)
        ]
        if process.exitcode != 0 or different:
            outcome.wrong.append(f"study {outcome.studies}: exit code {process.exitcode}, {sorted(different)[:3]}")
        outcome.left += len(left_over(clone))
        print(f"{len(outcome.hit)} kills, {len(outcome.wrong)} wrong", file=sys.stderr, flush=True)
    return outcome


def begin(clone: Clone, workers: int, kernels: bool) -> BaseProcess:
    """Start the whole study, and wait until it leads a process group of its own."""
    profile = str(clone.root / "notebooks" / "profiles" / "demo.yaml")
    arguments = ("run", "--profile", profile, "--results", str(clone.results), "-p", "sources", "[random]")
    arguments += ("-p", "workers", str(workers))
    process = clone.start(*arguments, patches=[studies.checkpoints_after_each_epoch], kernels=kernels)
    while process.exitcode is None and os.getpgid(process.pid) != process.pid:
        time.sleep(0.001)
    return process


def stage(clone: Clone) -> int:
    """Which of `STAGES` a study is in."""
    runs = len(list(clone.results.glob("runs/*/done")))
    return 2 if runs == RUNS else 1 if list(clone.results.glob("bank/*.npy")) else 0


def left_over(clone: Clone) -> list[Path]:
    """What interrupted writing left and nobody took away."""
    hidden = (p for p in clone.results.rglob(".*") if p.name not in (".locks", ".checkpoints", ".executed"))
    return [*hidden, *clone.results.glob("bank/*.partial"), *clone.results.glob("bank/*.done")]


def main() -> int:
    """Kill, and print what came of it; 1 if a study differs or does not end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kernels", action="store_true", help="execute notebooks in kernels")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcome = kill(options.kills, options.seed, Path(folder), options.kernels)
    print(f"{len(outcome.hit)} kills of {outcome.studies} studies ({outcome.early} ended before their kill)")
    for place, names in enumerate(("stage", "signal", "sent to the", "workers")):
        counts = Counter(str(hit[place]) for hit in outcome.hit)
        print(f"  {names}: " + ", ".join(f"{name} {count}" for name, count in sorted(counts.items())))
    print(f"{outcome.left} files of interrupted writing left over")
    print(f"{len(outcome.wrong)} studies with different numbers, or without an end", *outcome.wrong, sep="\n  ")
    return 1 if outcome.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
