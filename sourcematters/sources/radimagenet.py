"""RadImageNet, the PyTorch release: input scaled to [-1, 1].

The files number the children of torchvision's networks and hold no classifier (see `loading.load_exactly`).
"""

from pathlib import Path

from sourcematters.errors import StudyError
from sourcematters.sources.keras_weights import SUFFIXES
from sourcematters.sources.registry import Published, Weights, register
from sourcematters.sources.source import HALF, Source, plain

HUB = "Lab-Rasool/RadImageNet"
FILES = {"resnet50": "ResNet50.pt", "densenet121": "DenseNet121.pt", "inception_v3": "InceptionV3.pt"}


class HubFile(Source):
    """A file of the hub's mirror; `location` is its name there."""

    kind = "hub"
    at_hand = False

    def fetch(self, backbone: str) -> None:
        """Download it into the hub's cache."""
        self.file()

    def file(self) -> str:
        """The file in the hub's cache, downloaded if it is not there."""
        from huggingface_hub import hf_hub_download

        try:
            return hf_hub_download(HUB, self.location)
        except Exception as error:
            raise StudyError(
                f"the RadImageNet weights {self.location} could not be fetched from the hub ({type(error).__name__}). "
                "Connect once, or request them from the RadImageNet authors (github.com/BMEII-AI/RadImageNet, "
                f'PyTorch release) and pass weights: {{"{plain(self.name)}": "folder/with/{self.location}"}}.'
            ) from error


def find(backbone: str, weights: Weights | None, folder: Path) -> Source:
    """The user's file or folder, else the mirror's file. Raises StudyError for a backbone that has none."""
    if weights:
        weights = weights.located("radimagenet", FILES.get(backbone, f"{backbone}.safetensors"))
        if weights.path.suffix in SUFFIXES:
            raise other_release("radimagenet", weights.path)
        return weights.source("radimagenet", backbone, folder, HALF, HALF)
    if backbone not in FILES:
        raise StudyError(f"radimagenet was published for {', '.join(FILES)}; not for {backbone!r}.")
    file = FILES[backbone]
    return HubFile("radimagenet", f"hub:{HUB}/{file}", HALF, HALF, file)


def other_release(name: str, path: Path) -> StudyError:
    """The error for a file of the one release that was given for the other."""
    return StudyError(
        f"weights of source {name!r}: {path.name} is not of that release. RadImageNet's Keras release "
        f"({', '.join(SUFFIXES)}) is called radimagenet-keras, its PyTorch release radimagenet."
    )


register(
    Published(
        "radimagenet",
        title="RadImageNet",
        curve="RadImageNet",
        where=f"the PyTorch release (github.com/BMEII-AI/RadImageNet), hub mirror `{HUB}`, or a local folder",
        backbones=", ".join(FILES),
        find=find,
    )
)
