"""Profiles, parameters and sections: what each notebook is given, before anything runs."""

import re
from pathlib import Path

import nbformat
import pytest
from tiny_study import write_notebook, write_profile

from sourcematters.errors import StudyError
from sourcematters.results import published
from sourcematters.study import profiles
from sourcematters.study.parameters import Parameter

ROOT = Path(__file__).parents[2]


def given(plan):
    return {notebook.name: parameters for notebook, parameters in plan.steps}


# What is given to which notebook


def test_each_notebook_gets_what_it_declares(root):
    plan = profiles.plan(root, "demo", [("note", "007")])
    common = {"results": str(root / "results" / "demo"), "folds": 2, "note": "007"}
    assert given(plan) == {"10_prepare": {"size": 32}, "20_tag": common, "21_noise": common}
    assert plan.folder == root / "results" / "demo"


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("folds", "3", 3),
        ("p_art", "[0, .5]", [0.0, 0.5]),
        ("lr", "1e-5", 1e-5),
        ("lr", "1", 1.0),
        ("note", "no", "no"),
        ("note", "[half a list", "[half a list"),
        ("limit", "10", 10),
        ("limit", "null", None),
        ("quick", "true", True),
    ],
)
def test_values_typed_on_the_command_line(root, key, text, value):
    got = given(profiles.plan(root, "demo", [(key, text)]))["20_tag"][key]
    assert got == value and type(got) is type(value)


@pytest.mark.parametrize(
    ("key", "text", "wanted"),
    [
        ("folds", "three", "a whole number"),
        ("folds", "2.5", "a whole number"),
        ("folds", "true", "a whole number"),
        ("p_art", "0.5", "a list, each element a number"),
        ("p_art", "[0, high]", "a list, each element a number"),
        ("lr", "fast", "a number"),
        ("lr", ".nan", "a number"),
        ("lr", "true", "a number"),
        ("limit", "many", "a whole number or empty (null)"),
        ("quick", "1", "true or false"),
    ],
)
def test_values_of_another_type_are_refused(root, key, text, wanted):
    with pytest.raises(StudyError) as caught:
        profiles.plan(root, "demo", [(key, text)])
    assert f"-p {key}" in str(caught.value) and f"wanted: {wanted}, as in 20_tag.ipynb" in str(caught.value)


def test_profile_values_are_not_guessed_at(root):
    write_profile(root, "note: 3\n")
    with pytest.raises(StudyError, match="profile demo: note = 3, wanted: text, as in 20_tag.ipynb"):
        profiles.plan(root, "demo")


def test_unknown_parameters_are_refused_with_a_hint(root):
    with pytest.raises(StudyError, match="-p: unknown parameter `fold`. Did you mean folds\\? Known: data, folds"):
        profiles.plan(root, "demo", [("fold", "3")])
    write_profile(root, "sise: 3\n")
    with pytest.raises(StudyError, match="profile demo: unknown parameter `sise`. Did you mean size\\?"):
        profiles.plan(root, "demo")


def test_an_override_must_reach_a_chosen_notebook_but_a_profile_need_not(root):
    with pytest.raises(StudyError, match="-p, for 20: unknown parameter `size`.* Known: data, folds"):
        profiles.plan(root, "demo", [("size", "3")], only=["20"])
    assert list(given(profiles.plan(root, "demo", only=["20"]))) == ["20_tag"]


def test_the_results_folder_has_its_own_option(root):
    with pytest.raises(StudyError, match="--results FOLDER"):
        profiles.plan(root, "demo", [("results", "x")])


def test_paths_are_relative_to_where_they_were_written(root, tmp_path, monkeypatch):
    here = tmp_path / "here"
    (here / "images").mkdir(parents=True)
    monkeypatch.chdir(here)
    write_profile(root, "data: ../shared/nih\n")
    plan = profiles.plan(root, "demo", results="out")
    assert given(plan)["20_tag"] == {
        "results": str(here / "out" / "demo"),
        "data": str(tmp_path / "shared" / "nih"),
    }
    for text, value in [("images", here / "images"), ("./new", here / "new"), ("phantoms", "phantoms"), ("", "")]:
        assert given(profiles.plan(root, "demo", [("data", text)]))["20_tag"]["data"] == str(value)
    splits = Parameter("splits", "own", str, "")
    assert splits.parsed("images/chest14", here) == str(here / "images" / "chest14")
    assert splits.parsed("published", here) == "published" and splits.parsed("own", here) == "own"


@pytest.mark.parametrize("name", ["20", "20_tag", "tag", "20_tag.ipynb", "notebooks/20_tag.ipynb"])
def test_only(root, name):
    assert list(given(profiles.plan(root, "demo", only=[name]))) == ["20_tag"]


def test_only_keeps_the_order_and_refuses_unknown_names(root):
    assert list(given(profiles.plan(root, "demo", only=["21", "10"]))) == ["10_prepare", "21_noise"]
    with pytest.raises(StudyError, match="unknown notebook `2`.* Known: 10_prepare, 20_tag, 21_noise"):
        profiles.plan(root, "demo", only=["2"])


