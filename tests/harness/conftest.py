"""One small study, made once; every test gets it as it was."""

import damage
import pytest
from studies import Clone


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A clone with a finished study, where its states are kept, and its numbers."""
    folder = tmp_path_factory.mktemp("harness")
    clone = Clone.make(folder / "clone")
    return clone, folder / "kept", damage.prepare(clone, folder / "kept")
