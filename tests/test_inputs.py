"""What people give, group by group: the input, what becomes of it, and the words that must be said.

`REFUSED`: one StudyError, before anything is made. `SAID`: it is taken, and something is printed or noted. `TAKEN`:
it is taken. No row trains anything.
"""

import contextlib
import io
import os
import re

import h5py
import numpy as np
import pandas as pd
import pytest
import small_images
import timm
import tiny_audit
import torch
from PIL import Image
from safetensors.torch import save_file
from tiny_runs import make_cohort
from tiny_study import PROFILE, write_notebook, write_profile

from sourcematters import sources
from sourcematters.audit import Audit
from sourcematters.cohorts import Cohort, Request, open_cohort, pixels, tables
from sourcematters.errors import StudyError
from sourcematters.results import style
from sourcematters.runs import guards
from sourcematters.study import notebooks, settings
from sourcematters.training import trials
from sourcematters.training.recipe import Preprocessing

REFUSED, SAID, TAKEN = "refused", "said", "taken"


def outcome(work, *words):
    """Of `work`: refused, said or taken; every word must be in the sentence, which is for people."""
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            noted = work()
        printed = re.sub(r"[^\r\n]*image/s[^\r\n]*", "", out.getvalue() + err.getvalue())  # progress bars
        text = printed + (noted if isinstance(noted, str) else "")
        kind = SAID if text.strip() else TAKEN
    except StudyError as error:
        text, kind = str(error), REFUSED
    assert all(word in text for word in words), text
    assert len(text) < 4000 and not re.search(r"Traceback|object at 0x|errno|pydantic|site-packages", text), text
    return kind


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A clone whose notebooks run the tag and gender on a tiny cohort; gives its root and the cohort's folder."""
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "images").mkdir()
    tables.write_csv(folder / "cohort.csv", make_cohort(folder / "images").table)
    write_notebook(folder / "clone", "20_tag", 'study.show("tag")\nstudy.design("tag")\nstudy.run("tag")')
    write_notebook(folder / "clone", "24_gender", 'study.run("gender")')
    write_notebook(folder / "clone", "25_any", 'study = Study.of(globals(), "own")\nstudy.run()')
    write_notebook(folder / "clone", "30_figures", "runs = study.collected()")
    return folder


@pytest.fixture
def begin(clone, monkeypatch):
    """Do all that a start does before its first run; networks are not tried, which takes torch a second each."""

    @contextlib.contextmanager
    def begun(asked):
        yield list

    monkeypatch.setattr(settings, "ROOT", clone / "clone")
    monkeypatch.setattr(trials, "begun", begun)

    def start(*pairs, profile=PROFILE, results=None, only=("20", "24", "30")):
        write_profile(clone / "clone", profile.format(data=clone / "cohort.csv"))
        plan = notebooks.plan("demo", pairs, only, clone / "results" if results is None else results)
        notebooks.describe(plan)
        notebooks.check(plan)
        return plan.note

    return start


