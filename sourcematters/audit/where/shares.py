"""What falls on a confounder of each network's attributions, image by image: computed once, kept, and summed up."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sourcematters import checksums
from sourcematters.audit.where import attribution, frequencies
from sourcematters.audit.where.pairs import Pairs, over_patients, share
from sourcematters.runs import run_folder
from sourcematters.runs.run_folder import WEIGHTS, Workspace
from sourcematters.runs.specs import RunSpec

if TYPE_CHECKING:
    from torch import nn

REVISION = 1  # raise it when the same network and images give other attributions
KEYS = ["task", "confounder", "source", "p_art"]
SHARES = [*KEYS, "folds", "method", "images", "share", "low", "high", "area", "randomized"]
FREQUENCIES = [*KEYS, "folds", "frequency", "images", "change", "low", "high", "spectrum"]
SETS = {"with": (0, 1), "without": (), "ood": (0,), "iid": (1,)}  # labels of the images that carry


class Job(NamedTuple):
    """A finished run, and the pairs that its network is shown: what a process is given."""

    spec: RunSpec
    workspace: Workspace
    pairs: Pairs
    seed: int
    device: str

    @property
    def folder(self) -> Path:
        """Where what is computed is kept."""
        return self.workspace.shared("where")

    @property
    def identity(self) -> str:
        """The digest of the network's weights."""
        return checksums.read(self.workspace.run(self.spec.fit) / "done").get(WEIGHTS, self.spec.fit.id)

    def network(self) -> "nn.Module":
        """Grey pixels to log-odds. Raises StudyError as `run_folder.network` does."""
        from sourcematters.audit.where.networks import OfRun
        from sourcematters.training import devices

        return OfRun(run_folder.network(self.spec, self.workspace, str(devices.choose(self.device)))).eval()


def of_run(job: Job) -> pd.DataFrame:
    """`of_network` of a run's network."""
    return of_network(job.network, job.identity, job.pairs, folder=job.folder, seed=job.seed)


def frequencies_of_run(job: Job) -> pd.DataFrame:
    """A row an image and frequency: how far waves move the log-odds of the image without the confounder (`changes`).

    Columns: image_id, patient_id, label, frequency (cycles an image), change, and spectrum, what the confounder itself
    holds of the frequency, its largest 1.
    """
    changed = changes(job.network, job.identity, job.pairs, folder=job.folder, seed=job.seed)
    holds = frequencies.spectrum(job.pairs.carrying.astype(float) - job.pairs.without)
    waves = zip(frequencies.chosen(job.pairs.without.shape[-1]), holds, changed.T, strict=True)
    return pd.concat([job.pairs.images.assign(frequency=f, spectrum=of, change=change) for f, of, change in waves])


def maps_of_run(job: Job) -> dict[str, NDArray[np.float32]]:
    """`maps` of a run's network."""
    return maps(job.network, job.identity, job.pairs, folder=job.folder, seed=job.seed)


Network = Callable[[], "nn.Module"]


def of_network(network: Network, identity: str, pairs: Pairs, *, folder: Path, seed: int) -> pd.DataFrame:
    """The share of each method's attribution on the mask, a row an image, with and without, also of shuffled weights.

    `network` makes it, where anything is missing in `folder`; `identity` tells its weights. Columns: image_id,
    patient_id, label, method, carries, randomized, share, area, and seconds an image.
    """
    made, frames = _once(network), []
    for randomized in (False, True):
        for method in attribution.METHODS:
            path = folder / f"share-{_key(identity, pairs, [method, randomized, seed])}.csv"
            if not checksums.usable(path, "it is computed again"):
                checksums.write_csv(path, _shares(made(), pairs, method, randomized, seed))
            text = {"image_id": str, "patient_id": str}
            frames.append(pd.read_csv(path, dtype=text, keep_default_na=False, na_values={"share": [""]}))
    return pd.concat(frames, ignore_index=True)


def _shares(network: "nn.Module", pairs: Pairs, method: str, randomized: bool, seed: int) -> pd.DataFrame:
    from sourcematters.audit.where.networks import shuffled

    used, frames = shuffled(network, seed) if randomized else network, list[pd.DataFrame]()
    with _exactly(network):
        for carries, images in enumerate((pairs.without, pairs.carrying)):
            began = time.perf_counter()
            found = attribution.attribute(used, images, method) if used else None
            seconds = (time.perf_counter() - began) / len(images)
            shares = np.full(len(images), np.nan) if found is None else share(found, pairs.masks)
            row: dict[str, Any] = {"method": method, "carries": carries, "randomized": int(randomized)}
            frames.append(pairs.images.assign(**row, share=shares, area=pairs.areas, seconds=round(seconds, 4)))
    return pd.concat(frames, ignore_index=True)


