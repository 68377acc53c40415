"""Modules from outside that add confounders, cohort readers or sources: they register themselves on being imported."""

import importlib
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from sourcematters.errors import StudyError


def load(names: Iterable[str]) -> None:
    """Import each of `names`, a module such as sourcematters.demo or a file such as /data/my_confounder.py.

    The folder of a file is added to the path of this process and of those that it starts, workers and jobs of a
    cluster included. Raises StudyError naming the module or file that cannot be imported, and why.
    """
    for name in names:
        path = Path(name)
        module = name
        if path.suffix == ".py":
            if not path.is_file():
                raise StudyError(f"plugins: {name}: there is no such file.")
            folder, module = str(path.resolve().parent), path.stem
            if folder not in sys.path:
                sys.path.insert(0, folder)
            known = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part and part != folder]
            os.environ["PYTHONPATH"] = os.pathsep.join([folder, *known])
        try:
            importlib.import_module(module)
        except StudyError:
            raise
        except Exception as error:  # whatever a module of somebody else's may do on being imported
            raise StudyError(f"plugins: {name} cannot be imported ({type(error).__name__}: {error}).") from error
