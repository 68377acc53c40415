"""Confounders: what co-occurs with the positive class, and the design that makes it so."""

from sourcematters.confounders.confounder import (
    ALTERATIONS as ALTERATIONS,
)
from sourcematters.confounders.confounder import (
    CONFOUNDERS as CONFOUNDERS,
)
from sourcematters.confounders.confounder import (
    GREY as GREY,
)
from sourcematters.confounders.confounder import (
    HOUNSFIELD as HOUNSFIELD,
)
from sourcematters.confounders.confounder import (
    IMPLEMENTED as IMPLEMENTED,
)
from sourcematters.confounders.confounder import (
    NOISE_DOMAINS as NOISE_DOMAINS,
)
from sourcematters.confounders.confounder import (
    ORIGINAL as ORIGINAL,
)
from sourcematters.confounders.confounder import (
    Alteration as Alteration,
)
from sourcematters.confounders.confounder import (
    Altered as Altered,
)
from sourcematters.confounders.confounder import (
    Confounder as Confounder,
)
from sourcematters.confounders.confounder import (
    Hounsfield as Hounsfield,
)
from sourcematters.confounders.confounder import (
    Mask as Mask,
)
from sourcematters.confounders.confounder import (
    Pixels as Pixels,
)
from sourcematters.confounders.confounder import (
    Value as Value,
)
from sourcematters.confounders.confounder import (
    alteration as alteration,
)
from sourcematters.confounders.confounder import (
    apply as apply,
)
from sourcematters.confounders.confounder import (
    denoising as denoising,
)
from sourcematters.confounders.confounder import (
    draw_tag as draw_tag,
)
from sourcematters.confounders.confounder import (
    gender as gender,
)
from sourcematters.confounders.confounder import (
    hounsfield_noise as hounsfield_noise,
)
from sourcematters.confounders.confounder import (
    key_for as key_for,
)
from sourcematters.confounders.confounder import (
    low_pass as low_pass,
)
from sourcematters.confounders.confounder import (
    noise as noise,
)
from sourcematters.confounders.confounder import (
    noise_high_vs_low as noise_high_vs_low,
)
from sourcematters.confounders.confounder import (
    original as original,
)
from sourcematters.confounders.confounder import (
    poisson_noise as poisson_noise,
)
from sourcematters.confounders.confounder import (
    projection_noise as projection_noise,
)
from sourcematters.confounders.confounder import (
    sampled as sampled,
)
from sourcematters.confounders.confounder import (
    tag as tag,
)
