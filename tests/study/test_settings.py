"""Settings: where values come from, which beats which, and what is refused."""

import re
from pathlib import Path

import pandas as pd
import pytest
from tiny_study import write_profile

from sourcematters.errors import StudyError
from sourcematters.study import Study, settings

PROFILES = Path(__file__).parents[2] / "notebooks" / "profiles"


def study(*pairs, profile="demo", section=""):
    return Study(profile, settings.read_changes(pairs), section=section)


# Which value holds


def test_profile_beats_default_and_what_one_types_beats_the_profile(root):
    assert (study().settings.size, study().settings.folds, study().settings.epochs) == (32, 2, 200)
    changed = study(("size", "64"), ("epochs", "5")).settings
    assert (changed.size, changed.folds, changed.epochs) == (64, 2, 5)


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("folds", "3", 3),
        ("p_art", "[0, .5]", (0.0, 0.5)),
        ("learning_rate", "1e-5", 1e-5),
        ("task", "007", "007"),
        ("task", "no", "no"),
        ("task", "[half a list", "[half a list"),
        ("recompute", "true", True),
        ("slurm", "{partition: gpu}", {"partition": "gpu"}),
        ("window", "[40, 400]", (40.0, 400.0)),
    ],
)
def test_values_typed_on_the_command_line(root, key, text, value):
    assert getattr(study((key, text)).settings, key) == value


