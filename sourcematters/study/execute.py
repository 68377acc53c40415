"""The notebook runner: notebooks executed in order by papermill, each left as a notebook and as a page.

It adds what papermill leaves out: the kernel is the interpreter that runs now, whatever kernels the user has
registered; an interrupted notebook leaves no file and no process behind.
"""

import contextlib
import copy
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager

from sourcematters import checksums, files
from sourcematters.processes import ended_by
from sourcematters.report import lasting, write
from sourcematters.study.notebooks import Notebook, Plan, changed
from sourcematters.study.settings import as_table


class NotebookFailed(Exception):
    """A notebook stopped with an error; the message names the notebook, its cell and the executed copy."""


class _Kernel(AsyncKernelManager):
    """Starts the interpreter that runs now, and leaves no process of the kernel's behind.

    jupyter_client gives these methods the types of its synchronous manager, hence the ignored overrides.
    """

    _group: int | None = None
    exit_code: int | None = None  # of the last kernel that was found dead

    @property
    def kernel_spec(self) -> KernelSpec:
        return KernelSpec(**get_kernel_dict())

    async def start_kernel(self, **options: Any) -> None:  # type: ignore[override]
        options["env"] = {**os.environ, "SOURCEMATTERS_HEADLESS": "1"}
        await super().start_kernel(transport_encryption="auto", **options)
        self._group = getattr(self.provisioner, "pgid", None)

    async def is_alive(self) -> bool:  # type: ignore[override]
        if not (alive := await super().is_alive()) and self.provisioner:
            _Kernel.exit_code = await self.provisioner.poll()
        return alive

    async def shutdown_kernel(self, now: bool = False, restart: bool = False) -> None:  # type: ignore[override]
        # An interrupted notebook gets a moment to tidy up; one that came to its end needs none.
        await super().shutdown_kernel(now=sys.exc_info()[0] is None, restart=restart)

    async def cleanup_resources(self, restart: bool = False) -> None:  # type: ignore[override]
        await super().cleanup_resources(restart)
        if self._group:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._group, signal.SIGKILL)


# nbconvert's page would ask other machines for its scripts: MathJax, require.js, widgets and diagrams. So formulas are
# left as they were written, and of a widget stands what it said in words. Nor would it say what a figure shows to those
# who do not see it.
TEMPLATE = """
{%- extends 'lab/index.html.j2' -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
{%- block jupyter_widgets -%}{%- endblock -%}
{%- block data_png scoped -%}
{%- set alt = output | get_metadata('alt', 'image/png') or 'A picture without a description' -%}
{{ super() | replace('<img ', '<img alt="' ~ alt | escape_html ~ '" ', 1) }}
{%- endblock -%}
"""
WIDGET = "application/vnd.jupyter.widget-view+json"


def as_page(executed: nbformat.NotebookNode, title: str) -> str:
    """An executed notebook as a page of HTML that asks nobody for anything."""
    from jinja2 import DictLoader
    from nbconvert import HTMLExporter

    shown = copy.deepcopy(executed)
    for output in (output for cell in shown.cells for output in cell.get("outputs", [])):
        if "data" in output and len(output.data) > 1:
            output.data.pop(WIDGET, None)
    exporter = HTMLExporter(template_file="alone.html.j2", extra_loaders=[DictLoader({"alone.html.j2": TEMPLATE})])
    page, _ = exporter.from_notebook_node(shown, resources={"metadata": {"name": title}})
    return page


def execute(notebook: Notebook, parameters: Mapping[str, Any], folder: Path) -> None:
    """Execute a notebook in its own folder, as JupyterLab would; write `folder`/NAME.ipynb and NAME.html,
    sealed by NAME.sha256.

    Its standard error is shown as it comes. Raises NotebookFailed after writing what was executed up to the error;
    when interrupted, writes nothing and ends the kernel.
    """
    from nbclient.exceptions import DeadKernelError
    from papermill import execute_notebook
    from papermill.exceptions import PapermillExecutionError

    # Settings are no parameters of a cell, so papermill would call each of them unknown.
    logging.getLogger("papermill").setLevel(logging.ERROR)
    html, failure = folder / f"{notebook.name}.html", ""
    with files.scratch() as scratch:
        beside = scratch / notebook.path.name
        try:
            execute_notebook(
                notebook.path,
                beside,
                dict(parameters),
                kernel_name="python3",
                language="python",
                progress_bar=False,
                stderr_file=sys.stderr,
                start_timeout=300,
                kernel_manager_class=_Kernel,
                coalesce_streams=True,
                resources={"metadata": {"path": str(notebook.path.parent)}},
            )
        except PapermillExecutionError as error:
            ours = [error.evalue] == list(error.traceback)  # an error that shows as its sentence
            failure = error.evalue if ours else f"{error.ename}: {error.evalue}"
        except DeadKernelError:
            failure = f"the kernel {ended_by(_Kernel.exit_code)}"
        except KeyboardInterrupt:
            # asyncio would report at exit that nobody awaits the interrupted cell.
            logging.getLogger("asyncio").setLevel(logging.CRITICAL)
            raise
        executed = nbformat.read(beside, as_version=4)
    for cell in executed.cells:
        if cell.cell_type == "code":  # a finished progress bar leaves an empty line
            cell.outputs = [o for o in cell.outputs if o.output_type != "stream" or o.text.strip()]
    paths = dict.fromkeys(("input_path", "output_path"), notebook.path.name)
    executed.metadata.papermill.update(paths, exception=bool(failure), parameters=dict(parameters))
    files.write_text(folder / notebook.path.name, nbformat.writes(executed) + "\n")
    files.write_text(html, as_page(executed, notebook.title))
    checksums.seal(checksums.seal_of(html), [folder / notebook.path.name, html])
    if failure:
        started = [c for c in executed.cells if c.cell_type == "code" and c.metadata.papermill.start_time]
        raise NotebookFailed(f"{notebook.path.name}, cell [{len(started)}]: {failure}\n  executed up to there: {html}")


def run(plan: Plan) -> Path:
    """Execute the notebooks of `plan` in order, one line each; write the index page and return its path.

    Stops at the first notebook that fails (NotebookFailed); the index page then says so.
    """
    folder = plan.folder / "notebooks"
    with files.explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    settings = as_table(plan.study.values, plan.study.profile_values)
    kept = plan.folder / "tables" / "settings.csv"
    checksums.usable(kept, "it is written anew")
    checksums.write_csv(kept, settings)
    if edited := changed(plan.notebooks):
        print(f"note: {', '.join(edited)} differ from what is committed, and run as they are", file=sys.stderr)
    width = max(len(notebook.name) for notebook in plan.notebooks)
    try:
        for number, notebook in enumerate(plan.notebooks, 1):
            line = f"[{number}/{len(plan.notebooks)}] {notebook.name:{width}}"
            if sys.stderr.isatty():
                print(f"{line}  ...", end="\r", file=sys.stderr, flush=True)
            start = time.monotonic()
            execute(notebook, plan.parameters, folder)
            print(f"{line}  {lasting(time.monotonic() - start)}", flush=True)
    finally:
        index = write(plan.folder)
    return index