def test_a_profile_may_choose_notebooks(root):
    write_notebook(root, "00_first")
    write_profile(root, "notebooks: [00, 21]\n")
    assert list(given(profiles.plan(root, "demo"))) == ["00_first", "21_noise"]
    assert list(given(profiles.plan(root, "demo", only=["20"]))) == ["20_tag"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("folds: 2\nfolds: 3\n", "folds is given more than once"),
        ("- folds\n", "lines of the form"),
        ("folds: [2\n", "not readable as YAML"),
        ("folds: \x00\n", "not readable as YAML"),
    ],
)
def test_profiles_that_cannot_be_read(root, text, said):
    write_profile(root, text)
    with pytest.raises(StudyError, match=said):
        profiles.plan(root, "demo")


def test_profiles_by_name_and_by_path(root, tmp_path):
    with pytest.raises(StudyError, match="unknown profile `dmo`. Did you mean demo\\? Known: demo"):
        profiles.plan(root, "dmo")
    with pytest.raises(StudyError, match="mine.yaml: no such profile file"):
        profiles.plan(root, "mine.yaml")
    (tmp_path / "mine.yaml").write_text("")
    plan = profiles.plan(root, str(tmp_path / "mine.yaml"))
    assert (plan.profile, plan.folder) == ("mine", root / "results" / "mine")


@pytest.mark.parametrize(
    "line",
    [
        "folds: int = 'five'  # repeats",
        "folds = 2 + 3  # repeats",
        "import os",
        "folds: number = 5",
        "a = b = 1",
        "a, b = 1, 2",
        "x: int",
    ],
)
def test_parameters_cells_hold_literals_of_their_type(root, line):
    write_notebook(root, "20_tag", parameters=line)
    with pytest.raises(StudyError, match="20_tag.ipynb.*parameters cell"):
        profiles.plan(root, "demo")


def test_a_notebook_without_parameters_cell_or_without_json(root):
    path = root / "notebooks" / "20_tag.ipynb"
    nbformat.write(nbformat.v4.new_notebook(), path)
    with pytest.raises(StudyError, match="20_tag.ipynb: 0 of its cells are tagged"):
        profiles.plan(root, "demo")
    path.write_text("{")
    with pytest.raises(StudyError, match="20_tag.ipynb: not readable as a notebook"):
        profiles.plan(root, "demo")


def test_a_folder_without_notebooks(tmp_path):
    with pytest.raises(StudyError, match="no notebooks here"):
        profiles.plan(tmp_path, "demo")


# Values for one notebook alone


def test_a_section_of_the_profile_is_for_the_notebook_of_its_name(root):
    write_profile(root, "folds: 2\nnoise:\n  folds: 7\n  lr: 1e-5\n'10':\n  size: 8\n")
    steps = given(profiles.plan(root, "demo"))
    assert steps["20_tag"]["folds"] == 2 and "lr" not in steps["20_tag"]
    assert steps["21_noise"]["folds"] == 7 and steps["21_noise"]["lr"] == 1e-5
    assert steps["10_prepare"] == {"size": 8}


def test_what_the_user_says_beats_sections_and_names_with_the_notebook_beat_plain_ones(root):
    write_profile(root, "folds: 2\nnoise: {folds: 7}\n")
    steps = given(profiles.plan(root, "demo", [("folds", "3")]))
    assert steps["20_tag"]["folds"] == steps["21_noise"]["folds"] == 3
    steps = given(profiles.plan(root, "demo", [("21_noise.folds", "4"), ("folds", "3")]))
    assert steps["20_tag"]["folds"] == 3 and steps["21_noise"]["folds"] == 4


@pytest.mark.parametrize(
    ("profile", "overrides", "said"),
    [
        ("tag: {size: 3}", [], "profile demo, tag: unknown parameter `size`"),
        ("tga: {folds: 3}", [], "profile demo: unknown parameter `tga`"),
        ("tag: {folds: three}", [], "profile demo: folds = 'three', wanted: a whole number"),
        ("tag: {folds: 1, folds: 2}", [], "folds is given more than once"),
        ("", [("tga.folds", "3")], "-p tga.folds: unknown notebook `tga`"),
        ("", [("tag.size", "3")], "-p, tag: unknown parameter `size`"),
        ("", [("tag.folds", "many")], "-p folds: folds = 'many'"),
    ],
)
def test_sections_are_checked_as_everything_else(root, profile, overrides, said):
    write_profile(root, profile + "\n")
    with pytest.raises(StudyError) as caught:
        profiles.plan(root, "demo", overrides)
    assert said in str(caught.value)


def test_weights_are_found_from_where_they_were_written(root, tmp_path, monkeypatch):
    parameters = "weights: dict = {}  # files"
    write_notebook(root, "20_tag", parameters=parameters)
    write_profile(root, "weights: {a: data/a.pt, b: {path: data/b.pt, mean: [1, 1, 1]}, c: bare}\n")
    weights = given(profiles.plan(root, "demo"))["20_tag"]["weights"]
    assert weights == {
        "a": str(root / "data" / "a.pt"),
        "b": {"path": str(root / "data" / "b.pt"), "mean": [1, 1, 1]},
        "c": "bare",
    }
    monkeypatch.chdir(tmp_path)
    weights = given(profiles.plan(root, "demo", [("weights", "{a: ./a.pt}")]))["20_tag"]["weights"]
    assert weights == {"a": str(tmp_path / "a.pt")}


