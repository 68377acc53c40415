"""RadImageNet, the Keras release: what the paper used, from a local file; said by others to be a training of its own.

Its ResNet50 was written by Keras 2.4.0, and one user reports 94,852,768 bytes with SHA-256
1f1d1c9fe6ab6980daa5e528145fe0db249c55415f8b3e1f3e3b1624d184f159; the authors publish no checksums.

What the release leaves open: how the input was scaled. The pretraining code is not in the repository; the authors'
fine-tuning scripts give all four networks `imagenet_utils.preprocess_input` (its default: to BGR, minus a mean) and
`rescale=1/255` in one ImageDataGenerator, which rescales last, so (BGR - [103.939, 116.779, 123.68]) / 255. That the
pretraining did so too is likely, not documented (issue 18 of that repository asks, and is open); the PyTorch release
is shown with [-1, 1] instead. The window of its CT images is not documented either (issue 15).
"""

from pathlib import Path

from sourcematters.errors import StudyError
from sourcematters.sources.keras_weights import SUFFIXES
from sourcematters.sources.radimagenet import other_release
from sourcematters.sources.registry import Published, Weights, register
from sourcematters.sources.source import Source

NAME = "radimagenet-keras"
FILES = {
    "resnet50": "RadImageNet-ResNet50_notop.h5",
    "densenet121": "RadImageNet-DenseNet121_notop.h5",
    "inception_v3": "RadImageNet-InceptionV3_notop.h5",
    "inception_resnet_v2": "RadImageNet-IRV2_notop.h5",
}
# In the network's own channel order, blue first, for pixels scaled to 0..1.
MEAN, STD = (103.939 / 255, 116.779 / 255, 123.68 / 255), (1.0, 1.0, 1.0)


def find(backbone: str, weights: Weights | None, folder: Path) -> Source:
    """The user's file or folder, converted into `folder`. Raises StudyError saying where to get it if there is none."""
    file = FILES.get(backbone)
    recipe = f"It was published for {', '.join(FILES)}; not for {backbone!r}."
    if file:
        recipe = (
            "Follow the link to the TensorFlow models in the README of github.com/BMEII-AI/RadImageNet, unpack "
            f'{file}, and pass weights: {{"{NAME}": "folder/with/{file}"}}.'
        )
    if not weights:
        raise StudyError(f"{NAME} is read from a local file. {recipe}")
    weights = weights.located(NAME, file or f"{backbone}.h5", recipe)
    if weights.path.suffix not in SUFFIXES:
        raise other_release(NAME, weights.path)
    return weights.source(NAME, backbone, folder, MEAN, STD)


register(
    Published(
        NAME,
        title="RadImageNet (Keras)",
        curve="RadImageNet",
        where="the Keras release the paper used (the TensorFlow link in the README of BMEII-AI/RadImageNet)",
        backbones=", ".join(FILES),
        find=find,
    )
)
