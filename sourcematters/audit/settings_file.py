"""The settings of an audit as a file to edit, proposed by looking at what is there."""

from pathlib import Path
from typing import Any

import yaml

from sourcematters.cohorts.proposal import proposal
from sourcematters.study.settings import Settings

BY_HAND = """
# A finished model: its file (a checkpoint with its classifier, TorchScript, ONNX), or scores that were made elsewhere.
# model: {path: best.ckpt, architecture: resnet50}
# scores: {without: plain.csv, tag: with_tag.csv}
# scored: test  # only images of the test part: those that it was trained on flatter it
# audited: [tag, pacemaker, gamma]  # confounders to try it with; empty: one of each leaf of the taxonomy

# Would another pretraining source lean less? Within this time; without it, no network is trained.
# budget: 30 min
# sources: [imagenet, random]
# backbone: resnet18
# size: 224
"""
ALWAYS = {"interpolation": "antialias"}


def proposed(path: str | Path) -> str:
    """A profile, in YAML, that would audit the data at `path`, with what was seen as comments.

    Raises StudyError as `cohorts.proposal.proposal` does. Nothing is written.
    """
    settings, said = proposal(path)
    lines = [
        "# What was seen, and what it would be taken for. Edit, save as audit.yaml, and run:",
        "#",
        "#     sourcematters audit audit.yaml",
        "#",
    ]
    lines += [f"# {sentence}" for sentence in said]
    lines += ["", *(_line(name, value) for name, value in {**settings, **ALWAYS}.items())]
    return "\n".join(lines) + "\n" + BY_HAND


def _line(name: str, value: Any) -> str:
    flow = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000, sort_keys=False)
    written = flow.removesuffix("\n").removesuffix("\n...")
    field = Settings.model_fields.get(name)
    return f"{name}: {written}" + (f"  # {field.description}" if field and field.description else "")
