"""The notebook runner: profiles and parameters checked, notebooks executed in order, each left as a page.

A profile is papermill's parameter file: flat YAML, `papermill NOTEBOOK OUT -f PROFILE` reads it too. This
runner adds what papermill leaves out: a parameter that no notebook declares, or a value of another type than
the declared one, is an error; the kernel is the interpreter that runs now, whatever kernels the user has
registered; an interrupted notebook leaves no file and no process behind.
"""

import contextlib
import difflib
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import yaml
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager

from sourcematters import files, report
from sourcematters.errors import StudyError
from sourcematters.parameters import Parameter, declared

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Notebook:
    """A notebook of the study; `title` and `cost` are read from its first cell."""

    path: Path
    title: str
    cost: str
    parameters: Mapping[str, Parameter]

    @property
    def name(self) -> str:
        """File name without suffix, such as 20_tag."""
        return self.path.stem


@dataclass(frozen=True)
class Plan:
    """What one call will do: notebooks in order, each with the parameters it is given."""

    profile: str
    folder: Path
    steps: tuple[tuple[Notebook, dict[str, Any]], ...]


class NotebookFailed(Exception):
    """A notebook stopped with an error; the message names the notebook, its cell and the executed copy."""


def read_notebook(path: Path) -> Notebook:
    """Read a notebook's title, cost and declared parameters, without running it.

    Raises StudyError unless it is a notebook and exactly one of its cells is tagged `parameters`.
    """
    try:
        cells = nbformat.read(path, as_version=4).cells
    except (nbformat.reader.NotJSONError, nbformat.ValidationError, AttributeError, KeyError) as error:
        raise StudyError(f"{path}: not readable as a notebook ({error}).") from error
    tagged = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise StudyError(f"{path}: {len(tagged)} of its cells are tagged `parameters`; one must be.")
    title, cost = report.heading(cells)
    return Notebook(path, title or path.stem, cost, {p.name: p for p in declared(tagged[0].source, str(path))})


def notebooks(root: Path) -> list[Notebook]:
    """The study's notebooks, `root`/notebooks/NN_name.ipynb, in order; StudyError if there are none."""
    paths = sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    if not paths:
        raise StudyError(f"{root / 'notebooks'}: no notebooks here. Run from a clone of the repository.")
    return [read_notebook(path) for path in paths]


def selected(available: Sequence[Notebook], names: Iterable[str | int]) -> list[Notebook]:
    """The notebooks called `names`: each a file name, a stem (20_tag), a number (20) or the rest (tag)."""
    chosen = set()
    for name in names:
        stem = f"{name:02d}" if isinstance(name, int) else Path(name).stem
        found = {n.name for n in available if stem in (n.name, *n.name.split("_", 1))}
        if not found:
            raise StudyError(_unknown("notebook", stem, [n.name for n in available]))
        chosen |= found
    return [notebook for notebook in available if notebook.name in chosen]


def _unknown(what: str, name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]}?" if close else ""
    return f"unknown {what} `{name}`.{hint} Known: {', '.join(known) or 'none'}."


def read_profile(root: Path, name: str) -> tuple[str, dict[str, Any]]:
    """The name and the values of a profile, given as NAME (notebooks/profiles/NAME.yaml) or as a path.

    Raises StudyError when there is none, or when it is not flat YAML with each key once.
    """
    folder = root / "notebooks" / "profiles"
    by_path = Path(name).suffix in (".yaml", ".yml") or os.sep in name
    path = Path(name).expanduser() if by_path else folder / f"{name}.yaml"
    if not path.is_file():
        known = sorted(p.stem for p in folder.glob("*.yaml"))
        raise StudyError(f"{path}: no such profile file." if by_path else _unknown("profile", name, known))
    try:
        text = path.read_text(encoding="utf-8")
        tree, values = yaml.compose(text, yaml.SafeLoader), yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: not readable as YAML ({error}).") from error
    if values is None:
        return path.stem, {}
    if not isinstance(values, dict):
        raise StudyError(f"{path}: a profile is lines of the form `parameter: value`.")
    keys = [node.value for node, _ in tree.value]
    twice = sorted({str(key) for key in keys if keys.count(key) > 1})
    if twice:
        raise StudyError(f"{path}: {', '.join(twice)} is given more than once.")
    return path.stem, {str(key): value for key, value in values.items()}