def maps(network: Network, identity: str, pairs: Pairs, *, folder: Path, seed: int) -> dict[str, NDArray[np.float32]]:
    """The attributions by Grad-CAM and integrated gradients, each (4, N, S, S), kept in `folder`: without and with,
    then both of shuffled weights. A method that has nothing to show of such a network is left out.
    """
    from sourcematters.audit.where.networks import shuffled

    made, found = _once(network), {}
    for method in ("Grad-CAM", "integrated gradients"):
        path = folder / f"maps-{_key(identity, pairs, [method, 'maps', seed])}.npy"
        if not checksums.usable(path, "it is computed again"):
            used, parts = made(), []
            with _exactly(used):
                for each in filter(None, (used, shuffled(used, seed))):
                    parts += [attribution.attribute(each, images, method) for images in (pairs.without, pairs.carrying)]
            with checksums.sealing(path) as beside:
                np.save(beside, np.stack([part for part in parts if part is not None]) if parts[0] is not None else [])
        found[method] = np.load(path)
    return {method: each for method, each in found.items() if len(each)}


def changes(network: Network, identity: str, pairs: Pairs, *, folder: Path, seed: int) -> NDArray[np.float64]:
    """`frequencies.changes` on the images without the confounder, kept in `folder`: (N, F)."""
    asked = ["frequencies", frequencies.STRENGTH, frequencies.MOST, frequencies.WAVES, seed]
    path = folder / f"frequencies-{_key(identity, pairs, asked)}.npy"
    if not checksums.usable(path, "it is computed again"):
        used = network()
        with _exactly(used):
            made = frequencies.changes(used, pairs.without, seed=seed)
        with checksums.sealing(path) as beside:
            np.save(beside, made)
    return np.load(path)


def _key(identity: str, pairs: Pairs, asked: Sequence[Any]) -> str:
    names = pairs.images.astype(str).to_numpy().tolist()
    how = [attribution.STEPS, attribution.SQUARES, REVISION]
    return hashlib.sha256(json.dumps([identity, pairs.digest, names, asked, how]).encode()).hexdigest()[:16]


def _once(network: Network) -> Network:
    made: list[nn.Module] = []

    def get() -> "nn.Module":
        if not made:
            made.append(network())
        return made[0]

    return get


@contextmanager
def _exactly(network: "nn.Module") -> Iterator[None]:
    """The same numbers again on the same kind of device; on a card some gradients have no way to be exact."""
    from sourcematters.audit.where.networks import device_of
    from sourcematters.training.classifier import reproducible
    from sourcematters.training.devices import rounding

    device = device_of(network)
    with reproducible(0, device) if device.type == "cpu" else rounding("fp32"):
        yield


# Tables


def summary(shares: pd.DataFrame, *, seed: int, of: str = "with") -> pd.DataFrame:
    """`SHARES` of the rows of `of_network` of many networks, which bring `KEYS` and fold besides.

    `of` is one of `SETS`: all images with the confounder, all without (the share where it would be), negatives that
    carry (the o.o.d. test's) or positives that do (the i.i.d. test's). `area` is the mask's share of the image, `share`
    its part of the attribution with a 95 % interval over patients, `randomized` 1 for shuffled weights.
    """
    labels = SETS[of]
    part = shares[shares["label"].isin(labels) & (shares["carries"] == 1)] if labels else shares[shares["carries"] == 0]
    rows = []
    for (*keys, method, randomized), group in part.groupby([*KEYS, "method", "randomized"], sort=False, dropna=False):
        found = over_patients(group, "share", seed=seed)
        row = dict(zip(KEYS, keys, strict=True)) | {"method": method, "randomized": randomized}
        area = float(group.drop_duplicates("image_id")["area"].mean())
        rows.append({**row, "folds": group["fold"].nunique(), **found, "share": found["mean"], "area": area})
    return pd.DataFrame(rows, columns=SHARES)


def by_frequency(found: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """`FREQUENCIES` of the rows of `frequencies_of_run` of many networks, which bring `KEYS` and fold besides."""
    rows = []
    for (*keys, frequency), group in found.groupby([*KEYS, "frequency"], sort=False):
        mean = over_patients(group, "change", seed=seed)
        row = dict(zip(KEYS, keys, strict=True)) | {"frequency": frequency, "spectrum": group["spectrum"].iloc[0]}
        rows.append({**row, "folds": group["fold"].nunique(), **mean, "change": mean["mean"]})
    return pd.DataFrame(rows, columns=FREQUENCIES)
