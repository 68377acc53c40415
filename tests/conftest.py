"""Fixtures shared by the tests."""

import os
import signal
import time
from pathlib import Path

import pytest
from tiny_study import write_notebook, write_profile

from sourcematters import __main__
from sourcematters.cohorts.lidc import lidc_xml
from sourcematters.study import profiles


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real NIH images and labels, beside the project; tests on it are extra."""
    folder = Path(os.environ.get("SOURCEMATTERS_SHARED", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data not at {folder} (set SOURCEMATTERS_SHARED to its folder)")
    return folder


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
    monkeypatch.setattr(profiles, "ROOT", root)

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
