"""RadImageNet: its PyTorch release, and its Keras release, which the paper used; said to be trainings of their own.

What the Keras release leaves open is how the input was scaled. The authors' fine-tuning scripts give all four networks
`imagenet_utils.preprocess_input` (to BGR, minus a mean) and `rescale=1/255` in one ImageDataGenerator, which rescales
last. That the pretraining did so too is likely, not documented (issue 18 of github.com/BMEII-AI/RadImageNet asks); the
PyTorch release is shown with [-1, 1] instead. The window of its CT images is not documented either (issue 15).
The authors publish no checksums; one user reports, of the Keras ResNet50, the SHA-256
1f1d1c9fe6ab6980daa5e528145fe0db249c55415f8b3e1f3e3b1624d184f159.
"""

from functools import partial
from pathlib import Path

from sourcematters.errors import StudyError
from sourcematters.sources.keras_weights import SUFFIXES
from sourcematters.sources.loading import as_downloaded, demand_hub
from sourcematters.sources.registry import Published, Weights, register
from sourcematters.sources.source import HALF, Source, plain

PYTORCH, KERAS, HUB = "radimagenet", "radimagenet-keras", "Lab-Rasool/RadImageNet"
NETWORKS = {"resnet50": "ResNet50", "densenet121": "DenseNet121", "inception_v3": "InceptionV3"}
FILES = {PYTORCH: {backbone: f"{network}.pt" for backbone, network in NETWORKS.items()}}
NETWORKS["inception_resnet_v2"] = "IRV2"
FILES[KERAS] = {backbone: f"RadImageNet-{network}_notop.h5" for backbone, network in NETWORKS.items()}
RECIPES = {
    PYTORCH: "Request it from the RadImageNet authors (github.com/BMEII-AI/RadImageNet, PyTorch release)",
    KERAS: "Follow the link to the TensorFlow models in the README of github.com/BMEII-AI/RadImageNet, unpack {file},",
}
# Mean and standard deviation of pixels scaled to 0..1; of Keras in the network's own channel order, blue first.
NORMALIZATION = {PYTORCH: (HALF, HALF), KERAS: ((103.939 / 255, 116.779 / 255, 123.68 / 255), (1.0, 1.0, 1.0))}


class HubFile(Source):
    """A file of the PyTorch release on the hub's mirror; `location` is its name there."""

    kind = "hub"
    at_hand = False

    def file(self) -> str:
        """The file in the hub's cache, downloaded if it is not there."""
        from huggingface_hub import hf_hub_download

        try:
            demand_hub(HUB, self.location)
            path = hf_hub_download(HUB, self.location)
        except Exception as error:
            raise StudyError(
                f"the RadImageNet weights {self.location} could not be fetched from the hub ({type(error).__name__}). "
                f"Connect once, or: {recipe(plain(self.name), self.location)}"
            ) from error
        return as_downloaded(path)


def recipe(name: str, file: str) -> str:
    """How to come by a file of a release."""
    return f'{RECIPES[name].format(file=file)} and pass weights: {{"{name}": "folder/with/{file}"}}.'


def find(backbone: str, weights: Weights | None, folder: Path, *, name: str) -> Source:
    """The user's file or folder, else the PyTorch release's file on the mirror; `name` is the release.

    Raises StudyError for a backbone without weights, a file of the other release, and one that has to be got by hand.
    """
    file = FILES[name].get(backbone)
    others = f"{name} was published for {', '.join(FILES[name])}; not for {backbone!r}."
    how = recipe(name, file) if file else others
    if weights:
        weights = weights.located(name, file or f"{backbone}{'.h5' if name == KERAS else '.safetensors'}", how)
        if (weights.path.suffix in SUFFIXES) != (name == KERAS):
            raise StudyError(
                f"weights of source {name!r}: {weights.path.name} is not of that release. RadImageNet's Keras release "
                f"({', '.join(SUFFIXES)}) is called {KERAS}, its PyTorch release {PYTORCH}."
            )
        return weights.source(name, backbone, folder, *NORMALIZATION[name])
    if name == KERAS or not file:
        raise StudyError(f"{name} is read from a local file. {how}" if file else how)
    return HubFile(name, f"hub:{HUB}/{file}", *NORMALIZATION[name], file)


WHERE = {
    PYTORCH: f"the PyTorch release (github.com/BMEII-AI/RadImageNet), hub mirror `{HUB}`, or a local folder",
    KERAS: "the Keras release the paper used (the TensorFlow link in the README of BMEII-AI/RadImageNet)",
}
for name, title in ((PYTORCH, "RadImageNet"), (KERAS, "RadImageNet (Keras)")):
    register(Published(name, title, "RadImageNet", WHERE[name], ", ".join(FILES[name]), partial(find, name=name)))
