"""The notebook runner, on tiny notebooks; the few that execute do so in a real kernel."""

import ast
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest

from sourcematters import __main__, files, pipeline
from sourcematters.errors import StudyError
from sourcematters.parameters import Parameter

ROOT = Path(__file__).parents[1]
DECLARED = """\
results: str = ""  # folder of all results
data: str = "phantoms"  # folder of images, or phantoms
folds: int = 5  # repeats
p_art: list[float] = [0, 1]  # strengths
lr = 1e-3  # learning rate
note: str = ""  # shown on every figure
limit: int | None = None  # images at most
quick = False  # fewer epochs
"""


def write_notebook(root, name, *sources, parameters=DECLARED, title="Tag", cost="Cost: 1 s"):
    cells = [nbformat.v4.new_markdown_cell(f"# {title}\n\nWhat it shows.\n\n**{cost}**")]
    cells += [nbformat.v4.new_code_cell(source) for source in (parameters, *sources)]
    cells[1].metadata["tags"] = ["parameters"]
    (root / "notebooks" / "profiles").mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells), root / "notebooks" / f"{name}.ipynb")


def write_profile(root, text, name="demo"):
    (root / "notebooks" / "profiles" / f"{name}.yaml").write_text(text)


@pytest.fixture
def root(tmp_path):
    """A clone with two notebooks that declare the same parameters, one more that has its own, and a profile."""
    root = tmp_path / "a clone"
    write_notebook(root, "10_prepare", parameters="size: int = 64  # pixels", title="Prepare")
    write_notebook(root, "20_tag")
    write_notebook(root, "21_noise", title="Noise")
    write_profile(root, "folds: 2\nsize: 32\n")
    return root


@pytest.fixture
def command(root, monkeypatch, capsys):
    """Call the command line on the clone; gives (exit code, standard output, standard error)."""
    monkeypatch.setattr(pipeline, "ROOT", root)

    def call(*arguments):
        code = __main__.main(arguments)
        return code, *capsys.readouterr()

    handlers = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield call
    for name, handler in handlers.items():
        signal.signal(name, handler)


def given(plan):
    return {notebook.name: parameters for notebook, parameters in plan.steps}


# What is given to which notebook


def test_each_notebook_gets_what_it_declares(root):
    plan = pipeline.plan(root, "demo", [("note", "007")])
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
    got = given(pipeline.plan(root, "demo", [(key, text)]))["20_tag"][key]
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
        pipeline.plan(root, "demo", [(key, text)])
    assert f"-p {key}" in str(caught.value) and f"wanted: {wanted}, as in 20_tag.ipynb" in str(caught.value)


def test_profile_values_are_not_guessed_at(root):
    write_profile(root, "note: 3\n")
    with pytest.raises(StudyError, match="profile demo: note = 3, wanted: text, as in 20_tag.ipynb"):
        pipeline.plan(root, "demo")


def test_unknown_parameters_are_refused_with_a_hint(root):
    with pytest.raises(StudyError, match="-p: unknown parameter `fold`. Did you mean folds\\? Known: data, folds"):
        pipeline.plan(root, "demo", [("fold", "3")])
    write_profile(root, "sise: 3\n")
    with pytest.raises(StudyError, match="profile demo: unknown parameter `sise`. Did you mean size\\?"):
        pipeline.plan(root, "demo")


def test_an_override_must_reach_a_chosen_notebook_but_a_profile_need_not(root):
    with pytest.raises(StudyError, match="-p, for 20: unknown parameter `size`.* Known: data, folds"):
        pipeline.plan(root, "demo", [("size", "3")], only=["20"])
    assert list(given(pipeline.plan(root, "demo", only=["20"]))) == ["20_tag"]


def test_the_results_folder_has_its_own_option(root):
    with pytest.raises(StudyError, match="--results FOLDER"):
        pipeline.plan(root, "demo", [("results", "x")])


def test_paths_are_relative_to_where_they_were_written(root, tmp_path, monkeypatch):
    here = tmp_path / "here"
    (here / "images").mkdir(parents=True)
    monkeypatch.chdir(here)
    write_profile(root, "data: ../shared/nih\n")
    plan = pipeline.plan(root, "demo", results="out")
    assert given(plan)["20_tag"] == {
        "results": str(here / "out" / "demo"),
        "data": str(tmp_path / "shared" / "nih"),
    }
    for text, value in [("images", here / "images"), ("./new", here / "new"), ("phantoms", "phantoms"), ("", "")]:
        assert given(pipeline.plan(root, "demo", [("data", text)]))["20_tag"]["data"] == str(value)
    splits = Parameter("splits", "own", str, "")
    assert splits.parsed("images/chest14", here) == str(here / "images" / "chest14")
    assert splits.parsed("published", here) == "published" and splits.parsed("own", here) == "own"


