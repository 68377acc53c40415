"""Fixtures shared by the tests."""

import os
import signal
import sys
import time
from pathlib import Path

import hypothesis
import pytest
from tiny_study import write_notebook, write_profile

from sourcematters import __main__, confounders
from sourcematters.cohorts import readers
from sourcematters.cohorts.lidc import lidc_xml
from sourcematters.report import pdf
from sourcematters.sources import registry
from sourcematters.study import settings

# The same cases each time, so that who changed nothing sees nothing fail; HYPOTHESIS_SEARCH=1 looks for new ones.
hypothesis.settings.register_profile("same", derandomize=not os.environ.get("HYPOTHESIS_SEARCH"))
hypothesis.settings.load_profile("same")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real NIH images and labels, beside the project; tests on it are extra."""
    folder = Path(os.environ.get("SOURCEMATTERS_SHARED", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data not at {folder} (set SOURCEMATTERS_SHARED to its folder)")
    return folder


@pytest.fixture(scope="module")
def browser():
    """A Chromium that asks nobody by itself. Its loop would be in the way of others', so each module has its own."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra: test)")
    if not (program := pdf.browser()):
        pytest.skip("no Chromium on the path (Debian: apt install chromium)")
    with api.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=program, args=pdf.ALONE)
        yield chromium
        chromium.close()


@pytest.fixture(autouse=True)
def no_plugin_stays(tmp_path_factory):
    """What a test's own modules registered is forgotten after it: others count what the package has."""
    registries = (confounders.known(), readers._READERS, registry._published)
    before, made = [dict(each) for each in registries], str(tmp_path_factory.getbasetemp())
    yield
    for each, kept in zip(registries, before, strict=True):
        # The demo registers when it is first imported, in whichever test that is, and never again in this process.
        ours = {name: entry for name, entry in each.items() if _module(entry).startswith("sourcematters.")}
        each.clear()
        each.update({**ours, **kept})
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(made):
            del sys.modules[name]


def _module(entry) -> str:
    made_by = getattr(entry, "find", entry)
    return getattr(made_by, "func", made_by).__module__


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A clone with three tiny notebooks and a profile, in place of the repository."""
    root = tmp_path / "a clone #1, 100% é"
    write_notebook(root, "10_prepare", title="Prepare")
    write_notebook(root, "20_tag", 'study.run("tag")')
    write_notebook(
        root, "21_noise", 'study = Study.of(globals(), "ct")\nstudy.run("noise", "noise_high_vs_low")', title="Noise"
    )
    write_profile(root, "folds: 2\nsize: 32\n")
    monkeypatch.setattr(settings, "ROOT", root)
    return root


@pytest.fixture
def command(capsys):
    """Call the command line; gives (exit code, standard output, standard error)."""

    def call(*arguments):
        code = __main__.main(arguments)
        return code, *capsys.readouterr()

    handlers = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield call
    for name, handler in handlers.items():
        signal.signal(name, handler)


@pytest.fixture(scope="session")
def lidc_release(shared_data: Path):
    """The annotations of the real LIDC-IDRI release, and the processor's seconds that reading them took."""
    started = time.process_time()
    annotations = lidc_xml.read(shared_data / "LIDC-XML-only.zip")
    return annotations, time.process_time() - started
