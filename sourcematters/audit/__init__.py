"""The audit: what is confounded in data at hand, and whether a finished model leans on confounders."""

from sourcematters.audit.audit import Audit

__all__ = ["Audit"]