@pytest.mark.parametrize("name", ["20", "20_tag", "tag", "20_tag.ipynb", "notebooks/20_tag.ipynb"])
def test_only(root, name):
    assert list(given(pipeline.plan(root, "demo", only=[name]))) == ["20_tag"]


def test_only_keeps_the_order_and_refuses_unknown_names(root):
    assert list(given(pipeline.plan(root, "demo", only=["21", "10"]))) == ["10_prepare", "21_noise"]
    with pytest.raises(StudyError, match="unknown notebook `2`.* Known: 10_prepare, 20_tag, 21_noise"):
        pipeline.plan(root, "demo", only=["2"])


def test_a_profile_may_choose_notebooks(root):
    write_notebook(root, "00_first")
    write_profile(root, "notebooks: [00, 21]\n")
    assert list(given(pipeline.plan(root, "demo"))) == ["00_first", "21_noise"]
    assert list(given(pipeline.plan(root, "demo", only=["20"]))) == ["20_tag"]


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
        pipeline.plan(root, "demo")


def test_profiles_by_name_and_by_path(root, tmp_path):
    with pytest.raises(StudyError, match="unknown profile `dmo`. Did you mean demo\\? Known: demo"):
        pipeline.plan(root, "dmo")
    with pytest.raises(StudyError, match="mine.yaml: no such profile file"):
        pipeline.plan(root, "mine.yaml")
    (tmp_path / "mine.yaml").write_text("")
    plan = pipeline.plan(root, str(tmp_path / "mine.yaml"))
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
        pipeline.plan(root, "demo")


def test_a_notebook_without_parameters_cell_or_without_json(root):
    path = root / "notebooks" / "20_tag.ipynb"
    nbformat.write(nbformat.v4.new_notebook(), path)
    with pytest.raises(StudyError, match="20_tag.ipynb: 0 of its cells are tagged"):
        pipeline.plan(root, "demo")
    path.write_text("{")
    with pytest.raises(StudyError, match="20_tag.ipynb: not readable as a notebook"):
        pipeline.plan(root, "demo")


def test_a_folder_without_notebooks(tmp_path):
    with pytest.raises(StudyError, match="no notebooks here"):
        pipeline.plan(tmp_path, "demo")


# The command line


def test_list(command):
    code, out, _ = command("run", "--list")
    assert code == 0
    assert "20_tag  Tag\n    Cost: 1 s\n    results = ''  folder of all results\n" in out
    assert "    folds = 5  repeats\n" in out
    assert out.endswith("profiles: demo\n")


def test_dry_run_shows_the_parameters_and_runs_nothing(command, root):
    code, out, _ = command("run", "--dry-run", "--only", "20", "-p", "lr", "0.1")
    assert code == 0
    for line in ("folds = 2\n", "lr = 0.1\n", "quick = False  (default)\n"):
        assert f"    {line}" in out
    assert not (root / "results").exists()


def test_errors_are_one_line_and_exit_code_2(command):
    assert command("run", "-p", "fold", "3")[0] == 2
    code, out, err = command("run", "--profile", "none")
    assert (code, out) == (2, "") and err.startswith("error: unknown profile") and err.count("\n") == 1


def test_verify_exits_1_when_there_are_problems(command, tmp_path):
    from PIL import Image

    rows = ["image_id,path,patient_id,label,split"]
    for i in range(8):
        Image.frombytes("L", (8, 8), bytes(range(i, i + 64))).save(tmp_path / f"{i}.png")
        rows.append(f"{i},{tmp_path / f'{i}.png'},p{i},{i % 2},{'dev' if i < 4 else 'test'}")
    (tmp_path / "cohort.csv").write_text("\n".join(rows))
    arguments = ("verify", str(tmp_path / "cohort.csv"), "--task", "x")
    assert command(*arguments)[0] == 0
    (tmp_path / "5.png").write_bytes((tmp_path / "5.png").read_bytes()[:40])
    code, out, _ = command(*arguments)
    assert code == 1 and "5.png" in out


# Execution