LONG = "x" * 300
SETTINGS = [
    # grid
    ("p_art", "[]", REFUSED, "p_art = []: should have at least one value"),
    ("p_art", "[0, 0.0]", REFUSED, "p_art = [0.0, 0.0]", "each of them once"),
    ("p_art", "[-1]", REFUSED, "p_art.0 = '-1': should be greater than or equal to 0"),
    ("p_art", "[0, 1.01]", REFUSED, "should be less than or equal to 1"),
    ("p_art", "[.nan]", REFUSED, "p_art.0 = '.nan': should be a valid number."),
    ("p_art", "[nan]", REFUSED, "should be a finite number"),
    ("p_art", "0.5", REFUSED, "p_art = '0.5': should be a list, as in [0.5]"),
    ("p_art", "[a]", REFUSED, "p_art.0 = 'a': should be a valid number."),
    ("p_art", "[0, [1]]", REFUSED, "p_art.1"),
    ("p_art", "[true]", REFUSED, "p_art.0"),
    ("p_art", "{a: 1}", REFUSED, "p_art", "no list"),
    ("p_art", "[0.01]", REFUSED, "20_tag: p_art 0.01 is the study without: 0 of the 20 positive", "24_gender"),
    ("p_art", "[0, 1e-12]", REFUSED, "p_art 0 and 1e-12 are the same study"),
    ("p_art", "[0.5, 0.51]", REFUSED, "p_art 0.5 and 0.51 are the same study: 10 of the 20", "more than 0.05 apart"),
    ("p_art", "[0, 0.5, 1]", TAKEN),
    ("folds", "0", REFUSED, "folds = '0'"),
    ("folds", "1000000", REFUSED, "should be less than or equal to 1000"),
    ("folds", "30", REFUSED, "there must be more patients than folds"),
    ("folds", "2.5", REFUSED, "folds = '2.5': should be a valid integer."),
    ("seed", "1e30", REFUSED, "seed = '1e30': should be a valid integer."),
    ("seed", "-1", TAKEN),
    ("smallest_test", "0", REFUSED, "smallest_test"),
    ("smallest_test", "9", REFUSED, "the o.o.d. test has 8 positive and 8 negative images", "asks for 9 of each"),
    ("permutations", "0", REFUSED, "permutations"),
    ("reference", "nobody", REFUSED, "reference = 'nobody' is not one of the sources: random"),
    ("state_of_the_art", "{x: 2}", REFUSED, "state_of_the_art.x"),
    ("state_of_the_art", "{brightnes: .5}", REFUSED, "unknown task `brightnes`. Did you mean brightness?"),
    ("state_of_the_art", "{brightness: .5}", TAKEN),
    # recipe
    ("learning_rate", "1", REFUSED, "learning_rate = '1': should be less than 1"),
    ("learning_rate", "0", REFUSED, "should be greater than 0"),
    ("learning_rate", "1e-400", REFUSED, "learning_rate"),
    ("learning_rate", "nan", REFUSED, "learning_rate = 'nan': should be a finite number"),
    ("learning_rate", "2e-5", TAKEN),
    ("epochs", "0", REFUSED, "epochs"),
    ("epochs", "true", REFUSED, "epochs"),
    ("epochs", "1.5", REFUSED, "epochs"),
    ("patience", "-1", REFUSED, "patience"),
    ("batch_size", "1", REFUSED, "batch_size = '1': should be greater than or equal to 2"),
    ("size", "15", REFUSED, "size = '15'"),
    ("size", "4097", REFUSED, "size = '4097'"),
    ("size", "wide", REFUSED, "size = 'wide': should be a valid integer."),
    ("size", "!!python/object/apply:os.system [ls]", REFUSED, "size"),
    ("size", "[" * 2000, REFUSED, "size", "letters)"),
    ("size", "{", REFUSED, "size = '{'"),
    ("size", "9" * 5000, REFUSED, "size", "letters)"),
    ("crop", "5", REFUSED, "crop = '5': should be at least 16 px"),
    ("crop", "65", REFUSED, "64 x 64 px (width x height) are too few for crop 65"),
    ("window", "[0]", REFUSED, "window.1"),
    ("window", "[0, 0]", REFUSED, "window.1 = '0': should be greater than 0"),
    ("dropout", "1", REFUSED, "dropout"),
    ("bn_momentum", "2", REFUSED, "bn_momentum"),
    ("rotation", "181", REFUSED, "rotation"),
    ("shift", "-1", REFUSED, "shift"),
    ("zoom", "1", REFUSED, "zoom"),
    ("precision", "fp16", REFUSED, "precision = 'fp16': should be 'fp32', 'tf32', 'bf16' or 'auto'"),
    ("interpolation", "cubic", REFUSED, "should be 'nearest' or 'antialias'"),
    ("compiled", "5", REFUSED, "compiled"),
    ("recompute", "[]", REFUSED, "recompute"),
    ("force", "maybe", REFUSED, "force"),
    ("force", "true", TAKEN),
    # means
    ("workers", "-1", REFUSED, "workers = '-1': should be greater than or equal to 0"),
    ("workers", "x", REFUSED, "workers"),
    ("executor", "aws", REFUSED, "executor = 'aws': should be 'local' or 'slurm'"),
    ("slurm", "[]", REFUSED, "slurm"),
    ("slurm", "{partition: 5, x: 1}", TAKEN),  # sbatch has options that nobody here knows
    ("device", "", REFUSED, "device"),
    ("backbone", "", REFUSED, "backbone"),
    ("backbone", "[a, b]", REFUSED, "backbone"),
    ("test_fraction", "0", REFUSED, "test_fraction"),
    ("test_fraction", "1", REFUSED, "test_fraction"),
    ("val_fraction", "2", REFUSED, "unknown setting `val_fraction`. Did you mean test_fraction?"),
    ("notebooks", "20", REFUSED, "notebooks = '20': should be a list, as in [20]"),
    ("results", "x", REFUSED, "give --results FOLDER"),
    ("profile", "x", REFUSED, "--profile NAME"),
    # names
    ("task", LONG, REFUSED, "task", "at most 80", "letters)"),
    ("task", "a\nb", TAKEN),  # a value of -p is YAML, where a line break is a blank
    ("task", '"a\\nb"', REFUSED, "task", "printable letters"),
    ("task", "\ud800", REFUSED, "task", "valid string"),
    ("task", "nan", TAKEN),
    ("task", "None", TAKEN),
    ("task", "-rf", TAKEN),
    ("task", "1", TAKEN),
    ("sources", "x", REFUSED, "sources = 'x': should be a list, as in [x]"),
    ("sources", "[]", REFUSED, "sources = []: should have at least one value"),
    ("sources", "[random, random]", REFUSED, "sources = [random, random]", "each of them once"),
    ("sources", "{a: b}", REFUSED, "sources"),
    ("sources", f"[{LONG}]", REFUSED, "sources.0", "at most 80"),
    ("sources", "['']", REFUSED, "sources.0"),
    ("sources", "[' x']", REFUSED, "sources.0", "no blank at its ends"),
    ("sources", '["a\\nb"]', REFUSED, "sources.0", "printable letters"),
    ("sources", '["\\ud800"]', REFUSED, "sources"),
    ("sources", "[a, b, c, d, e, f, g, h, random]", REFUSED, "a figure cannot tell 9 sources apart"),
    ("weights", "x", REFUSED, "weights"),
    ("weights", "[1]", REFUSED, "weights"),
    ("weights", "{mine: /nowhere.pt}", SAID, "weights of mine are not used: add them to sources"),
    # confounders
    ("tag", "5", REFUSED, "tag: '5' is no section"),
    ("tag", "[]", REFUSED, "tag: [] is no section"),
    ("tag.foo", "1", REFUSED, "tag: unknown parameter `foo`"),
    ("tag.letter", "", REFUSED, "letter"),
    ("tag.letter", "\u200b", REFUSED, "covers no pixel", "Choose a visible letter"),
    ("tag.letter", "$\\frac$", REFUSED, "would span columns"),
    ("tag.height", "0", REFUSED, "height = '0'"),
    ("tag.height", "1e9", REFUSED, "height=1e+09 is a font of", "64 x 64 px"),
    ("tag.height", "1", REFUSED, "is a font of 0.0625 px"),
    ("tag.x", "-1", REFUSED, "x = '-1'"),
    ("tag.x", "nan", REFUSED, "x = 'nan': should be a finite number"),
    ("tag.x", "1020", REFUSED, "would span columns"),
    ("tag.reference", "0", REFUSED, "reference"),
    ("tag.name", "Tag", REFUSED, "small letters, digits and _"),
    ("tag.name", "../x", REFUSED, "small letters, digits and _"),
    ("tag.name", LONG, REFUSED, "use up to 40 small letters", "letters)"),
    ("tag.leaf", "x", REFUSED, "unknown leaf of MICCAT `x`"),
    ("tag.size", "16", TAKEN),
    ("noise.n0", "0", REFUSED, "n0 = '0'"),
    ("noise.n0", "1e16", REFUSED, "n0 = '1e16'"),
    ("noise_high_vs_low.high", "3e7", REFUSED, "must be fewer than low"),
    ("noise_high_vs_low.high", "1.99e7", REFUSED, "give 0.0025 of low's noise more"),
    ("gender.value", "X", REFUSED, "sex is 'X' in none of the 64 images. It is 'F' (32), 'M' (32)"),
    ("gender.value", "female", REFUSED, "Did you mean F?"),
    ("gender.value", "M", REFUSED, "value and other are both 'M'"),
    ("gender.attribute", "", REFUSED, "attribute"),
    ("gender.attribute", "weight", REFUSED, "the cohort has no attribute 'weight'. It has: sex"),
    ("gender.attribute", "patient_id", REFUSED, "no attribute 'patient_id'"),
    ("gender.attribute", "image_id", REFUSED, "no attribute 'image_id'"),
    ("gender.attribute", "label", REFUSED, "no attribute 'label'"),
    ("attribute", "weight", REFUSED, "attribute: 'weight' is no section"),
    ("ct.foo", "1", REFUSED, "ct: unknown setting `foo`"),
    ("foo", "1", REFUSED, "unknown setting `foo`"),
    ("", "1", REFUSED, "unknown setting ``"),
    ("a..b", "1", REFUSED, "unknown setting `a`"),
    ("__class__", "1", REFUSED, "unknown setting `__class__`"),
    ("y" * 100_000, "1", REFUSED, "unknown setting", "letters)"),
    ("plugins", "[nothing.there]", REFUSED, "nothing.there cannot be imported"),
    ("plugins", "['']", REFUSED, "plugins"),
    # data
    ("data", "", REFUSED, "data"),
    ("data", "/dev/null", REFUSED, "no reader knows it"),
    ("data", "/dev", REFUSED, "no reader knows it"),
    ("data", "y" * 5000, REFUSED, "no path of a file or folder (File name too long)"),
    ("data", "\x00", REFUSED, "no path of a file or folder"),
    ("data", "http://x/y.csv", REFUSED, "there is no such table"),
    ("view", "XX", REFUSED, "view 'XX' was asked for, but the table has no column view"),
    ("splits", "/nope", REFUSED, "only lung-mass and atelectasis-gender have published ones"),
]


