"""Notebooks: what is read of them, which are chosen, and every run that they foretell."""

import re
import subprocess
from pathlib import Path

import nbformat
import pytest
from tiny_study import write_notebook, write_profile

from sourcematters.errors import StudyError
from sourcematters.results import published
from sourcematters.study import notebooks
from sourcematters.study.study import papers_runs

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def names(plan):
    return [notebook.name for notebook in plan.notebooks]


def test_title_cost_section_and_grids_are_read_without_running_it(root):
    prepare, tag, noise = notebooks.notebooks()
    assert (prepare.title, prepare.cost, prepare.grids) == ("Prepare", "Cost: 1 s", ())
    assert (tag.section, tag.grids) == ("", (("tag",),))
    assert (noise.section, noise.grids) == ("ct", (("noise", "noise_high_vs_low"),))


def test_every_notebook_is_given_the_profile_the_folder_and_what_was_typed(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = notebooks.plan("demo", [("epochs", "3"), ("tag.height", "16")], results="out")
    assert plan.folder == tmp_path / "out" / "demo"
    assert plan.parameters == {
        "profile": "demo", "results": str(plan.folder), "epochs": "3", "tag": {"height": "16"},
    }  # fmt: skip
    assert names(plan) == ["10_prepare", "20_tag", "21_noise"]


@pytest.mark.parametrize("name", ["20", "20_tag", "tag", "20_tag.ipynb", "notebooks/20_tag.ipynb"])
def test_only(root, name):
    assert names(notebooks.plan("demo", only=[name])) == ["20_tag"]


def test_only_keeps_the_order_and_refuses_unknown_names(root):
    assert names(notebooks.plan("demo", only=["21", "10"])) == ["10_prepare", "21_noise"]
    with pytest.raises(StudyError, match="unknown notebook `02`.* Known: 10_prepare, 20_tag, 21_noise"):
        notebooks.plan("demo", only=["2"])


def test_a_profile_may_choose_notebooks(root):
    write_notebook(root, "00_first")
    write_profile(root, "notebooks: [0, 21]\n")
    assert names(notebooks.plan("demo")) == ["00_first", "21_noise"]
    assert names(notebooks.plan("demo", only=["20"])) == ["20_tag"]


def test_folder_and_profile_have_options_of_their_own(root):
    with pytest.raises(StudyError, match="--results FOLDER"):
        notebooks.plan("demo", [("results", "x")])


def test_data_of_ones_own_do_not_run_the_profiles_other_data_unasked(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_notebook(root, "30_figures", "study = Study.of(globals())\nruns = study.collected()")
    write_profile(root, "plugins: [sourcematters.demo]\ndata: phantoms\ntask: lesion\nct: {data: ct-phantoms}\n")
    every, mine, ct = ["10_prepare", "20_tag", "21_noise", "30_figures"], ("data", "my.csv"), ("ct.data", "ct.csv")
    x_ray = [name for name in every if name != "21_noise"]
    for given, only, expected in (
        ([], [], every),
        ([mine], [], x_ray),
        ([mine, ct], [], every),
        ([mine, ("ct.data", "ct-phantoms")], [], every),
        ([ct], [], ["21_noise", "30_figures"]),
        ([ct, ("data", "phantoms")], [], every),
        ([mine], ["21", "20"], ["20_tag", "21_noise"]),
        ([mine, ("notebooks", "[21]")], [], ["21_noise"]),
    ):
        plan = notebooks.plan("demo", given, only)
        assert names(plan) == expected
        assert bool(plan.note) == (len(expected) < len(every) and not only and len(given) == 1)
    plan = notebooks.plan("demo", [mine], results="out")
    assert plan.folder == tmp_path / "out" / "demo-my" and plan.parameters["results"] == str(plan.folder)


def test_what_is_left_out_is_said_in_one_line_with_how_to_get_it(command):
    code, out, err = command("run", "--dry-run", "-p", "data", "my.csv", "-p", "task", "any")
    assert code == 0 and err.count("\n") == 1
    assert err.startswith("note: left out, as their data would be the profile's: 11_prepare_lidc_idri, 23_noise_ct (")
    assert "-p ct.data" in err and "--only" in err and "/results/demo-my\n" in out and "23_noise_ct" not in out
    assert command("run", "--dry-run", "-p", "data", "my.csv", "--only", "23")[2] == ""
    assert command("run", "--dry-run")[2] == ""


def test_a_notebook_without_parameters_cell_or_without_json(root):
    path = root / "notebooks" / "20_tag.ipynb"
    nbformat.write(nbformat.v4.new_notebook(), path)
    with pytest.raises(StudyError, match="20_tag.ipynb: 0 of its cells are tagged"):
        notebooks.plan("demo")
    path.write_text("{")
    with pytest.raises(StudyError, match="20_tag.ipynb: not readable as a notebook"):
        notebooks.plan("demo")


def test_a_folder_without_notebooks(root):
    for path in (root / "notebooks").glob("*.ipynb"):
        path.unlink()
    with pytest.raises(StudyError, match="no notebooks here"):
        notebooks.plan("demo")


def test_an_edited_notebook_is_told_from_what_is_committed(root):
    def git(*arguments):
        subprocess.run(["git", "-C", root, "-c", "user.name=a", "-c", "user.email=a@b", *arguments], check=True)

    available = notebooks.notebooks()
    assert notebooks.changed(available) == [], "not under git: nothing to compare with"
    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "all")
    path = root / "notebooks" / "20_tag.ipynb"
    executed = nbformat.read(path, as_version=4)
    executed.cells[1].execution_count = 7  # as JupyterLab saves it: no edit
    nbformat.write(executed, path)
    assert notebooks.changed(available) == []
    write_notebook(root, "20_tag", 'study.run("tag")', parameters='profile = "demo"\nresults = ""\nepochs = 3')
    assert notebooks.changed(available) == ["20_tag"]


# The study's own notebooks


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_repository_notebooks_keep_the_house_rules(path):
    notebook = notebooks.read_notebook(path)
    cells = nbformat.read(path, as_version=4).cells
    assert cells[0].cell_type == "markdown" and cells[0].source.startswith("# ")
    assert notebook.cost, "the first cell says what the notebook costs, on a line `Cost: ...`"
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert all(re.search(r"  # \w", line) for line in code[0].source.splitlines()), "each parameter says what it is"
    lines = [line for cell in code[1:] for line in cell.source.splitlines() if line.strip()]
    assert len(lines) <= 25, "a notebook reads as statements"


def runs_of(profile, *overrides):
    plan = notebooks.plan(profile, overrides)
    return {notebook.name: specs for notebook in plan.notebooks if (specs := notebooks.outline(plan, notebook))}


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


def test_the_paper_profile_has_every_panel_of_the_published_curves():
    runs = [spec for specs in runs_of("paper").values() for spec in specs]
    for name, panel in published.table("panels").set_index("panel").iterrows():
        specs = [s for s in runs if (s.task, s.confounder.name) == (panel["task"], panel["confounder"])]
        assert len(specs) == 90, name
    # What ours is compared with: the X-ray half of it.
    on_x_rays = {
        spec.id for spec in runs if spec.task != "lung-mass-ct" and spec.confounder.name != "noise_high_vs_low"
    }
    assert {spec.id for spec in papers_runs()} == on_x_rays and len(on_x_rays) == 4 * 90


# The command line


def test_list_names_all_that_can_be_named(command):
    code, out, _ = command("run", "--list")
    assert code == 0
    for line in (
        "  20_tag  Tag: a letter in the corner\n",
        "  folds = 5  repeats with other training and validation patients\n",
        "  size = 512  px",
        "      height = 64  px",
        "  own: {...}",
        "PROFILES  demo, nih-sample, paper",
    ):
        assert line in out
    for word in ("noise_high_vs_low", "gender", "attribute", "LIDC-IDRI", "radimagenet-keras", "phantoms"):
        assert word in out


def test_dry_run_shows_the_settings_and_runs_nothing(command, root):
    code, out, _ = command("run", "--dry-run", "--only", "20", "-p", "learning_rate", "0.1")
    assert code == 0 and "    folds = 2\n" in out and "    learning_rate = 0.1  (profile: 1e-05)\n" in out
    assert not (root / "results").exists()


def test_dry_run_lists_every_run_without_images_or_weights(command):
    code, out, _ = command("run", "--profile", "paper", "--dry-run")
    assert code == 0
    listed = re.findall(r"p_art ([\d.]+) +(\S+) +fold (\d)", out)
    assert len(listed) == 630 and len(set(listed)) == 90
    # Four drawn confounders share p_art = 0, but high against low noise trains on noisy images there.
    assert out.rstrip().endswith("630 runs, 600 fine-tunings")
    assert "tag: draw_tag(height=64" in out and "gender: sex F against M" in out


def test_the_executor_is_a_setting(command):
    given = ("run", "--dry-run", "--only", "20")
    _, out, _ = command(*given, "--executor", "slurm", "-p", "slurm", "{partition: gpu, time: 60}")
    assert "    executor = slurm  (profile: local)\n" in out and "'partition': 'gpu'" in out
    assert "    executor = local\n" in command(*given)[1]


def test_errors_are_one_line_and_exit_code_2(command):
    assert command("run", "-p", "fold", "3")[0] == 2
    code, out, err = command("run", "--profile", "none")
    assert (code, out) == (2, "") and err.startswith("error: unknown profile") and err.count("\n") == 1
    code, _, err = command("run", "--dry-run", "-p", "p_art", "[0, 1.5]")
    assert code == 2 and "1.5" in err