def test_a_run_from_end_to_end(command, root, monkeypatch, tmp_path):
    shadow = tmp_path / "jupyter" / "kernels" / "python3"
    shadow.mkdir(parents=True)
    files.write_json(
        shadow / "kernel.json", {"argv": ["/no/such/python", "{connection_file}"], "display_name": "", "language": ""}
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    source = """
import os, sys
from pathlib import Path
(Path(results) / "seen.txt").write_text(repr([sys.executable, os.getcwd(), folds, p_art, lr]))
print("to the user", file=sys.stderr)
"""
    write_notebook(root, "20_tag", source)
    code, out, err = command("run", "--only", "20", "-p", "p_art", "[0.5]")
    folder = root / "results" / "demo"
    assert code == 0 and out.startswith("[1/1] 20_tag  ") and f"{folder}/index.html" in out
    assert "to the user" in err
    seen = ast.literal_eval((folder / "seen.txt").read_text())
    assert seen == [sys.executable, str(root / "notebooks"), 2, [0.5], 1e-3]
    assert sorted(p.name for p in (folder / "notebooks").iterdir()) == ["20_tag.html", "20_tag.ipynb"]
    assert "notebooks/20_tag.html" in (folder / "index.html").read_text()
    assert "to the user" in (folder / "notebooks" / "20_tag.html").read_text()
    told = nbformat.read(folder / "notebooks" / "20_tag.ipynb", as_version=4).metadata.papermill
    assert told.parameters["folds"] == 2 and told.parameters["quick"] is False and told.exception is False
    assert not (nbformat.read(root / "notebooks" / "20_tag.ipynb", 4).cells[2].outputs)


def test_a_failing_notebook_stops_the_run(command, root):
    failing = "from sourcematters.errors import StudyError\nraise StudyError('a.png: is missing. Get it.')"
    write_notebook(root, "20_tag", "1 + 1", failing)
    code, out, err = command("run", "--only", "20", "--only", "21")
    folder = root / "results" / "demo"
    assert code == 1 and "21_noise" not in out
    assert err.splitlines() == [
        "error: 20_tag.ipynb, cell [4]: a.png: is missing. Get it.",
        f"  executed up to there: {folder}/notebooks/20_tag.html",
    ]
    executed = nbformat.read(folder / "notebooks" / "20_tag.ipynb", as_version=4)
    assert [c.execution_count for c in executed.cells if c.cell_type == "code"] == [1, 2, 3, 4]
    assert not (folder / "notebooks" / "21_noise.ipynb").exists()
    assert "<span class='failed'>failed</span>" in (folder / "index.html").read_text()


def test_a_killed_kernel_is_told_from_an_error(command, root):
    write_notebook(root, "20_tag", "import os\nos.kill(os.getpid(), 9)")
    code, _, err = command("run", "--only", "20")
    assert code == 1 and "20_tag.ipynb, cell [3]: the kernel was killed" in err
    assert "failed" in (root / "results" / "demo" / "index.html").read_text()


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX systems")
def test_an_interrupted_run_leaves_no_notebook_and_no_process(root, tmp_path):
    source = f"""
import os, subprocess, sys, time
from pathlib import Path
deaf = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
child = subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE)
child.stdout.readline()
Path({str(tmp_path)!r}, "pids.tmp").write_text(f"{{os.getpid()}} {{child.pid}}")
os.rename({str(tmp_path / "pids.tmp")!r}, {str(tmp_path / "pids")!r})
try:
    time.sleep(60)
finally:
    Path({str(tmp_path)!r}, "tidied").touch()
"""
    write_notebook(root, "20_tag", source)
    script = "import sys; from pathlib import Path; from sourcematters import __main__, pipeline"
    script += f"\npipeline.ROOT = Path({str(root)!r})\nsys.exit(__main__.main(['run', '--only', '20']))"
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", script], stderr=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(scratch)}
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "pids").exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.endswith("interrupted; start the same command again to go on\n") and "Traceback" not in err
    assert (tmp_path / "tidied").exists()
    assert list((root / "results" / "demo" / "notebooks").iterdir()) == []
    assert list(scratch.iterdir()) == []
    for pid in map(int, (tmp_path / "pids").read_text().split()):
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


# The repository's own notebooks


def test_the_repository_has_notebooks_and_its_profiles_fit_them():
    assert pipeline.notebooks(ROOT)
    profiles = [path.stem for path in (ROOT / "notebooks" / "profiles").glob("*.yaml")]
    assert "demo" in profiles
    for profile in profiles:
        assert pipeline.plan(ROOT, profile).steps


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_repository_notebooks_keep_the_house_rules(path):
    notebook = pipeline.read_notebook(path)
    cells = nbformat.read(path, as_version=4).cells
    assert cells[0].cell_type == "markdown" and cells[0].source.startswith("# ")
    assert notebook.cost, "the first cell says what the notebook costs, on a line `Cost: ...`"
    assert {name for name, parameter in notebook.parameters.items() if not parameter.help} == set()
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