@pytest.mark.parametrize(
    "row", SETTINGS, ids=lambda row: f"{row[0][:20]} {row[1][:20]}".encode("ascii", "replace").decode()
)
def test_settings(begin, row):
    name, value, kind, *words = row
    assert outcome(lambda: begin((name, value)), *words) == kind


OWN = [
    ({"own.confounder": "nix"}, REFUSED, "unknown confounder `nix`"),
    ({"own.confounder": "attribute"}, REFUSED, "attribute"),
    ({"own.confounder": "tag", "own.tag.height": "40", "own.tag.x": "40", "own.tag.y": "32", "own.size": "16"}, REFUSED,
     "25_any: tag cannot be seen by the network: at 16 px (nearest)", "Seen it would be with", "height:", "force"),
    ({"own.confounder": "noise", "own.noise.n0": "1e15"}, REFUSED, "noise cannot be seen by the network", "n0:"),
    ({"own.confounder": "denoising", "own.denoising.diameter": "89"}, REFUSED,
     "denoising cannot be seen by the network", "diameter:"),
    ({"own.confounder": "noise", "own.noise.n0": "1e15", "own.force": "true"}, TAKEN),
    ({"own.confounder": "noise"}, TAKEN),
]  # fmt: skip


@pytest.mark.parametrize("row", OWN, ids=lambda row: " ".join(row[0].values()))
def test_any_confounder(begin, row):
    pairs, kind, *words = row
    assert outcome(lambda: begin(*pairs.items(), only=("25",)), *words) == kind


