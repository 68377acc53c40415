"""Releases by the layout in which they are published, one module each."""
