"""A study as a whole: its settings, its notebooks, their execution."""