NESTED = "x0: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"x{k}: &{c} [{','.join(['*' + b] * 9)}]\n" for k, (b, c) in enumerate(zip("abcdefg", "bcdefgh", strict=True), 1)
)
PROFILES = {
    "an alias that holds itself": ("slurm: &a {{b: *a}}\n", REFUSED, "more than 10,000 values, or holds itself"),
    "nested aliases": (NESTED, REFUSED, "more than 10,000 values"),
    "few aliases": (PROFILE + "weights: {{x: &a [x, y], y: *a}}\n", SAID, "weights of x, y are not used"),
    "2,000 brackets": ("slurm: " + "[" * 2000 + "]" * 2000, REFUSED, "brackets within brackets"),
    "a word": ("word", REFUSED, "a profile is lines of the form `setting: value`"),
    "a list": ("- a", REFUSED, "a profile is lines of the form `setting: value`"),
    "a bracket": ("{{", REFUSED, "not readable as YAML"),
    "a zero": ("\0", REFUSED, "not readable as YAML"),
    "a key twice": (PROFILE + "size: 64\n", REFUSED, "size is given more than once"),
    "a key of two lines": (PROFILE + "? [a]\n: b\n", REFUSED, "not readable as YAML"),
    "code": ("size: !!python/object:os.system {{}}", REFUSED, "size"),
    "another profile's name": ("profile: other\n", REFUSED, "it calls itself profile 'other'"),
    "two documents": ("---\na: 1\n---\nb: 2\n", REFUSED, "not readable as YAML"),
    "a long value": (PROFILE + f"foo: {'y' * 100_000}\n", REFUSED, "unknown setting `foo`"),
    "a long weight": (PROFILE + "weights: {{x: " + "y" * 100_000 + "}}\n", REFUSED, "no path of a file or folder"),
    "nothing": ("", REFUSED, "data is not set"),
    "Windows' lines": (PROFILE.replace("\n", "\r\n"), TAKEN),
    "a byte order mark": ("\ufeff" + PROFILE, TAKEN),
    "a tab": (PROFILE + "\ttag: 1", REFUSED, "not readable as YAML"),
}


@pytest.mark.parametrize("name", PROFILES)
def test_profiles(begin, name):
    text, kind, *words = PROFILES[name]
    assert outcome(lambda: begin(profile=text), *words) == kind


PLACES = {
    "a file": ("cohort.csv", REFUSED, "cohort.csv"),
    "below a file": ("cohort.csv/x", REFUSED, "cohort.csv"),
    "where nothing can be made": ("/proc/x", REFUSED, "/proc/x"),
    "nothing": ("", REFUSED, "--results is empty"),
    "blanks": (" ", REFUSED, "--results is empty"),
    "too long": ("y" * 5000, REFUSED, "File name too long"),
    "a zero": ("a\0b", REFUSED, "no path"),
    "another folder": ("elsewhere", TAKEN),
}


@pytest.mark.parametrize("name", PLACES)
def test_places_for_results(begin, clone, name):
    place, kind, *words = PLACES[name]
    results = clone / place if place.isprintable() and place.strip() else place
    assert outcome(lambda: begin(results=results), *words) == kind


COMMANDS = [
    (["run", "-p", "task=-rf", "--list"], 0, ""),
    (["run", "-p", "size=31=2", "--list"], 2, "size = '31=2'"),
    (["run", "-p", "task", "--list"], 2, "-p task: give -p NAME VALUE, or -p NAME=VALUE"),
    (["run", "-p", "a", "b", "c", "--list"], 2, "-p a b c: give -p NAME VALUE"),
    (["run", "--results", "", "--list"], 2, "--results is empty"),
    (["run", "--only", "99"], 2, "unknown notebook `99`. Known: 20_tag"),
    (["run", "--profile", "demoo"], 2, "unknown profile `demoo`. Did you mean demo?"),
    (["run", "--profile", "/no/such.yaml"], 2, "no such profile file"),
    (["status", "/no/such"], 2, "no plans/*.csv in it"),
    (["check", "/no/such"], 2, "nothing of a study is in it"),
    (["verify", "/no/such", "--task", "x"], 2, "there is no such folder or file"),
    (["audit", "/no/such"], 2, "/no/such: there is no such folder or file"),
    (["audit", "/no/such.yaml"], 2, "/no/such.yaml: no such profile file"),
    (["audit", "demo.yaml", "-p", "budget"], 2, "-p budget: give -p NAME VALUE"),
]


@pytest.mark.parametrize("row", COMMANDS, ids=lambda row: " ".join(row[0]))
def test_commands(begin, clone, command, row):
    arguments, expected, said = row
    write_profile(clone / "clone", PROFILE.format(data=clone / "cohort.csv"))
    code, out, err = command(*arguments)
    assert (code, said in out + err) == (expected, True), out + err


HEAD = "image_id,path,patient_id,label,split\n"


def rows(n=16, **columns):
    """A sound table of `n` images, a patient each, with `columns` in place of or beside its own."""
    made = {
        "image_id": [f"i{k}" for k in range(n)],
        "path": [f"{k}.png" for k in range(n)],
        "patient_id": [f"p{k}" for k in range(n)],
        "label": [k % 2 for k in range(n)],
        "split": ["dev" if k < n / 2 else "test" for k in range(n)],
    }
    return pd.DataFrame(made | columns).to_csv(index=False)