@pytest.mark.parametrize(
    ("key", "text", "complaint"),
    [
        ("folds", "three", "folds = 'three'"),
        ("folds", "2.5", "folds = '2.5'"),
        ("folds", "0", "greater than or equal to 1"),
        ("p_art", "0.5", "p_art = '0.5'"),
        ("p_art", "[0, high]", "p_art.1 = 'high'"),
        ("p_art", "[0, 1.5]", "less than or equal to 1"),
        ("learning_rate", ".nan", "learning_rate = '.nan'"),
        ("executor", "cloud", "'local' or 'slurm'"),
        ("recompute", "perhaps", "recompute = 'perhaps'"),
        ("size", "4", "greater than or equal to 16"),
        ("fold", "3", "unknown setting `fold`. Did you mean folds?"),
        ("tga.height", "3", "unknown setting `tga`. Did you mean tag?"),
        ("tag.hight", "3", "unknown parameter `hight`. Did you mean height?"),
        ("tag.height", "tall", "height = 'tall'"),
        ("gender.size", "4", "gender: Settings: size = '4'"),
        ("ct.noise.domain", "grain", "domain"),
        ("ct.sise", "3", "unknown setting `sise`. Did you mean size?"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_nearest_name(root, key, text, complaint):
    with pytest.raises(StudyError) as caught:
        study((key, text))
    assert complaint in str(caught.value)


def test_all_complaints_come_at_once(root):
    with pytest.raises(StudyError) as caught:
        study(("folds", "0"), ("sise", "3"), ("tag.height", "tall"), ("epochs", "many"))
    for name in ("folds", "sise", "height", "epochs"):
        assert name in str(caught.value)


# Sections


def test_a_confounders_section_holds_its_parameters_and_settings_of_its_runs(root):
    write_profile(root, "size: 32\ntag: {height: 32}\ngender: {size: 48, task: other}\n")
    chosen = study(("tag.letter", "L"), ("gender.batch_size", "8"))
    assert chosen.confounder("tag").label == (
        "tag: draw_tag(height=32, letter=L, reference=1024, x=200, y=200) against original"
    )
    gender = chosen.about("gender").settings
    assert (gender.size, gender.task, gender.batch_size) == (48, "other", 8)
    assert chosen.about("tag") is chosen and chosen.settings.size == 32


def test_the_ct_section_holds_for_ct_only_and_its_sections_lie_on_top(root):
    write_profile(root, "size: 32\nnoise: {n0: 1.0e+6}\nct: {size: 64, noise: {domain: projection, epochs: 3}}\n")
    plain, ct = study(), study(section="ct")
    assert (plain.settings.size, ct.settings.size, ct.about("noise").settings.size) == (32, 64, 64)
    assert ct.about("noise").settings.epochs == 3 and ct.settings.epochs == plain.settings.epochs == 200
    assert plain.confounder("noise").carrier.label == "poisson_noise(n0=1e+06)"
    assert ct.confounder("noise").carrier.label == "projection_noise(n0=1e+06, pixel_mm=0.7, views=360)"
    assert study(("ct.noise.n0", "5e5"), section="ct").confounder("noise").n0 == 5e5


def test_a_section_that_nobody_reads_is_refused(root):
    with pytest.raises(StudyError, match="unknown section `mr`.* Known: ct, own"):
        study(section="mr")


def test_a_confounder_that_there_is_not_is_refused_with_the_nearest_name(root):
    for asked in (study().confounder, study().design, study().run):
        with pytest.raises(StudyError, match="unknown confounder `tga`. Did you mean tag?"):
            asked("tga")


def test_merged_replaces_mappings_that_are_values():
    values = {"weights": {"a": "1"}, "tag": {"height": 1, "x": 2}}
    assert settings.merged(values, {"weights": {"b": "2"}, "tag": {"x": 3}}) == {
        "weights": {"b": "2"},
        "tag": {"height": 1, "x": 3},
    }


# Notebooks' own names


def test_a_notebooks_names_are_settings_on_top_of_the_profile(root):
    names = {
        "profile": "demo", "results": str(root / "out"), "epochs": 5, "p_art": None, "tag": {"height": 16},
        "_hidden": 1, "In": [], "Out": {}, "Study": Study, "pd": pd,
    }  # fmt: skip
    chosen = Study.of(names)
    assert (chosen.settings.epochs, chosen.settings.folds, chosen.confounder("tag").height) == (5, 2, 16)
    assert chosen.workspace.own("tables") == root / "out" / "tables"
    assert Study.of({"profile": "demo", "results": ""}).workspace.own("") == root / "results" / "demo"
    with pytest.raises(StudyError, match="unknown setting `epoch`. Did you mean epochs?"):
        Study.of({"epoch": 5})


def test_what_differs_from_the_profile_is_shown(root):
    write_profile(root, "size: 32\ntag: {height: 64}\n")
    table = settings.as_table(study(("epochs", "5"), ("tag.height", "32")).values, study().profile_values)
    differs = table[table["value"] != table["profile"]].set_index("setting")
    assert differs["value"].to_dict() == {"epochs": "5", "tag.height": "32"}
    assert differs["profile"].to_dict() == {"epochs": "200", "tag.height": "64"}
    assert "<td>tag.height</td>" in study(("tag.height", "32"))._repr_html_()
    assert "Nothing differs" in study()._repr_html_()


# Files


def test_paths_start_where_they_were_written(root, tmp_path, monkeypatch):
    here = tmp_path / "here"
    (here / "images").mkdir(parents=True)
    monkeypatch.chdir(here)
    write_profile(root, "data: ../shared/nih\nct: {data: scans/lidc}\n")
    assert study().settings.data == str(tmp_path / "shared" / "nih")
    assert study(section="ct").settings.data == str(root / "scans" / "lidc")
    for text, value in [("images", here / "images"), ("./new", here / "new"), ("phantoms", "phantoms")]:
        assert study(("data", text)).settings.data == str(value)
    assert study(("splits", "images/chest14")).settings.splits == str(here / "images" / "chest14")
    assert study(("splits", "published")).settings.splits == "published"


def test_a_path_may_hold_what_yaml_would_read_otherwise(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a #2: 100%.csv", "[old].csv", "'quoted'.csv", "caf\u00e9.csv"):
        (tmp_path / name).touch()
        for text in (name, str(tmp_path / name)):
            assert study(("data", text)).settings.data == str(tmp_path / name)
            assert settings.read_changes([("own.data", text)]) == {"own": {"data": str(tmp_path / name)}}
    assert study(("data", "cafe\u0301.csv")).settings.data == str(tmp_path / "caf\u00e9.csv")
    assert study(("data", "/not there #2")).settings.data == "/not there #2"
    assert settings.read_changes([("weights.mine", "./a #2.pt")]) == {"weights": {"mine": str(tmp_path / "a #2.pt")}}
    assert settings.read_changes([("weights.mine.mean", "[.5, .5, .5]")])["weights"]["mine"]["mean"] == [
        ".5",
        ".5",
        ".5",
    ]


def test_what_data_mean_is_set_by_mappings_and_lists_and_its_folders_are_placed(root, tmp_path, monkeypatch):
    write_profile(root, "root: films\nlabels: ./l.csv\ncolumns: {path: File, age: Age}\nbands: {age: [0, 40, 90]}\n")
    (root / "films").mkdir()
    asked = study(("positive", "[1, yes]"), ("columns", "{label: Mass}"), ("ct.bands", "{}")).settings
    assert (asked.root, asked.labels) == (str(root / "films"), str(root / "l.csv"))
    assert (asked.positive, asked.columns, asked.bands) == (("1", "yes"), {"label": "Mass"}, {"age": (0.0, 40.0, 90.0)})
    assert study(("ct.bands", "{}"), section="ct").settings.bands == {}
    request = asked.request(tmp_path)
    assert request.columns == {"label": "Mass"} and request.bands == asked.bands and hash(request) == hash(request)
    monkeypatch.chdir(tmp_path)
    assert study(("root", "./here"), ("labels", "./t.csv")).settings.root == str(tmp_path / "here")
    with pytest.raises(StudyError, match="the edges of age should rise"):
        study(("bands", "{age: [40, 0]}"))


@pytest.mark.parametrize("name", ["line\nbreak", "latin\udce9", "tab\there"])
def test_a_name_that_no_file_can_hold_is_refused(root, tmp_path, name):
    with pytest.raises(StudyError, match=r"no path of a file or folder \(it holds .*; rename it\)"):
        Study("demo", {}, tmp_path / name)


def test_weights_are_found_from_where_they_were_written(root, tmp_path, monkeypatch):
    write_profile(root, "weights: {a: data/a.pt, b: {path: data/b.pt, mean: [1, 1, 1]}, c: bare}\n")
    assert study().settings.weights == {
        "a": str(root / "data" / "a.pt"),
        "b": {"path": str(root / "data" / "b.pt"), "mean": ["1", "1", "1"]},
        "c": "bare",
    }
    monkeypatch.chdir(tmp_path)
    assert study(("weights", "{a: ./a.pt}")).settings.weights == {"a": str(tmp_path / "a.pt")}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("folds: 2\nfolds: 3\n", "folds is given more than once"),
        ("tag: {height: 1, height: 2}\n", "height is given more than once"),
        ("- folds\n", "lines of the form"),
        ("folds: [2\n", "not readable as YAML"),
        ("folds: \x00\n", "not readable as YAML"),
        ("profile: other\n", "calls itself profile 'other'"),
        ("tag: 3\n", "is no section"),
    ],
)
def test_profiles_that_cannot_be_read(root, text, complaint):
    write_profile(root, text)
    with pytest.raises(StudyError, match=re.escape(complaint)):
        study()


def test_profiles_by_name_and_by_path(root, tmp_path):
    with pytest.raises(StudyError, match="unknown profile `dmo`. Did you mean demo\\? Known: demo"):
        study(profile="dmo")
    with pytest.raises(StudyError, match="mine.yaml: no such profile file"):
        study(profile="mine.yaml")
    (tmp_path / "mine.yaml").write_text("")
    assert study(profile=str(tmp_path / "mine.yaml")).profile == "mine"


# The study's own profiles


@pytest.mark.parametrize("name", ["demo", "nih-sample", "paper"])
def test_the_repositorys_profiles_fit_their_settings_and_name_themselves(name):
    assert Study(name).profile == name
    assert (PROFILES / f"{name}.yaml").read_text().count(f"\nprofile: {name}\n") == 1


def test_every_value_of_the_paper_profile_says_where_it_comes_from():
    text = (PROFILES / "paper.yaml").read_text()
    values = [line for line in text.splitlines() if re.match(r" *[a-z_0-9]+: *[^ ]", line)]
    unmarked = [
        line.strip().split(":")[0]
        for line in values
        if not re.search(r"\[(code|files|eq|recalled)\]|keras\.io|Keras's default|\bours\b|all but 25", line)
    ]
    # Names and places of files, the task and splits of CT (there is one), and where CT's noise is drawn, said above it.
    assert unmarked == ["profile", "data", "weights", "data", "task", "splits", "noise_high_vs_low"]
    assert len(values) == 40


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-p", "data", "~nobody-here/x"], "'~nobody-here/x': no path of a file or folder (Could not determine home"),
        (["-p", "weights", "{mine: ~nobody-here/x}"], "'~nobody-here/x': no path of a file or folder"),
        (["--results", "~nobody-here/x"], "'~nobody-here/x': no path of a file or folder"),
        (["--profile", "~nobody-here/x.yaml"], "'~nobody-here/x.yaml': no path of a file or folder"),
        (["-p", "data", "x" * 300], "no path of a file or folder (File name too long"),
    ],
)
def test_what_can_be_no_path_is_refused_in_one_sentence(command, root, arguments, words):
    code, out, err = command("run", "--dry-run", *arguments)
    assert (code, out) == (2, "") and words in err and "Traceback" not in err


@pytest.fixture
def places(root, tmp_path):
    """A profile whose data are a cohort's table, folders of the two releases, and another table."""
    for name in ("cxr14.v2/images", "other/images_001", "LIDC-IDRI"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "LIDC-IDRI" / "LIDC-XML-only.zip").touch()
    (tmp_path / "cxr14.v2" / "Data_Entry_2017.csv").touch()
    write_profile(root, f"data: {tmp_path}/cxr14.v2\nct: {{data: ct-phantoms}}\nplugins: [sourcematters.demo]\n")
    return tmp_path


@pytest.mark.parametrize(
    ("pairs", "folder"),
    [
        ([], "demo"),
        ([("data", "other")], "demo"),
        ([("data", "not-there")], "demo"),
        ([("ct.data", "ct-phantoms")], "demo"),
        ([("data", "my.csv")], "demo-my"),
        ([("data", "a b/my cohort.csv.gz")], "demo-my-cohort"),
        ([("ct.data", "LIDC-IDRI")], "demo-LIDC-IDRI"),
        ([("data", "my.csv"), ("ct.data", "LIDC-IDRI")], "demo-my-LIDC-IDRI"),
        ([("own.data", "my.csv")], "demo-my"),
        ([("data", "phantoms")], "demo-phantoms"),
    ],
)
def test_data_of_another_kind_than_the_profiles_have_a_folder_of_their_own(places, root, monkeypatch, pairs, folder):
    monkeypatch.chdir(places)
    changes = settings.read_changes(pairs)
    assert Study("demo", changes).results == root / "results" / folder
    # Whichever section a notebook is of, it is the same study; and what is typed in a cell is as `-p`.
    assert Study("demo", changes, section="ct").results == root / "results" / folder
    names = dict(pairs) if all("." not in name for name, _ in pairs) else changes
    assert Study.of(names, "own").results == root / "results" / folder
    assert Study.of(names | {"results": str(places / "mine")}).results == places / "mine"


def test_what_is_not_there_is_of_no_kind(root, places, monkeypatch):
    monkeypatch.chdir(places)
    write_profile(root, "data: data/cxr14\n")
    assert Study("demo", settings.read_changes([("data", "cxr14.v2")])).results == root / "results" / "demo"