# The study's own profiles


def runs_of(profile, *overrides):
    return {n.name: profiles.outline(n, g) for n, g in profiles.plan(ROOT, profile, overrides).steps if n.confounders}


def test_the_paper_profile_is_every_run_of_figures_3_and_4():
    runs = runs_of("paper")
    assert {name: len(specs) for name, specs in runs.items()} == {
        "20_tag": 90, "21_denoising": 90, "22_noise_xray": 180, "23_noise_ct": 180, "24_gender": 90,
    }  # fmt: skip
    for name, specs in runs.items():
        assert {(s.source.name, s.p_art, s.fold) for s in specs} == {
            (source, p, fold)
            for source in ("imagenet", "radimagenet-keras", "random")
            for p in (0, 0.1, 0.2, 0.5, 0.8, 1)
            for fold in range(5)
        }
        task, size, crop, batch_size = {
            "24_gender": ("atelectasis-gender", 256, 0, 64),
            "23_noise_ct": ("lung-mass-ct", 362, 362, 32),
        }.get(name, ("lung-mass", 512, 0, 32))
        for spec in specs:
            training = spec.training
            assert spec.task == task and spec.backbone == "resnet50"
            assert (training.size, training.crop, training.batch_size) == (size, crop, batch_size)
            assert (training.epochs, training.patience, training.learning_rate) == (200, 30, 1e-5)
            assert (training.dropout, training.bn_momentum, training.precision) == (0.5, 0.01, "fp32")
            assert (training.rotation, training.shift, training.zoom) == (10, 0.1, 0.1)
            assert (training.interpolation, spec.val_fraction, spec.split_seed) == ("nearest", 0.15, 42)
    labels = {spec.confounder.label for specs in runs.values() for spec in specs}
    assert labels == {
        "tag: draw_tag(height=64, letter=R, reference=1024, x=200, y=200) against original",
        "denoising: low_pass(diameter=500, truncate=False) against original",
        "noise: poisson_noise(n0=2e+07) against original",
        "noise_high_vs_low: poisson_noise(n0=1.5e+07) against poisson_noise(n0=2e+07)",
        "noise: hounsfield_noise(n0=2e+07) against original",
        "noise_high_vs_low: hounsfield_noise(n0=1.5e+07) against hounsfield_noise(n0=2e+07)",
        "gender: sex F against M",
    }


def test_the_paper_profile_agrees_with_the_settings_that_published_results_are_compared_at():
    for name, panel in published.panels().iterrows():
        specs = [s for specs in runs_of("paper").values() for s in specs if s.task == panel.task]
        specs = [spec for spec in specs if spec.confounder.name == panel.confounder]
        assert len(specs) == 90, name
        settings = panel.drop(["title", "confounder", "data", "task"]).dropna()
        for setting, value in settings[[setting for setting in settings.index if "." not in setting]].items():
            assert {getattr(spec.training, setting) for spec in specs} == {value}, (name, setting)


def test_every_value_of_the_paper_profile_says_where_it_comes_from():
    text = (ROOT / "notebooks" / "profiles" / "paper.yaml").read_text()
    values = [line for line in text.splitlines() if re.match(r" *[a-z_0-9]+: *[^ ]", line)]
    unmarked = [
        line.split(":")[0].strip()
        for line in values
        if not re.search(r"\[(code|files|eq|recalled)\]|keras\.io|Keras's default|\bours\b", line)
    ]
    files = ["data", "weights", "lidc_folder"]
    again = ["size", "crop"]  # for the notebook that prepares CT
    assert unmarked == [*files, *again] and len(values) == 38


def test_dry_run_lists_every_run_without_images_or_weights(command, monkeypatch):
    monkeypatch.setattr(profiles, "ROOT", ROOT)
    code, out, _ = command("run", "--profile", "paper", "--dry-run")
    assert code == 0
    listed = re.findall(r"p_art ([\d.]+) +(\S+) +fold (\d)", out)
    assert len(listed) == 630 and len(set(listed)) == 90
    # Four drawn confounders share p_art = 0, but high against low noise trains on noisy images there.
    assert out.rstrip().endswith("630 runs, 600 fine-tunings")
    assert "tag: draw_tag(height=64" in out and "gender: sex F against M" in out


def test_dry_run_refuses_what_no_run_can_have(command, monkeypatch):
    monkeypatch.setattr(profiles, "ROOT", ROOT)
    code, _, err = command("run", "--dry-run", "-p", "p_art", "[0, 1.5]")
    assert code == 2 and "1.5" in err
    code, _, err = command("run", "--dry-run", "-p", "gender.size", "4")
    assert code == 2 and "size" in err