TABLES = {
    "sound": (rows(), TAKEN),
    "empty": ("", REFUSED, "empty"),
    "a header": (HEAD, REFUSED, "no"),
    "no label": (rows().replace("label", "lable"), REFUSED, "label"),
    "label twice": (rows().replace("split", "label"), REFUSED, "label"),
    "path twice": (rows().replace("split", "path"), REFUSED, "path"),
    "label 2": (rows(label=[0, 1, 2, 1] * 4), REFUSED, "label"),
    "label yes": (rows(label=["yes", "no"] * 8), SAID, "yes"),
    "label maybe": (rows(label=["yes", "maybe"] * 8), REFUSED, "label"),
    "one class": (rows(label=[1] * 16), REFUSED, "label"),
    "no label in one": (rows(label=["", *[1, 0] * 7, 1]), REFUSED, "label"),
    "an id twice": (rows(image_id=["i0"] * 16), REFUSED, "i0"),
    "split train": (rows(split=["train"] * 8 + ["test"] * 8), SAID, "train"),
    "split Monday": (rows(split=["Monday"] * 8 + ["test"] * 8), REFUSED, "Monday"),
    "a patient in both": (rows(patient_id=["p"] * 16), REFUSED, "p"),
    "a patient with a blank": (rows(patient_id=["p", "p "] * 8), REFUSED, "p"),
    "patients nan": (rows(patient_id=["nan"] * 8 + [f"p{k}" for k in range(8)]), SAID, "nan"),
    "patients unknown": (rows(patient_id=["unknown"] * 8 + [f"p{k}" for k in range(8)]), SAID, "unknown"),
    "patients blank": (rows(patient_id=[" "] * 8 + [f"p{k}" for k in range(8)]), REFUSED, "patient_id"),
    "ages in words": (rows(age=["old", "young"] * 8), SAID, "age"),
    "an image that is not there": (rows().replace("3.png", "none.png"), REFUSED, "none.png"),
    "a folder for an image": (rows().replace("3.png", "."), REFUSED, "image"),
    "no UTF-8": (rows(sex=["F", "M"] * 8).encode() + b"\xff\xfe,x", REFUSED, "no UTF-8", "row 18"),
    "cp1252": (rows(site=["Köln", "Łódź".replace("Ł", "L").replace("ź", "z")] * 8).encode("cp1252"), SAID, "cp1252"),
    "UTF-16": (rows().encode("utf-16"), TAKEN),
    "sep=": ("sep=;\n" + rows().replace(",", ";"), TAKEN),
    "semicolons": (rows().replace(",", ";"), TAKEN),
    "tabs": (rows().replace(",", "\t"), TAKEN),
    "a web page": ("<!DOCTYPE html><html><body>Sign in</body></html>", REFUSED, "web page"),
    "JSON": ('{"image_id": 1}', REFUSED, "JSON"),
    "a zip": (b"PK\x03\x04" + bytes(100), REFUSED, "zip"),
    "zeros": (bytes(100), REFUSED, "a.csv"),
    "a row too long": (rows() + "a,b,c,d,e,f,g\n", REFUSED, "line"),
    "a quote": (rows() + '"a', REFUSED, "row 17", "every quote its end"),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables(tmp_path, name):
    content, kind, *words = TABLES[name]
    (tmp_path / "a.csv").write_bytes(content.encode() if isinstance(content, str) else content)
    for number in range(16):
        (tmp_path / f"{number}.png").touch()

    def opened():
        cohort = open_cohort(Request(data=tmp_path / "a.csv", task="t", cache=tmp_path))
        return "\n".join(cohort.notes)

    assert outcome(opened, *words) == kind


PIPES = {
    "a table": ("a.csv", "a.csv", REFUSED, "a.csv: cannot be read (a pipe or a device, not a file)"),
    "a sheet": ("a.xlsx", "a.xlsx", REFUSED, "a.xlsx: cannot be read (a pipe or a device, not a file)"),
    "a MedMNIST file": ("a.npz", "a.npz", REFUSED, "a.npz: cannot be read (a pipe or a device, not a file)"),
    "a zip of reads": ("a.zip", "a.zip", REFUSED, "a.zip"),
    "among images": ("a/sick/x", "a", TAKEN),
    "called as an image is": ("a/sick/x.png", "a", REFUSED, "x.png"),
    "called as a slice is": ("a/sick/x.dcm", "a", REFUSED, "x.dcm"),
    "the labels": ("a/table.csv", "a", REFUSED, "table.csv: cannot be read (a pipe or a device, not a file)"),
    "in a release": ("LIDC-IDRI/LIDC-IDRI-0001/s/x.dcm", "LIDC-IDRI", REFUSED, "no CT slice among 1 files"),
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("name", PIPES)
def test_a_pipe_keeps_nobody_waiting(tmp_path, name):
    pipe, data, kind, *words = PIPES[name]
    for number in range(16):
        small_images.png(tmp_path / "a" / ("sick", "healthy")[number % 2] / f"{number}.png", number)
    (tmp_path / pipe).parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(tmp_path / pipe)
    asked = {"labels": str(tmp_path / pipe)} if name == "the labels" else {}
    task = "lung-mass-ct" if name == "in a release" else "sick"
    request = Request(data=tmp_path / data, task=task, cache=tmp_path, **asked)
    assert outcome(lambda: open_cohort(request) and None, *words) == kind


MEANT = {
    "sound": ({}, TAKEN),
    "columns that are not there": ({"columns": {"label": "Pneumnia"}}, REFUSED,
     "columns.label: unknown column `Pneumnia`. Did you mean Pneumonia?"),
    "positive and negative overlap": ({"positive": ["1", "yes"], "negative": ["no", "yes"]}, REFUSED,
     "'yes' cannot be in both positive and negative"),
    "a label that nobody has": ({"positive": ["sick"], "negative": ["no"]}, REFUSED, "sick"),
    "a root that does not exist": ({"root": "/no/such/folder"}, REFUSED, "/no/such/folder"),
    "bands of text": ({"bands": {"sex": [0, 40, 60]}}, REFUSED, "sex"),
    "bands that fall": ({"bands": {"age": [60, 40]}}, REFUSED, "the edges of age should rise"),
    "bands in words": ({"bands": {"age": ["young", "old"]}}, REFUSED, "bands.age.0", "valid number"),
    "bands of a column that is not there": ({"bands": {"weight": [0, 40]}}, REFUSED, "weight"),
    "bands": ({"bands": {"age": [0, 40, 120]}}, TAKEN),
}  # fmt: skip


@pytest.mark.parametrize("name", MEANT)
def test_what_columns_and_values_mean(tmp_path, name):
    changes, kind, *words = MEANT[name]
    cells = {
        "Path": [f"{k}.png" for k in range(16)],
        "Pneumonia": ["no", "yes"] * 8,
        "Who": [f"p{k}" for k in range(16)],
    }
    pd.DataFrame(cells | {"Sex": list("FFMM") * 4, "Age": range(20, 36)}).to_csv(tmp_path / "a.csv", index=False)
    for number in range(16):
        (tmp_path / f"{number}.png").touch()
    own = {"path": "Path", "label": "Pneumonia", "patient": "Who", "sex": "Sex", "age": "Age"}
    asked = {"positive": ["yes"], "negative": ["no"]} | changes | {"columns": {**own, **changes.get("columns", {})}}
    request = lambda: Request(data=tmp_path / "a.csv", task="t", cache=tmp_path, **asked)  # noqa: E731
    assert outcome(lambda: open_cohort(request()) is not None, *words) == kind


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Tiny images with their table, models of them, and scores of other images."""
    folder = tmp_path_factory.mktemp("audits")
    tiny_audit.images(folder, n=40, size=28)
    table = pd.read_csv(folder / "cohort.csv")
    table.assign(label=1).to_csv(folder / "alike.csv", index=False)
    table.assign(site=["A"] * 38 + ["B"] * 2).to_csv(folder / "sites.csv", index=False)
    pd.DataFrame({"image_id": ["x", "y"], "logit": [0, 1]}).to_csv(folder / "other.csv", index=False)
    tiny_audit.model(folder / "sound.onnx", tiny_audit.weights(disc=40, corner=25), -20, size=32)
    tiny_audit.model(folder / "small.onnx", tiny_audit.weights(disc=40), -20, size=16)
    tiny_audit.model(folder / "many.onnx", tiny_audit.weights(disc=40), -20, size=32, outputs=14)
    with torch.random.fork_rng():
        torch.save(timm.create_model("test_resnet", num_classes=1).state_dict(), folder / "resnet.pt")
    (folder / "text.onnx").write_text("404: Not Found")
    return folder


def of(name, **changes):
    return {"model": {"path": name, "mean": 0, "std": 1, **changes}}


OTHER = {"scores": {"without": "other.csv", "tag": "other.csv"}}
AUDITS = {
    "sound": (of("sound.onnx"), TAKEN),
    "nothing but data": ({}, TAKEN),
    "all labels alike": ({"data": "alike.csv", **of("sound.onnx")}, REFUSED, "label"),
    "one site with 2 images": ({"data": "sites.csv", **of("sound.onnx")}, SAID,
     "1 positive and 1 negative images here, 19 and 19 elsewhere: fewer than 10 say little"),
    "a tag of 16 px in 28": ({**of("sound.onnx"), "tag": {"height": 16}}, REFUSED,
     "height=16 is a font of 0.438 px in an image 28 x 28 px"),
    "a tag between the pixels": ({**of("small.onnx"), "tag": {"height": 40}, "interpolation": "nearest"}, REFUSED,
     "tag cannot be seen by the network: at 16 px (nearest)", "Seen it would be with", "set force to true"),
    "an unknown confounder": ({"audited": ["tagg"]}, REFUSED, "audited: unknown confounder `tagg`. Did you mean tag?"),
    "a primary that is not tried": ({"audited": ["tag"], "primary": "noise"}, REFUSED, "is not among `audited`"),
    "a budget in words": ({"budget": "soon"}, REFUSED, "budget: 'soon' is no time. Write it as 30 min"),
    "a threshold of 2": ({"threshold": 2}, REFUSED, "threshold = '2': should be less than 1"),
    "a threshold of 0": ({"threshold": 0}, REFUSED, "threshold = '0': should be greater than 0"),
    "few images": ({"scored_images": 5}, REFUSED, "scored_images = '5': should be greater than or equal to 20"),
    "another part": ({"scored": "train"}, REFUSED, "scored = 'train': should be 'all' or 'test'"),
    "a model that is a word": ({"model": "best.ckpt"}, REFUSED, "model"),
    "a path that is a number": ({"model": {"path": 5}}, REFUSED, "5 does not exist"),
    "a path of another name": ({"model": {"pfad": "x"}}, REFUSED, "pfad", "path"),
    "an unknown option": (of("sound.onnx", sise=5), REFUSED, "unknown", "`sise`. Did you mean size?"),
    "a mean without std": ({"model": {"path": "sound.onnx", "mean": 0}}, REFUSED, "give mean and std"),
    "a model that is not there": (of("no.onnx"), REFUSED, "no.onnx does not exist. Correct `path`."),
    "a model that is text": (of("text.onnx"), REFUSED, "text.onnx"),
    "14 outputs": (of("many.onnx"), REFUSED, "this model has 14 outputs: give output: 0..13"),
    "14 outputs and an index": (of("many.onnx", output=3), TAKEN),
    "output 14 of 14": (of("many.onnx", output=14), REFUSED, "there is no output 14"),
    "another size": (of("sound.onnx", size=64), REFUSED, "takes size 32 and nothing else"),
    "another architecture": (of("resnet.pt", architecture="resnet18"), REFUSED, "resnet.pt", "resnet18"),
    "no architecture": (of("resnet.pt"), REFUSED, "architecture"),
    "an architecture that is none": (of("resnet.pt", architecture="resnet_180"), REFUSED, "resnet_180"),
    "its own architecture": (of("resnet.pt", architecture="test_resnet", size=32), TAKEN),
    "scores of other images": (OTHER, REFUSED, "other.csv: 40 images of the cohort have no score", "x, y"),
    "scores of the plain images only": ({"scores": {"without": "other.csv"}}, REFUSED, "give two tables or more"),
    "scores and a model": ({**of("sound.onnx"), **OTHER}, REFUSED, "model and scores are both given"),
}  # fmt: skip


@pytest.mark.parametrize("name", AUDITS)
def test_audits(pictures, tmp_path, name):
    given, kind, *words = AUDITS[name]
    changes = {"audited": ["tag"]} | {
        key: dict(each) if isinstance(each, dict) else each for key, each in given.items()
    }
    data = pictures / changes.pop("data", "cohort.csv")
    if isinstance(changes.get("model"), dict) and isinstance(changes["model"].get("path"), str):
        changes["model"]["path"] = str(pictures / changes["model"]["path"])
    if "scores" in changes:
        changes["scores"] = {key: str(pictures / path) for key, path in changes["scores"].items()}

    def begun():
        audit = Audit(tiny_audit.study(tmp_path, data, size=32, **changes))
        if not audit.has_model:
            return audit.study.cohort is not None
        assert audit.measured.visible
        return "; ".join(audit.measured.by_group["note"]) if "site" in audit.measured.images else True

    assert outcome(begun, *words) == kind


def picture(kind, mode="L", size=(20, 24), **options):
    with io.BytesIO() as file:
        Image.new(mode, size, 100 if mode != "RGB" else (100, 100, 100)).save(file, kind, **options)
        return file.getvalue()


PICTURES = {
    "PNG": (picture("PNG"), TAKEN),
    "BMP of 160 px": (picture("BMP", size=(160, 160)), TAKEN),
    "colour": (picture("JPEG", "RGB"), TAKEN),
    "one bit": (picture("PNG", "1"), TAKEN),
    "16 bits": (picture("PNG", "I;16"), TAKEN),
    "floats": (picture("TIFF", "F"), REFUSED, "a.png"),
    "pages": (picture("TIFF", save_all=True, append_images=[Image.new("L", (20, 24))]), REFUSED, "2 "),
    "empty": (b"", REFUSED, "a.png"),
    "text": (b"404: Not Found", REFUSED, "a.png"),
    "a web page": (b"<!DOCTYPE html><html></html>", REFUSED, "a.png"),
    "cut off": (picture("PNG", size=(200, 200))[:60], REFUSED, "a.png"),
    "zeros": (bytes(1000), REFUSED, "a.png"),
    "a bomb": (picture("PNG", "1", (30_000, 30_000)), REFUSED, "a.png"),
    "a part of DICOM": (bytes(128) + b"DICM", REFUSED, "a.png"),
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures(tmp_path, name):
    content, kind, *words = PICTURES[name]
    (tmp_path / "a.png").write_bytes(content)
    assert outcome(lambda: pixels.read(tmp_path / "a.png") is not None, *words) == kind


WEIGHTS = {
    "a wrong mean": ({"mean": "abc"}, "needs `path`"),
    "no path": ({}, "needs `path`"),
    "a path that is a number": ({"path": 5}, "path"),
    "an unknown key": ({"path": "x.pt", "foo": 1}, "foo"),
    "a rename that is a number": ({"path": "x.pt", "rename": 3}, "rename"),
    "two means": ({"path": "x.pt", "mean": [0.5, 0.5]}, "three numbers"),
    "std 0": ({"path": "x.pt", "std": [0, 1, 1]}, "std"),
    "std NaN": ({"path": "x.pt", "std": [float("nan"), 1, 1]}, "std"),
    "mean infinite": ({"path": "x.pt", "mean": [float("inf"), 0, 0]}, "mean"),
    "a number": (7, "mine"),
    "a list": (["x"], "mine"),
    "a set": ({"x"}, "mine"),
    "nothing": (None, "mine"),
    "an empty path": ("", "mine"),
    "a file that is not there": ("/no/such.pt", "does not exist"),
    "a folder": ("/", "mine"),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_in_settings(tmp_path, name):
    given, *words = WEIGHTS[name]
    find = lambda: sources.resolve("mine", "test_resnet", weights={"mine": given}, folder=tmp_path)  # noqa: E731
    assert outcome(lambda: find().load("test_resnet", size=32), *words) == REFUSED


def scaled(state, factor):
    return {name: value * factor if value.is_floating_point() else value for name, value in state.items()}


TENSORS = {
    "sound": (lambda state: state, TAKEN),
    "NaN": (lambda state: scaled(state, float("nan")), REFUSED, "not finite"),
    "infinite": (lambda state: scaled(state, float("inf")), REFUSED, "not finite"),
    "zeros": (lambda state: scaled(state, 0.0), REFUSED, "zero"),
    "times 1e30": (lambda state: scaled(state, 1e30), REFUSED, "out of range"),
    "int8": (lambda state: {name: value.to(torch.int8) for name, value in state.items()}, REFUSED, "real numbers"),
    "complex": (lambda state: {name: value.to(torch.complex64) for name, value in state.items()}, REFUSED, "real"),
    "of another network": (lambda state: {f"my.{k}.x": v for k, v in state.items()}, REFUSED, "does not hold"),
    "a layer less": (lambda state: dict(list(state.items())[5:]), REFUSED, "missing"),
    "half": (lambda state: {k: v.half() if v.is_floating_point() else v for k, v in state.items()}, TAKEN),
    "nothing": (lambda state: {}, REFUSED, "mine.safetensors"),
}


@pytest.fixture(scope="module")
def network():
    """The weights of timm's smallest network, drawn."""
    import timm

    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=2).state_dict()


@pytest.mark.parametrize("name", TENSORS)
def test_weights_in_files(tmp_path, network, name):
    make, kind, *words = TENSORS[name]
    save_file({key: value.contiguous() for key, value in make(network).items()}, tmp_path / "mine.safetensors")
    mine = sources.resolve("mine", "test_resnet", weights={"mine": str(tmp_path / "mine.safetensors")}, folder=tmp_path)
    assert outcome(lambda: mine.load("test_resnet", size=32) is not None, *words) == kind


KERNEL = "conv1/conv1/kernel:0"


def replaced(file, make):
    del file[KERNEL]
    make()


KERAS = {
    "another network": (lambda file: None, "does not hold Keras's weights"),
    "layer_names a number": (lambda file: file.attrs.__setitem__("layer_names", 5), "layer_names holds no names"),
    "layer_names a table": (lambda file: file.attrs.__setitem__("layer_names", np.zeros((3, 3))), "holds no names"),
    "weight_names a number": (lambda file: file["conv1"].attrs.__setitem__("weight_names", 2.5), "weight_names holds"),
    "no layer_names": (lambda file: file.attrs.__delitem__("layer_names"), "no layers in it"),
    "a layer that is not there": (lambda file: file.attrs.__setitem__("layer_names", [b"nix"]), "'nix' doesn't exist"),
    "a group for a tensor": (lambda file: replaced(file, lambda: file.create_group(KERNEL)), "holds no real numbers"),
    "text for numbers": (
        lambda file: replaced(file, lambda: file.create_dataset(KERNEL, data=np.array([b"abc"]))),
        "holds no real numbers",
    ),
    "10^12 numbers": (
        lambda file: replaced(
            file, lambda: file.create_dataset(KERNEL, shape=(10**6, 10**6), dtype="f4", chunks=(1024, 1024))
        ),
        "does not hold Keras's weights",
    ),
    "a link out of it": (
        lambda file: replaced(file, lambda: file.__setitem__(KERNEL, h5py.ExternalLink("/etc/passwd", "x"))),
        "is in another file (/etc/passwd)",
    ),
    "a link to itself": (lambda file: file.__setitem__("loop", h5py.SoftLink("/loop")), "does not hold"),
    "a layer that links to itself": (
        lambda file: (
            file.__setitem__("loop", h5py.SoftLink("/loop")),
            file.attrs.__setitem__("layer_names", [b"loop"]),
        ),
        "too many links",
    ),
}


@pytest.mark.parametrize("name", KERAS)
def test_keras_files(tmp_path, name):
    damage, *words = KERAS[name]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["layer_names"] = [b"conv1"]
        file.create_group("conv1").attrs["weight_names"] = [b"conv1/kernel:0"]
        file["conv1/conv1/kernel:0"] = np.zeros((3, 3, 1, 4), np.float32)
        damage(file)
    find = lambda: sources.resolve("mine", "resnet50", weights={"mine": str(tmp_path / "a.h5")}, folder=tmp_path)  # noqa: E731
    assert outcome(lambda: find().load("resnet50", size=32), "a.h5", *words) == REFUSED


# What a study would say of images that it should not have


def cohort_of(folder, images, *, labels=(0, 1)):
    """A cohort of the given images, uint8 (N, 16, 16): the first half is in dev, labels alternate."""
    made = []
    for k, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{k}.png")
        split = "dev" if k < len(images) / 2 else "test"
        made.append((f"i{k}", str(folder / f"{k}.png"), f"p{k}", labels[k % 2], split))
    table = pd.DataFrame(made, columns=["image_id", "path", "patient_id", "label", "split"])
    return Cohort(table, name="made", task="t", origin="test")


def noise(n=40):
    return np.random.default_rng(0).integers(0, 256, (n, 16, 16), dtype=np.uint8)


def copied(k):
    images = noise()
    images[20 : 20 + k] = images[:k]
    return images


def blanked(rows):
    images = noise()
    images[rows] = 0
    return images


IMAGES = {
    "sound": (noise(), TAKEN),
    "one copy in twenty": (copied(1), SAID, "1 of 20 test images are also in training"),
    "three copies in twenty": (copied(3), REFUSED, "3 of 20 test images are in the development part too", "i20"),
    "some blank": (blanked([0, 1, 30]), SAID, "3 of 40 images are blank"),
    "all blank": (blanked(slice(None)), REFUSED, "all images with label 0 in the dev part are of one grey level"),
    "a class blank": (blanked(slice(21, 40, 2)), REFUSED, "all images with label 1 in the test part"),
}


@pytest.mark.parametrize("name", IMAGES)
def test_blanks_and_leaks(tmp_path, name):
    images, kind, *words = IMAGES[name]
    asked = ("made", cohort_of(tmp_path, images).table, Preprocessing(size=16), tmp_path / "bank")
    assert outcome(lambda: guards.flaws(*asked), *words) == kind
    if kind == REFUSED:  # a parameter goes on, and it is said
        forced = lambda: guards.flaws(*asked, force=True)  # noqa: E731
        assert outcome(forced) == SAID


NAMES = [
    ("_hidden", " _hidden"),
    ("__", " __"),
    ("$x$", r"\$x\$"),
    ("$\\frac$", r"\$\frac\$"),
    ("50$", r"50\$"),
    ("a" * 30, "a" * 24 + "\n" + "a" * 6),
    ("two words and many more letters", "two words and many more\nletters"),
    ("a\tb", "a b"),
    ("tab\x07", "tab "),
    ("chance", "chance"),
]


@pytest.mark.parametrize(("name", "shown"), NAMES)
def test_names_on_figures(name, shown):
    assert style.written(name) == shown


def test_the_rows_are_many_enough():
    every = (
        SETTINGS, OWN, PROFILES, PLACES, COMMANDS, TABLES, MEANT, AUDITS, PICTURES, WEIGHTS, TENSORS, KERAS, IMAGES,
        NAMES,
    )  # fmt: skip
    assert sum(map(len, every)) >= 200
