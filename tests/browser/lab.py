"""A JupyterLab server on a small copy of the project, and a browser in which its notebooks are opened."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[2]
PATIENCE = 600  # s, on a busy machine; a notebook here takes some 20 by itself
TOKEN = "a-token-of-these-tests"
SETTINGS = {  # of JupyterLab: cells out of sight stay in the page, and nobody is asked for news
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True},
}
SERVER = {
    "ServerApp": {"allow_root": True, "open_browser": False, "port_retries": 0, "ip": "127.0.0.1"},
    "IdentityProvider": {"token": TOKEN},
    "LabApp": {
        "expose_app_in_browser": True,
        "extension_manager": "readonly",
        "news_url": None,
        "check_for_updates_class": "jupyterlab.handlers.announcements.NeverCheckForUpdate",
    },
}


def copy_of_the_project(folder, profile, parameters=""):
    """Copy package and notebooks into `folder`, the notebooks on a profile file of this text, and return `folder`.

    Each writes to folder/results/small; `parameters` are lines added to their parameters cell.
    """
    ignored = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
    for name in ("sourcematters", "notebooks"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    (folder / "notebooks" / "profiles" / "small.yaml").write_text(profile)
    for path in (folder / "notebooks").glob("[0-9]*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        cell = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
        cell.source += f'\nprofile = "small"\nresults = "{folder / "results" / "small"}"\n{parameters}'
        nbformat.write(notebook, path)
    return folder


@contextlib.contextmanager
def server(project, home):
    """The address of a JupyterLab that serves `project`, with configuration, runtime files and settings in `home`."""
    for name, values in SETTINGS.items():
        path = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(values))
    (home / "config").mkdir()
    (home / "config" / "jupyter_server_config.json").write_text(json.dumps(SERVER))
    places = {
        "HOME": "", "JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces", "IPYTHONDIR": "ipython",
    }  # fmt: skip
    environment = {**os.environ, **{name: str(home / place) for name, place in places.items()}}
    environment |= {"PYTHONPATH": str(project), "MPLCONFIGDIR": str(home / "matplotlib")}
    environment.pop("SOURCEMATTERS_HEADLESS", None)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.port={port}", f"--ServerApp.root_dir={project}"]
    with open(home / "log", "wb") as log:
        process = subprocess.Popen(command, env=environment, cwd=project, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{address}/api?token={TOKEN}", timeout=5).close()
                break
            assert process.poll() is None, (home / "log").read_text()
            time.sleep(0.2)
        else:
            raise AssertionError(f"JupyterLab does not answer: {(home / 'log').read_text()}")
        yield address
    finally:
        process.terminate()  # it ends its kernels
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


class Lab:
    """A notebook as somebody sees it in JupyterLab; `asked` are the addresses that its page asked for."""

    def __init__(self, page, address):
        self.page, self.address, self.asked = page, address, []
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("websocket", lambda socket: self.asked.append(socket.url))

    def open(self, name):
        """Open a notebook, and wait for its kernel."""
        self.page.goto(f"{self.address}/lab/tree/notebooks/{name}.ipynb?token={TOKEN}&reset")
        self.page.wait_for_function(
            "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'",
            timeout=1000 * PATIENCE,
        )
        return self

    def run_all(self):
        """Start all cells, as the menu does."""
        self.page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }")

    @property
    def cells(self):
        """The notebook's cells as they are now."""
        model = "window.jupyterapp.shell.currentWidget.content.model.sharedModel"
        return nbformat.from_dict(self.page.evaluate(f"() => {model}.cells.map(cell => cell.toJSON())"))

    @property
    def errors(self):
        """What the outputs say of errors."""
        outputs = [output for cell in self.cells for output in cell.get("outputs", [])]
        return ["\n".join(output.traceback) for output in outputs if output.output_type == "error"]

    def wait_for_the_last_cell(self):
        """Wait until all cells were run, and nothing more is."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            assert not self.errors, self.errors
            code = [cell for cell in self.cells if cell.cell_type == "code"]
            if code[-1].execution_count and self.status == "idle":
                return
            time.sleep(1)
        raise AssertionError(f"not done within {PATIENCE} s: {[cell.execution_count for cell in code]}")

    @property
    def status(self):
        """The kernel's."""
        return self.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status")

    def cell(self, words):
        """The cell whose source holds these words, as a part of the page."""
        number = next(number for number, cell in enumerate(self.cells) if words in cell.source)
        return self.page.locator(".jp-Notebook .jp-Cell").nth(number)

    def slider(self, cell, name):
        """The handle of a slider called `name`."""
        row = cell.locator(".widget-inline-hbox", has=self.page.locator(f".widget-label:text-is('{name}')"))
        return row.locator(".noUi-handle")

    @property
    def elsewhere(self):
        """The addresses that are neither the server's nor the page's own."""
        ours = (self.address, self.address.replace("http", "ws"), "data:", "blob:", "about:")
        return [url for url in self.asked if not url.startswith(ours)]

    def close(self):
        """Leave the notebook, and end its kernel."""
        self.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
        self.page.close()
