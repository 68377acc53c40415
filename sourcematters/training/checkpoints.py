"""Where a fine-tuning stands after an epoch, kept in one file: a killed run goes on there, to the same bytes."""

import time
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from sourcematters import __version__, checksums


class Checkpoint:
    """The file `path`, written at most every `seconds`; `spent` is the time in s of the attempts it goes on from.

    It is read back only by the versions and on the kind of device that wrote it: others may round differently.
    """

    def __init__(self, path: Path, seconds: float, device: torch.device):
        self.path, self.seconds, self.device = path, seconds, device
        self.spent = 0.0
        self._begun = self._written = time.monotonic()
        self._made_by = [__version__, str(torch.__version__), device.type]

    def write(self, state: dict[str, Any]) -> None:
        """Keep `state` (tensors and plain values) and torch's random state, if `seconds` have passed."""
        now = time.monotonic()
        if now - self._written < self.seconds:
            return
        random = {"cpu": torch.get_rng_state()}
        if self.device.type != "cpu":
            random["device"] = torch.get_device_module(self.device).get_rng_state()
        spent = self.spent + now - self._begun
        with checksums.sealing(self.path) as beside:
            torch.save({"made_by": self._made_by, "spent": spent, "random": random, "state": state}, beside)
        self._written = time.monotonic()

    def read(self) -> dict[str, Any] | None:
        """The state that was kept, its tensors on the CPU, with torch's random state restored; None if there is none.

        A file that is not what was written counts as none: the fine-tuning then starts anew.
        """
        if not checksums.usable(self.path, "the fine-tuning starts anew"):
            return None
        try:
            # Tensors and plain values only: nothing that runs code on being read.
            kept = torch.load(self.path, map_location="cpu", weights_only=True)
        except (EOFError, RuntimeError, UnpicklingError):
            return None
        if kept["made_by"] != self._made_by:
            return None
        self.spent = kept["spent"]
        torch.set_rng_state(kept["random"]["cpu"])
        if self.device.type != "cpu":
            torch.get_device_module(self.device).set_rng_state(kept["random"]["device"])
        return kept["state"]

    def remove(self) -> None:
        """Delete the file, and what a writer that was killed left beside it."""
        beside = self.path.parent.glob(f".{self.path.stem}.*")
        for left in [self.path, checksums.seal_of(self.path), *beside]:
            left.unlink(missing_ok=True)