def plan(
    root: Path,
    profile: str,
    overrides: Iterable[tuple[str, str]] = (),
    only: Sequence[str] = (),
    results: str | Path | None = None,
) -> Plan:
    """Decide which notebooks run, with which parameters, before anything runs.

    `root` is a clone of the repository; `overrides` are (name, YAML text) pairs and beat the profile.
    Relative paths are taken from `root` in a profile, from the current folder in `overrides` and `results`.
    The executed study goes to `results`/PROFILE, by default `root`/results/PROFILE, and notebooks are told so
    as parameter `results`. In a profile, `notebooks` (a list) chooses the notebooks, unless `only` does.
    Raises StudyError for a parameter that is declared nowhere and for a value that does not fit.
    """
    available = notebooks(root)
    name, values = read_profile(root, profile)
    chosen = selected(available, only or values.get("notebooks") or [n.name for n in available])
    folder = (Path(results).expanduser() if results else root / "results").resolve() / name
    overrides = dict(overrides)
    for origin, keys, among in (
        (f"profile {name}", values.keys() - {"notebooks"}, available),
        (f"-p, for {', '.join(only)}" if only else "-p", overrides.keys(), chosen),
    ):
        known = sorted({key for notebook in among for key in notebook.parameters} - {"results"})
        for key in sorted(keys - set(known)):
            hint = " Its folder is chosen by --results FOLDER." if key == "results" else ""
            raise StudyError(f"{origin}: {_unknown('parameter', key, known)}{hint}")
    steps = []
    for notebook in chosen:
        given = {}
        for key, parameter in notebook.parameters.items():
            origin = f"-p {key}" if key in overrides else f"profile {name}"
            try:
                if key == "results":
                    given[key] = str(folder)
                elif key in overrides:
                    given[key] = parameter.parsed(overrides[key], Path.cwd())
                elif key in values:
                    given[key] = parameter.value(values[key], root)
            except ValueError as error:
                raise StudyError(
                    f"{origin}: {error}, as in {notebook.path.name}: {key} = {parameter.default!r}."
                ) from error
        steps.append((notebook, given))
    return Plan(name, folder, tuple(steps))


def listing(root: Path) -> str:
    """A text: every notebook with its title, cost and parameters (default, meaning), then the profiles."""
    lines = []
    for notebook in notebooks(root):
        lines += [f"{notebook.name}  {notebook.title}", *([f"    {notebook.cost}"] if notebook.cost else [])]
        lines += [f"    {p.name} = {p.default!r}  {p.help}" for p in notebook.parameters.values()] + [""]
    profiles = sorted(path.stem for path in (root / "notebooks" / "profiles").glob("*.yaml"))
    return "\n".join([*lines, f"profiles: {', '.join(profiles) or 'none'}"])


def describe(plan: Plan) -> str:
    """A text: where the results of `plan` go, and every parameter of every notebook as it will be."""
    lines = [f"profile {plan.profile}, results in {plan.folder}"]
    for notebook, given in plan.steps:
        lines += ["", f"{notebook.name}  {notebook.title}"]
        for key, parameter in notebook.parameters.items():
            value = f"{given[key]!r}" if key in given else f"{parameter.default!r}  (default)"
            lines.append(f"    {key} = {value}")
    return "\n".join(lines)


