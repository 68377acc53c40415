"""Cohorts: which images, of which patients, with which label."""
