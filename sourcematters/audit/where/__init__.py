"""Where networks look: attribution on an artefact and off it, and their sensitivity by spatial frequency."""

from sourcematters.audit.where.where import Where

__all__ = ["Where"]
