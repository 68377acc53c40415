"""Source Matters: does the pretraining source change how much a network leans on confounders?

The way of the data, one module an arrow: cohort table -> image bank -> design -> source and model
-> fine-tuning -> run folder -> results table -> figures. See https://arxiv.org/abs/2403.04484.
"""

__version__ = "0.1.0"
