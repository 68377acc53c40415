"""Cohorts: which images, of which patients, with which label; and readers, which make them of data.

Every module of this package is imported here, so that a reader in a new one is known without being named.
"""

import importlib
import pkgutil

from sourcematters.cohorts.cohort import Cohort
from sourcematters.cohorts.readers import Reader, Request, known, open_cohort, register

__all__ = ["Cohort", "Reader", "Request", "known", "open_cohort", "register"]

for _module in pkgutil.walk_packages(__path__, f"{__name__}."):
    importlib.import_module(_module.name)
