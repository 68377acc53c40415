"""Source Matters (https://arxiv.org/abs/2403.04484): does the source change how a network leans on confounders?

The way of the data: cohort -> image bank -> design -> source -> fine-tuning -> run folder -> results -> figures.
"""

__version__ = "0.1.0"
