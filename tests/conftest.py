"""Fixtures shared by the tests."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real NIH images and labels, beside the project; tests on it are extra."""
    folder = Path(os.environ.get("SOURCEMATTERS_SHARED", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data not at {folder} (set SOURCEMATTERS_SHARED to its folder)")
    return folder
