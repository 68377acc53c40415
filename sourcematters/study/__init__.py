"""A study as a whole: its settings, its notebooks, their execution."""

from sourcematters.study.study import Study as Study
