"""The notebook runner, on tiny notebooks; the few that execute do so in a real kernel."""

import ast
import os
import re
import signal
import subprocess
import sys
import time

import nbformat
import pandas as pd
import psutil
import pytest
from bs4 import BeautifulSoup
from tiny_study import write_notebook

from sourcematters import files
from sourcematters.study import execute


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
(Path(results) / "seen.txt").write_text(repr([sys.executable, os.getcwd(), profile, p_art]))
print("to the user", file=sys.stderr)
"""
    write_notebook(root, "20_tag", source)
    code, out, err = command("run", "--only", "20", "-p", "p_art", "[0.5]")
    folder = root / "results" / "demo"
    assert code == 0 and out.startswith("[1/1] 20_tag  ") and f"{folder}/index.html" in out
    assert "to the user" in err
    seen = ast.literal_eval((folder / "seen.txt").read_text())
    assert seen == [sys.executable, str(root / "notebooks"), "demo", ["0.5"]]
    assert sorted(p.name for p in (folder / "notebooks").iterdir()) == ["20_tag.html", "20_tag.ipynb", "20_tag.sha256"]
    assert "notebooks/20_tag.html" in (folder / "index.html").read_text()
    assert "to the user" in (folder / "notebooks" / "20_tag.html").read_text()
    told = nbformat.read(folder / "notebooks" / "20_tag.ipynb", as_version=4).metadata.papermill
    assert told.parameters["p_art"] == ["0.5"] and told.exception is False
    table = pd.read_csv(folder / "tables" / "settings.csv").set_index("setting")
    assert table.loc["p_art", "value"] == "0.5" and table.loc["folds", "value"] == "2"
    assert not (nbformat.read(root / "notebooks" / "20_tag.ipynb", 4).cells[2].outputs)


def test_a_failing_notebook_stops_the_run(command, root):
    failing = "from sourcematters.errors import StudyError\nraise StudyError('a.png: is missing. Get it.')"
    write_notebook(root, "20_tag", "1 + 1", failing)
    write_notebook(root, "30_figures")
    code, out, err = command("run", "--only", "20", "--only", "30")
    folder = root / "results" / "demo"
    assert code == 1 and "30_figures" not in out
    assert err.splitlines() == [
        "error: 20_tag.ipynb, cell [4]: a.png: is missing. Get it.",
        f"  executed up to there: {folder}/notebooks/20_tag.html",
    ]
    executed = nbformat.read(folder / "notebooks" / "20_tag.ipynb", as_version=4)
    assert [c.execution_count for c in executed.cells if c.cell_type == "code"] == [1, 2, 3, 4]
    (told,) = executed.cells[-1].outputs
    assert (told.ename, told.traceback) == ("StudyError", ["a.png: is missing. Get it."])
    assert not (folder / "notebooks" / "30_figures.ipynb").exists()
    assert "<span class='failed'>failed</span>" in (folder / "index.html").read_text()


def test_an_error_that_is_not_ours_keeps_its_name(command, root):
    write_notebook(root, "20_tag", "{}['sex']")
    code, _, err = command("run", "--only", "20")
    assert code == 1 and err.startswith("error: 20_tag.ipynb, cell [3]: KeyError: 'sex'\n")


@pytest.mark.parametrize(
    ("number", "words"), [(9, "was killed (SIGKILL), usually for want of memory"), (11, "crashed (SIGSEGV): ")]
)
def test_a_kernel_that_dies_is_told_from_an_error(command, root, number, words):
    write_notebook(root, "20_tag", f"import os\nos.kill(os.getpid(), {number})")
    code, _, err = command("run", "--only", "20")
    assert code == 1 and f"20_tag.ipynb, cell [3]: the kernel {words}" in err
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
    script = "import sys; from pathlib import Path; from sourcematters import __main__"
    script += "\nfrom sourcematters.study import settings"
    script += f"\nsettings.ROOT = Path({str(root)!r})\nsys.exit(__main__.main(['run', '--only', '20']))"
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


def test_a_notebooks_page_loads_nothing_from_elsewhere():
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "x"}, "text/plain": "3 of 3 runs"}
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_markdown_cell("A formula: $x^2$"),
            nbformat.v4.new_code_cell("bar", outputs=[nbformat.v4.new_output("display_data", view)]),
        ],
        metadata={"widgets": {"application/vnd.jupyter.widget-state+json": {"state": {}, "version_major": 2}}},
    )
    page = execute.as_page(notebook, "A title")
    tags = re.findall(r"<(?:script|link|img|iframe|video|source)\b[^>]*>", page)
    assert not [tag for tag in tags if re.search(r"(?:src|href)\s*=", tag)]
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", page, re.S)
    assert not [script for script in scripts if "http" in script or "import(" in script]
    assert "$x^2$" in page and "3 of 3 runs" in page and "<title>A title</title>" in page
    assert "application/vnd.jupyter.widget-view+json" in notebook.cells[1].outputs[0].data, "the notebook keeps it"


def test_a_notebooks_page_says_what_its_figures_show():
    made = [
        nbformat.v4.new_output("display_data", {"image/png": "iVBORw0KGgo="}, metadata={"image/png": told})
        for told in ({"alt": 'AUC <b> & "chance"', "width": 400}, {})
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("figure", outputs=made)])
    first, second = BeautifulSoup(execute.as_page(notebook, "A title"), "html.parser").select("img")
    assert first["alt"] == 'AUC <b> & "chance"' and first["width"] == "400"
    assert second["alt"] == "A picture without a description"
