"""Train both stand-ins for a backbone: about a minute each for the demo's."""

import argparse
from pathlib import Path

from sourcematters.demo.standins import STANDINS, WEIGHTS, pretrain

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m sourcematters.demo.standins", description=__doc__)
    parser.add_argument("--backbone", default="test_resnet", help="a timm model (default: test_resnet)")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="folder (default: that of the shipped weights)")
    options = parser.parse_args()
    for name in STANDINS:
        pretrain(name, options.backbone, options.out / f"{name}-{options.backbone}.safetensors")
