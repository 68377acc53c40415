"""What the package draws itself: phantoms and stand-in sources. Nothing outside knows of it.

Importing it registers the readers of its two cohorts.
"""

from sourcematters.demo import ct_phantom_cohort, phantom_cohort, standins

__all__ = ["ct_phantom_cohort", "phantom_cohort", "standins"]
