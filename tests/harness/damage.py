"""What may become of a study's files, and what has to come of it.

    python tests/harness/damage.py [bank]    # a table of every kind (with bank in its name): what comes, and the words

Each kind damages one file of a finished study, or of one that was stopped; then a command uses it. What must come:

    remade      the same numbers as before, byte for byte, and a sentence that names the file
    refused     an end with a sentence that names the file, and the same numbers once it is put back
    harmless    the same numbers as before
    noticed     other runs, since an input is another one
    told        a command that only reads says what it sees

Two may be given where both are right. Whatever comes, no exception but a StudyError is seen by anyone.
"""

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import studies
from PIL import Image
from studies import Clone, Ended

NUMBER = re.compile(rb"0\.\d{6,}")
RAW = re.compile(r"^Traceback|cell \[\d+\]: \w*(Error|Exception|Interrupt|Warning): ", re.M)
BAR = re.compile(r"^.*?\d+%\|.*?(\]|$)|^.*?\d+/\d+ \[.*?(\]|$)")
TAG, FIGURES, ALL = ("run", "--only", "20"), ("run", "--only", "30"), ("run",)
STATUS = ("status",)


@dataclass(frozen=True)
class Kind:
    """One kind of damage: `damage` does it and returns the file; `outcomes` are right after `command`."""

    name: str
    damage: Callable[[Clone], Path]
    outcomes: str
    command: tuple[str, ...] = TAG
    state: str = "finished"
    words: str = ""  # what the sentence must hold; empty: the file's name, of a run's file the run's


# Files of the study


def run(clone: Clone, what: str = "tag-p100-random-test_resnet-f0") -> Path:
    """The folder of a run."""
    (found,) = (path for path in clone.results.glob(f"runs/*-{what}-*") if path.suffix != ".failed")
    return found


def lose(clone: Clone, what: str = "tag-p100-random-test_resnet-f0") -> None:
    """A run is not there, so that the next call needs what it is made from."""
    shutil.rmtree(run(clone, what))


NONE, AT_ZERO = "none-p000-random-test_resnet-f0", "tag-p000-random-test_resnet-f0"


def of_run(name: str, change: Callable[[Path], object]) -> Callable[[Clone], Path]:
    """Change a file of a run."""
    return lambda clone: changed(run(clone) / name, change)


def of_weights(change: Callable[[Path], object]) -> Callable[[Clone], Path]:
    """Change the kept network that a run at strength 0 scores, which is not there."""

    def damage(clone: Clone) -> Path:
        lose(clone, AT_ZERO)
        return changed(run(clone, NONE) / "weights.safetensors", change)

    return damage


def of_bank(change: Callable[[Path], object], name: str = "draw_tag") -> Callable[[Clone], Path]:
    """Change a bank that a run needs, which is not there."""

    def damage(clone: Clone) -> Path:
        lose(clone)
        return changed(next(clone.results.glob(f"bank/{name}*.npy")), change)

    return damage


def at(pattern: str, change: Callable[[Path], object]) -> Callable[[Clone], Path]:
    """Change the first file of that name in the clone."""
    return lambda clone: changed(sorted(clone.root.glob(pattern))[0], change)


def at_source(suffix: str, change: Callable[[Path], object], losing: bool = True) -> Callable[[Clone], Path]:
    """Change a file of a stand-in source, of which a run is needed."""

    def damage(clone: Clone) -> Path:
        if losing:
            lose(clone, "tag-p100-natural_standin-test_resnet-f0")
        return changed(next(clone.root.glob(f"sourcematters/demo/weights/natural-*.{suffix}")), change)

    return damage


def changed(path: Path, change: Callable[[Path], object]) -> Path:
    """`path`, after `change`."""
    change(path)
    return path


# What becomes of a file


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def delete(path: Path) -> None:
    path.unlink()


def zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def into(text: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(text)


def digits(path: Path) -> None:
    """The last long number in it is another one."""
    content = path.read_bytes()
    last = list(NUMBER.finditer(content))[-1]
    path.write_bytes(content[: last.start()] + b"0.123456" + content[last.start() + 8 :])


def unseen(path: Path) -> None:
    """The same, at the same size and time stamp."""
    stat = path.stat()
    digits(path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def bytes_at(*places: float) -> Callable[[Path], object]:
    """Bytes at these shares of the file are others."""

    def change(path: Path) -> None:
        content = bytearray(path.read_bytes())
        for place in places:
            content[int(place * (len(content) - 1))] ^= 0b01010101
        path.write_bytes(content)

    return change


def lines(edit: Callable[[list[str]], list[str]]) -> Callable[[Path], object]:
    return lambda path: path.write_text("".join(edit(path.read_text().splitlines(keepends=True))))


def cell(row: int, column: int, value: str) -> Callable[[Path], object]:
    def edit(rows: list[str]) -> list[str]:
        cells = rows[row].rstrip("\n").split(",")
        cells[column] = value(cells[column]) if callable(value) else value
        return [*rows[:row], ",".join(cells) + "\n", *rows[row + 1 :]] if row >= 0 else [*rows[:row], ",".join(cells)]

    return lines(edit)


def others(what: str) -> Callable[[Path], object]:
    """The file of the same name of another run."""
    return lambda path: shutil.copy2(next(path.parents[1].glob(f"*-{what}-*/{path.name}")), path)


def rows_of_bank(change: Callable[[np.ndarray], object]) -> Callable[[Path], object]:
    def damage(path: Path) -> None:
        bank = np.load(path)
        change(bank)
        np.save(path, bank)

    return damage


def noise(bank: np.ndarray) -> None:
    bank[[3, 9, 20, 31, 42, 60]] = np.random.default_rng(0).integers(0, 256, (6, *bank.shape[1:]))


def half_zeros(bank: np.ndarray) -> None:
    bank[len(bank) // 2 :] = 0


def other_bank(path: Path) -> None:
    shutil.copy2(next(path.parent.glob("original-*.npy")), path)


def header(old: bytes, new: bytes) -> Callable[[Path], object]:
    def change(path: Path) -> None:
        content = path.read_bytes()
        assert old in content[:128] and len(old) == len(new)
        path.write_bytes(content.replace(old, new, 1))

    return change


def emptied_folder(clone: Clone) -> Path:
    for path in run(clone).iterdir():
        path.unlink()
    return run(clone)


def file_for_folder(clone: Clone) -> Path:
    folder = run(clone)
    shutil.rmtree(folder)
    folder.write_text("")
    return folder


def folder_of_another(clone: Clone) -> Path:
    folder = run(clone)
    shutil.rmtree(folder)
    shutil.copytree(run(clone, "tag-p100-random-test_resnet-f1"), folder)
    return folder


def no_runs(clone: Clone) -> Path:
    shutil.rmtree(clone.results / "runs")
    return clone.results / "runs"


def runs_is_a_file(clone: Clone) -> Path:
    no_runs(clone).write_text("")
    return clone.results / "runs"


def hidden_folder(clone: Clone) -> Path:
    folder = clone.results / "runs" / f".{run(clone).name}.elsewhere.123"
    lose(clone)
    folder.mkdir()
    (folder / "heartbeat").touch()
    (folder / "predictions.csv").write_text("image_id")
    return folder


def failed_folder(clone: Clone) -> Path:
    folder = Path(f"{run(clone)}.failed")
    lose(clone)
    folder.mkdir()
    (folder / "traceback.txt").write_text("ValueError: of last year")
    return folder


def foreign_file(clone: Clone) -> Path:
    (run(clone) / "notes.txt").write_text("a remark")
    return run(clone)


def lost_and_env(change: Callable[[Path], object]) -> Callable[[Clone], Path]:
    def damage(clone: Clone) -> Path:
        lose(clone, "gender-p100-random-test_resnet-f0")
        return changed(run(clone) / "env.json", change)

    return damage


def image(change: Callable[[Path], object]) -> Callable[[Clone], Path]:
    return lambda clone: changed(clone.root / "images" / "i07-0.png", change)


def replaced_at_the_same_stamp(clone: Clone) -> Path:
    path = clone.root / "images" / "i11-1.png"
    stat = path.stat()
    pixels = np.asarray(Image.open(path))
    for seed in range(100_000):  # noise compresses to about one size: one of these files has it to the byte
        other = np.random.default_rng(seed).permuted(pixels.ravel()).reshape(pixels.shape)
        Image.fromarray(other).save(path)
        if path.stat().st_size == stat.st_size:
            break
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert path.stat().st_size == stat.st_size
    return path


def lock_is_a_folder(name: str) -> Callable[[Clone], Path]:
    def damage(clone: Clone) -> Path:
        path = clone.results / (name or f"runs/.locks/{run(clone).name}.lock")
        lose(clone)
        path.unlink(missing_ok=True)
        path.mkdir()
        return path

    return damage


def locks_left_over(clone: Clone) -> Path:
    lose(clone)
    for path in [*clone.results.glob("runs/.locks/*.lock"), clone.results / "bank" / "bank.lock"]:
        path.write_text("4711\nanother-machine\n")
    return path


def left_beside_a_table(clone: Clone) -> Path:
    (clone.own / "tables" / ".tag.1a2b3c4d.csv").write_text("p_art,")
    return clone.own / "tables" / "tag.csv"


def notebook(name: str, text: str) -> Callable[[Clone], Path]:
    return lambda clone: changed(clone.own / "notebooks" / name, into(text))


def submission(text: str) -> Callable[[Clone], Path]:
    def damage(clone: Clone) -> Path:
        path = clone.results / "slurm" / "tag-1a2b3c4d" / "runs.csv"
        path.parent.mkdir(parents=True)
        path.write_text(text)
        return path

    return damage


def partial_bank(suffix: str, change: Callable[[Path], object]) -> Callable[[Clone], Path]:
    return lambda clone: changed(sorted(clone.results.glob(f"bank/draw_tag*.{suffix}"))[0], change)


def half_of_it_zeros(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:128] + bytes(len(content) - 128))


LABEL, SCORE = 2, 3  # columns of predictions.csv
flip = cell(5, LABEL, lambda label: str(1 - int(label)))
PREDICTIONS = {
    "one score changed": cell(7, SCORE, "0.123456"),
    "a label flipped": flip,
    "its last ten rows gone": lines(lambda rows: rows[:-10]),
    "two rows twice": lines(lambda rows: [*rows, *rows[-2:]]),
    "a score not a number": cell(7, SCORE, "nan"),
    "another run's file": others("tag-p100-random-test_resnet-f1"),
    "cut": cut,
    "empty": empty,
    "zeros": zeros,
    "deleted": delete,
    "not a table": into("<html>\n"),
}
KINDS = [Kind(f"predictions: {name}", of_run("predictions.csv", how), "remade") for name, how in PREDICTIONS.items()]
KINDS += [
    Kind("history: a number changed", of_run("history.csv", digits), "remade"),
    Kind("history: another run's file", of_run("history.csv", others("tag-p100-random-test_resnet-f1")), "remade"),
    Kind("history: deleted", of_run("history.csv", delete), "remade"),
    Kind("metrics: a number changed", of_run("metrics.json", digits), "remade"),
    Kind("metrics: cut", of_run("metrics.json", cut), "remade"),
    Kind("metrics: deleted", of_run("metrics.json", delete), "remade"),
    Kind("spec: another fold", of_run("spec.json", others("tag-p100-random-test_resnet-f1")), "remade"),
    Kind("spec: cut", of_run("spec.json", cut), "remade"),
    Kind("spec: deleted", of_run("spec.json", delete), "remade refused", FIGURES),
    Kind("env: cut", of_run("env.json", cut), "remade harmless"),
    Kind("env: cut, status", lost_and_env(cut), "told", STATUS),
    Kind("env: deleted, status", lost_and_env(delete), "told", STATUS),
    Kind("kept weights: bytes changed", of_weights(bytes_at(0.5, 0.7)), "remade", words=NONE),
    Kind("kept weights: cut", of_weights(cut), "remade", words=NONE),
    Kind("kept weights: empty", of_weights(empty), "remade", words=NONE),
    Kind("kept weights: deleted", of_weights(delete), "remade", words=NONE),
    Kind("kept weights: another fold's", of_weights(others("none-p000-random-test_resnet-f1")), "remade", words=NONE),
    Kind("done: deleted", of_run("done", delete), "remade"),
    Kind("done: emptied", of_run("done", empty), "remade"),
    Kind("done: another run's", of_run("done", others("tag-p100-random-test_resnet-f1")), "remade"),
    Kind("run folder: emptied", emptied_folder, "remade harmless"),
    Kind("run folder: a file in its place", file_for_folder, "remade refused"),
    Kind("run folder: another run's", folder_of_another, "remade"),
    Kind("run folder: a file of somebody's in it", foreign_file, "harmless remade"),
    Kind("runs: all gone", no_runs, "harmless remade", ALL),
    Kind("runs: a file in their place", runs_is_a_file, "refused"),
    Kind("runs: a hidden folder left over", hidden_folder, "harmless"),
    Kind("runs: NAME.failed left over", failed_folder, "harmless"),
    Kind("bank: six images of noise", of_bank(rows_of_bank(noise)), "remade"),
    Kind("bank: six images of noise, without artefact", of_bank(rows_of_bank(noise), "original"), "remade"),
    Kind("bank: half of it zeros", of_bank(rows_of_bank(half_zeros)), "remade"),
    Kind("bank: one byte changed", of_bank(bytes_at(0.9)), "remade"),
    Kind("bank: cut", of_bank(cut), "remade"),
    Kind("bank: empty", of_bank(empty), "remade"),
    Kind("bank: its header changed", of_bank(header(b"'shape'", b"'shape(")), "remade"),
    Kind("bank: its header says other numbers", of_bank(header(b"|u1", b"|i1")), "remade"),
    Kind("bank: its header says fewer images", of_bank(header(b"(64, ", b"(32, ")), "remade"),
    Kind("bank: another bank under its name", of_bank(other_bank), "remade"),
    Kind("bank: deleted", of_bank(delete), "harmless"),
    Kind("half a bank: the partial file cut", partial_bank("partial", cut), "remade harmless", state="half a bank"),
    Kind(
        "half a bank: the partial file zeros",
        partial_bank("partial", half_of_it_zeros),
        "remade harmless",
        state="half a bank",
    ),
    Kind("half a bank: the partial file gone", partial_bank("partial", delete), "harmless", state="half a bank"),
    Kind(
        "half a bank: its images noise", partial_bank("partial", bytes_at(0.05)), "remade harmless", state="half a bank"
    ),
    Kind("half a bank: its account cut", partial_bank("done", cut), "remade harmless", state="half a bank"),
    Kind("half a bank: its account empty", partial_bank("done", empty), "remade harmless", state="half a bank"),
    Kind(
        "half a bank: its account says all",
        partial_bank("done", lambda path: path.write_bytes(bytes([1]) * path.stat().st_size)),
        "remade harmless",
        state="half a bank",
    ),
    Kind("files.csv: empty", at("results/bank/files.csv", empty), "remade harmless"),
    Kind("files.csv: cut", at("results/bank/files.csv", cut), "remade harmless"),
    Kind("files.csv: no table", at("results/bank/files.csv", into("<html>\n")), "remade harmless"),
    Kind("files.csv: one digest changed", at("results/bank/files.csv", cell(9, -1, "ab" * 32)), "remade harmless"),
    Kind("files.csv: deleted", at("results/bank/files.csv", delete), "harmless"),
    Kind("image: replaced at the same size and time stamp", replaced_at_the_same_stamp, "noticed"),
    Kind("image: cut", image(cut), "refused"),
    Kind("image: deleted", image(delete), "refused"),
    Kind(
        "cohort: a label flipped",
        at("results/cohorts/*.csv", cell(9, 3, lambda s: str(1 - int(s)))),
        "remade refused",
        FIGURES,
    ),
    Kind(
        "cohort: three rows gone", at("results/cohorts/*.csv", lines(lambda rows: rows[:-3])), "remade refused", FIGURES
    ),
    Kind("cohort: cut", at("results/cohorts/*.csv", cut), "remade refused", FIGURES),
    Kind("cohort: empty", at("results/cohorts/*.csv", empty), "remade refused", FIGURES),
    Kind("cohort: deleted", at("results/cohorts/*.csv", delete), "remade refused", FIGURES),
    Kind("plan: rows lost", at("results/demo/plans/tag.csv", lines(lambda rows: rows[:-4])), "remade refused", FIGURES),
    Kind("plan: a strength changed", at("results/demo/plans/tag.csv", cell(1, 4, "1.0")), "remade refused", FIGURES),
    Kind("plan: no table", at("results/demo/plans/tag.csv", into("<html>\n")), "remade refused", FIGURES),
    Kind("plan: empty", at("results/demo/plans/tag.csv", empty), "remade refused", FIGURES),
    Kind("plan: cut", at("results/demo/plans/tag.csv", cut), "remade refused", FIGURES),
    Kind("plan: deleted", at("results/demo/plans/tag.csv", delete), "remade refused", FIGURES),
    Kind("plan: no table, all notebooks", at("results/demo/plans/tag.csv", into("<html>\n")), "remade harmless", ALL),
    Kind("plan: cut, all notebooks", at("results/demo/plans/tag.csv", cut), "remade harmless", ALL),
    Kind("plan: no table, status", at("results/demo/plans/tag.csv", into("<html>\n")), "told", STATUS),
    Kind("plan: empty, status", at("results/demo/plans/tag.csv", empty), "told", STATUS),
    Kind("stand-in's weights: bytes changed", at_source("safetensors", bytes_at(0.5, 0.7)), "refused"),
    Kind("stand-in's weights: cut", at_source("safetensors", cut), "refused"),
    Kind("stand-in's weights: empty", at_source("safetensors", empty), "refused"),
    Kind(
        "stand-in's card: deleted", at_source("json", delete, losing=False), "refused remade", ("run", "--only", "10")
    ),
    Kind("stand-in's card: cut", at_source("json", cut, losing=False), "refused remade", ("run", "--only", "10")),
    Kind(
        "stand-in's card: a number changed",
        at_source("json", digits, losing=False),
        "refused remade",
        ("run", "--only", "10"),
    ),
    Kind("checkpoint: empty", at("results/runs/.checkpoints/*.pt", empty), "harmless remade", state="stopped"),
    Kind("checkpoint: cut", at("results/runs/.checkpoints/*.pt", cut), "harmless remade", state="stopped"),
    Kind("checkpoint: zeros", at("results/runs/.checkpoints/*.pt", zeros), "harmless remade", state="stopped"),
]
KINDS += [
    Kind(
        f"checkpoint: a byte changed at {place:.0%}",
        at("results/runs/.checkpoints/*.pt", bytes_at(place)),
        "harmless remade",
        state="stopped",
    )
    for place in (0.02, 0.1, 0.45, 0.8, 0.995)
]
KINDS += [
    Kind("table: a number changed", at("results/demo/tables/tag.csv", digits), "remade harmless", ALL),
    Kind("table: changed, same size and time stamp", at("results/demo/tables/tag.csv", unseen), "remade harmless", ALL),
    Kind("table: empty", at("results/demo/tables/tag.csv", empty), "remade harmless", ALL),
    Kind("table: deleted", at("results/demo/tables/tag.csv", delete), "remade harmless", ALL),
    Kind("table: one left half-written beside it", left_beside_a_table, "harmless remade", ALL),
    Kind(
        "settings.csv: changed", at("results/demo/tables/settings.csv", lines(lambda r: r[:-2])), "remade harmless", ALL
    ),
    Kind("figure's table: same size and time stamp", at("results/demo/figures/*.csv", unseen), "remade harmless", ALL),
    Kind("figure: empty", at("results/demo/figures/*.png", empty), "remade harmless", ALL),
    Kind("figure: deleted", at("results/demo/figures/*.pdf", delete), "remade harmless", ALL),
    Kind("executed notebook: {}", notebook("20_tag.ipynb", "{}"), "remade harmless", ALL),
    Kind("executed notebook: {}, another is executed", notebook("10_prepare.ipynb", "{}"), "harmless told remade"),
    Kind("executed notebook: no JSON", notebook("10_prepare.ipynb", "<html>"), "harmless told remade"),
    Kind("executed notebook: empty", notebook("10_prepare.ipynb", ""), "harmless told remade"),
    Kind("another notebook in the folder: {}", notebook("zz.ipynb", "{}"), "harmless remade", ALL),
    Kind("another notebook in the folder: no JSON", notebook("zz.ipynb", "<html>"), "harmless remade", ALL),
    Kind("notebook's page: deleted", at("results/demo/notebooks/20_tag.html", delete), "harmless", ALL),
    Kind("page: changed", at("results/demo/index.html", into("")), "harmless remade", ALL),
    Kind("page: deleted", at("results/demo/index.html", delete), "harmless remade", ALL),
    Kind("page's numbers: cut", at("results/demo/report.json", into("{")), "harmless remade", ALL),
    Kind(".executed: empty", at("results/demo/.executed", empty), "harmless", ALL),
    Kind(".executed: another's", at("results/demo/.executed", into("ab" * 32)), "harmless", ALL),
    Kind(".executed: no text", at("results/demo/.executed", lambda p: p.write_bytes(b"\xff\xfe\x00")), "harmless", ALL),
    Kind("submission: empty, status", submission(""), "told", STATUS),
    Kind("submission: cut, status", submission("task,run_"), "told", STATUS),
    Kind("submission: no table, status", submission("<html>\n"), "told", STATUS),
    Kind("locks: left over", locks_left_over, "harmless"),
    Kind("locks: a folder in place of a run's", lock_is_a_folder(""), "refused"),
    Kind("locks: a folder in place of the bank's", lock_is_a_folder("bank/bank.lock"), "refused"),
    Kind("notebook: cut", at("notebooks/20_tag.ipynb", cut), "refused"),
    Kind("notebook: empty", at("notebooks/20_tag.ipynb", empty), "refused"),
]


# What comes of it


def prepare(clone: Clone, kept: Path) -> dict[str, bytes]:
    """Make the study, and what is left of it when it is stopped; keep the states, and return its numbers."""
    clone.keep(kept / "untouched")
    ended = clone.run()
    assert ended.code == 0, ended.text
    numbers = clone.numbers()
    clone.keep(kept / "finished")
    for state, patch in (
        ("stopped", studies.killed_in_the_middle_of_training),
        ("half a bank", studies.killed_in_the_middle_of_a_bank),
    ):
        lose(clone)
        if state == "half a bank":
            next(clone.results.glob("bank/draw_tag*.npy")).unlink()
        assert clone.run("--only", "20", patches=[patch]).code < 0
        clone.keep(kept / state)
        clone.restore(kept / "finished")
    return numbers


def outcome(clone: Clone, kept: Path, numbers: dict[str, bytes], kind: Kind) -> tuple[str, str]:
    """What comes of a kind of damage (see above, or: raw error, WRONG, unnamed), and the words that it came with."""
    clone.restore(kept / kind.state)
    path = kind.damage(clone)
    ended = _command(clone, kind)
    names = [kind.words] if kind.words else [path.name, path.parent.name] if "runs" in path.parts else [path.name]
    said = next((line for line in _lines(ended) if any(name in line for name in names)), "")
    if error := raw(clone, ended):
        return "raw error", error
    if kind.command == STATUS:
        return ("told" if said or ended.code == 0 else "unnamed"), said
    after = clone.numbers()
    if ended.code:
        if not said:
            return "unnamed", ended.text.strip().splitlines()[-1]
        clone.restore(kept / kind.state)
        again = _command(clone, kind)
        same = again.code == 0 and clone.numbers() == numbers
        return ("refused" if same else "WRONG"), said
    if kind.outcomes == "noticed":
        registered = list(clone.results.glob("cohorts/*.csv"))
        return ("noticed" if len(registered) == 2 and after != numbers else "WRONG"), said
    if after != numbers:
        different = sorted(name for name in after.keys() | numbers.keys() if after.get(name) != numbers.get(name))
        return "WRONG", f"{len(different)} files differ, e.g. {different[0]}; {said or 'not a word'}"
    return ("remade" if said else "harmless"), said


def _command(clone: Clone, kind: Kind) -> Ended:
    if kind.command == STATUS:
        return clone.call("status", str(clone.own))
    return clone.run(*kind.command[1:])


def _lines(ended: Ended) -> list[str]:
    """What it said, a line each, without progress bars."""
    return [BAR.sub("", line).strip() for line in re.split(r"[\r\n]", ended.text)]


def raw(clone: Clone, ended: Ended) -> str:
    """An exception that nobody put into words, or a death; empty if there is none."""
    if ended.code not in (0, 1, 2):
        return f"exit code {ended.code}: {ended.text.strip().splitlines()[-1:]}"
    if found := RAW.search(ended.text):
        return next(line for line in ended.text[found.start() :].splitlines()[::-1] if "Error" in line)
    for path in clone.results.glob("runs/*.failed/traceback.txt"):
        last = [line for line in path.read_text().splitlines() if re.match(r"[\w.]+(Error|Exception)\b", line)]
        if last and "StudyError" not in last[-1]:
            return f"in a run: {last[-1]}"
    return ""


def main(only: str = "") -> int:
    """Print a table of all kinds, or those whose names hold `only`; 1 if any came out otherwise than it must."""
    wrong, kinds = 0, [kind for kind in KINDS if only in kind.name]
    with tempfile.TemporaryDirectory() as folder:
        clone, kept = Clone.make(Path(folder) / "clone"), Path(folder) / "kept"
        numbers = prepare(clone, kept)
        print(f"| {len(kinds)} kinds of damage | must | comes | in which words |\n|---|---|---|---|")
        for kind in kinds:
            found, words = outcome(clone, kept, numbers, kind)
            wrong += found not in kind.outcomes.split()
            mark = "" if found in kind.outcomes.split() else " (!)"
            words = words.replace(folder, "").replace("|", "/")[:160]
            print(f"| {kind.name} | {' or '.join(kind.outcomes.split())} | {found}{mark} | {words} |", flush=True)
    print(f"\n{len(kinds)} kinds, {wrong} not as they must be")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
