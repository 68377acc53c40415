"""A finished model: its file opened, whatever it is, as log-odds of label 1."""
