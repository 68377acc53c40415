"""Pretrained weights: where they come from, and the proof that they were loaded."""

from sourcematters.sources.source import (
    HALF as HALF,
)
from sourcematters.sources.source import (
    IMAGENET_MEAN as IMAGENET_MEAN,
)
from sourcematters.sources.source import (
    IMAGENET_STD as IMAGENET_STD,
)
from sourcematters.sources.source import (
    IMAGENET_TAGS as IMAGENET_TAGS,
)
from sourcematters.sources.source import (
    KERAS as KERAS,
)
from sourcematters.sources.source import (
    MATCHED as MATCHED,
)
from sourcematters.sources.source import (
    RADIMAGENET_FILES as RADIMAGENET_FILES,
)
from sourcematters.sources.source import (
    RADIMAGENET_HUB as RADIMAGENET_HUB,
)
from sourcematters.sources.source import (
    Source as Source,
)
from sourcematters.sources.source import (
    at_hand as at_hand,
)
from sourcematters.sources.source import (
    create as create,
)
from sourcematters.sources.source import (
    differences as differences,
)
from sourcematters.sources.source import (
    fetch as fetch,
)
from sourcematters.sources.source import (
    load as load,
)
from sourcematters.sources.source import (
    load_exactly as load_exactly,
)
from sourcematters.sources.source import (
    read_tensors as read_tensors,
)
from sourcematters.sources.source import (
    resolve as resolve,
)