class _Kernel(AsyncKernelManager):
    """Starts the interpreter that runs now, and leaves no process of the kernel's behind."""

    _group: int | None = None

    @property
    def kernel_spec(self) -> KernelSpec:
        return KernelSpec(**get_kernel_dict())

    async def start_kernel(self, **options: Any) -> None:
        options["env"] = {**os.environ, "SOURCEMATTERS_HEADLESS": "1"}
        await super().start_kernel(transport_encryption="auto", **options)
        self._group = getattr(self.provisioner, "pgid", None)

    async def shutdown_kernel(self, now: bool = False, restart: bool = False) -> None:
        # An interrupted notebook gets a moment to tidy up; one that came to its end needs none.
        await super().shutdown_kernel(now=sys.exc_info()[0] is None, restart=restart)

    async def cleanup_resources(self, restart: bool = False) -> None:
        await super().cleanup_resources(restart)
        if self._group:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._group, signal.SIGKILL)


def execute(notebook: Notebook, parameters: Mapping[str, Any], folder: Path) -> Path:
    """Execute a notebook in its own folder, as JupyterLab would; write `folder`/NAME.ipynb and NAME.html.

    Its standard error is shown as it comes. Returns the path of the executed notebook. Raises NotebookFailed
    after writing what was executed up to the error; when interrupted, writes nothing and ends the kernel.
    """
    from nbclient.exceptions import DeadKernelError
    from papermill import execute_notebook
    from papermill.exceptions import PapermillExecutionError

    target, page, failure = folder / notebook.path.name, folder / f"{notebook.name}.html", ""
    with tempfile.TemporaryDirectory() as scratch:
        beside = Path(scratch) / notebook.path.name
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
            failure = error.evalue if error.ename == "StudyError" else f"{error.ename}: {error.evalue}"
        except DeadKernelError:
            failure = "the kernel was killed, most often because memory ran out; try fewer workers"
        except KeyboardInterrupt:
            # asyncio would report at exit that nobody awaits the interrupted cell.
            logging.getLogger("asyncio").setLevel(logging.CRITICAL)
            raise
        executed = nbformat.read(beside, as_version=4)
    for cell in executed.cells:
        if cell.cell_type == "code":  # a finished progress bar leaves an empty line
            cell.outputs = [o for o in cell.outputs if o.output_type != "stream" or o.text.strip()]
    executed.metadata.papermill.update(
        input_path=notebook.path.name,
        output_path=notebook.path.name,
        exception=bool(failure),
        parameters={name: p.default for name, p in notebook.parameters.items()} | dict(parameters),
    )
    files.write_text(target, nbformat.writes(executed) + "\n")
    files.write_text(page, _as_html(executed, notebook.title))
    if failure:
        started = [c for c in executed.cells if c.cell_type == "code" and c.metadata.papermill.start_time]
        raise NotebookFailed(f"{notebook.path.name}, cell [{len(started)}]: {failure}\n  executed up to there: {page}")
    return target


def _as_html(executed: nbformat.NotebookNode, title: str) -> str:
    """An executed notebook as one HTML page, with its figures inside."""
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(template_name="lab", require_js_url="", jquery_url="")
    return exporter.from_notebook_node(executed, resources={"metadata": {"name": title}})[0]


def run(plan: Plan) -> Path:
    """Execute the notebooks of `plan` in order, one line each; write the index page and return its path.

    Stops at the first notebook that fails (NotebookFailed); the index page then says so.
    """
    folder = plan.folder / "notebooks"
    with files.explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    width = max(len(notebook.name) for notebook, _ in plan.steps)
    try:
        for number, (notebook, parameters) in enumerate(plan.steps, 1):
            line = f"[{number}/{len(plan.steps)}] {notebook.name:{width}}"
            if sys.stderr.isatty():
                print(f"{line}  ...", end="\r", file=sys.stderr, flush=True)
            start = time.monotonic()
            execute(notebook, parameters, folder)
            print(f"{line}  {report.lasting(time.monotonic() - start)}", flush=True)
    finally:
        index = report.index(plan.folder)
    return index
