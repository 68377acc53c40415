"""A cell that is stopped, or fails for a reason outside the code, says one sentence, as JupyterLab would show it."""

import os
import subprocess
import sys
import time

import nbformat
import pytest
from nbclient import NotebookClient
from tiny_runs import make_cohort

from sourcematters.cohorts import tables
from sourcematters.errors import Stopped, StudyError, stoppable

STUDY = """
import os
os.environ.pop("SOURCEMATTERS_HEADLESS", None)
from sourcematters.study import Study
study = Study("demo", {{
    "data": {data!r}, "task": "brightness", "sources": ["random"], "backbone": "test_resnet", "p_art": [0, 1],
    "folds": 2, "size": 32, "epochs": 100000, "patience": 100000, "device": "cpu", "workers": {workers},
    "tag": {{"height": 300}}, "plugins": [], "smallest_test": 4,
}}, {results!r})
"""


class Interrupted(NotebookClient):
    """A notebook whose last cell is interrupted as by JupyterLab's stop button, once `ready` says so."""

    ready = None

    async def async_execute_cell(self, cell, index, **options):
        import asyncio

        async def stop():
            deadline = time.monotonic() + 120
            while not self.ready() and time.monotonic() < deadline:
                await asyncio.sleep(0.1)
            await self.km.interrupt_kernel()

        last = index == len(self.nb.cells) - 1
        task = asyncio.ensure_future(stop()) if last else None
        try:
            return await super().async_execute_cell(cell, index, **options)
        finally:
            if task:
                await task


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stopped_cell_says_how_far_it_is_and_how_to_go_on(tmp_path, workers):
    images = tmp_path / "images"
    images.mkdir()
    tables.write_csv(tmp_path / "cohort.csv", make_cohort(images).table)
    runs = tmp_path / "results" / "runs"
    text = STUDY.format(data=str(tmp_path / "cohort.csv"), results=str(tmp_path / "results" / "mine"), workers=workers)
    cells = [nbformat.v4.new_code_cell(source) for source in (text, 'study.run("tag")')]
    client = Interrupted(
        nbformat.v4.new_notebook(cells=cells), allow_errors=True, timeout=180, coalesce_streams=True,
        resources={"metadata": {"path": str(tmp_path)}},
    )  # fmt: skip
    # Some run has passed an epoch: all of its workers train.
    client.ready = lambda: len(list(runs.glob(".*/heartbeat"))) == workers
    client.execute()
    outputs = cells[1].outputs
    (error,) = (output for output in outputs if output.output_type == "error")
    assert error.ename == "Stopped"
    assert error.traceback == ["stopped; run the cell again to go on: 0 of 4 runs are done"]
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    assert "Traceback" not in printed and "KeyboardInterrupt" not in printed
    assert "tag.csv" in os.listdir(tmp_path / "results" / "mine" / "plans")


def test_what_is_wrong_outside_the_code_is_one_sentence_in_a_cell():
    source = "from sourcematters.errors import StudyError\n\ndef f():\n    raise StudyError('a.csv: is empty.')\n\nf()"
    client = NotebookClient(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)]), allow_errors=True)
    (error,) = client.execute().cells[0].outputs
    assert (error.ename, error.evalue, error.traceback) == ("StudyError", "a.csv: is empty.", ["a.csv: is empty."])


def test_an_interruption_stays_one_to_all_that_handles_it():
    @stoppable()
    def cell():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="^stopped; run the cell again to go on$") as caught:
        cell()
    assert isinstance(caught.value, Stopped) and not isinstance(caught.value, Exception)
    with pytest.raises(Stopped, match="go on: 2 of 3$"), stoppable(lambda: "2 of 3"):
        cell()
    with pytest.raises(StudyError, match="^x$"), stoppable():
        raise StudyError("x")


@pytest.mark.parametrize(
    ("encoding", "printed"),
    [
        ("latin-1", b"\\u0142 \xe9 \\U0001fac1 \\udce9"),
        ("ascii", b"\\u0142 \\xe9 \\U0001fac1 \\udce9"),
        ("cp1252", b"\\u0142 \xe9 \\U0001fac1 \\udce9"),
        ("utf-8", "ł é 🫁 ".encode() + b"\\udce9"),
    ],
)
def test_no_letter_ends_the_work(encoding, printed):
    code = "import sys; from sourcematters.errors import printable; printable();"
    code += "[print('\\u0142 \\xe9 \\U0001fac1 \\udce9', file=file) for file in (sys.stdout, sys.stderr)]"
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, printed + b"\n", printed + b"\n")
