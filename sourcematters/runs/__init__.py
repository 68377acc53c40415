"""One fine-tuning, its folder, and grids of them, on this machine or a cluster."""
