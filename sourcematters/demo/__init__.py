"""What the package draws itself: phantoms and stand-in sources. Importing it registers them; nothing outside knows."""

from sourcematters.demo import ct_phantoms, phantoms, standins

__all__ = ["ct_phantoms", "phantoms", "standins"]
