"""Text burnt in by the machine or the archive: how the film was taken, of whom, and when."""

from datetime import datetime, timedelta
from typing import Self

import numpy as np
from pydantic import Field

from sourcematters.confounders.annotations.ink import Lettering
from sourcematters.confounders.confounder import Drawn, Pixels, register

SINCE, MINUTES = datetime(2005, 1, 1), 15 * 365 * 24 * 60  # of dates that are drawn


@register
class TextLine(Lettering):
    """A line such as PORTABLE, and below it numbers of the patient and the examination, drawn from the key.

    Letters of 24 px are 8 mm on a film of 350 mm: as those that are burnt in to be read from afar.
    """

    name: str = "text_line"
    title = "burnt-in text"
    practice = (
        "Films taken at the bedside say so in a corner, and the bedside is where the very ill are "
        "(Zech et al. 2018, PLoS Medicine 15(11), e1002683)."
    )
    text: str = Field("PORTABLE ERECT", min_length=1, max_length=200, description="the first line")
    number: bool = Field(True, description="a second line, with numbers that the image's key draws")

    def stronger(self) -> Self:
        """Half as high again."""
        return self.replaced(height=1.5 * self.height)

    def draw(self, image: Pixels, key: int) -> Drawn:
        """Burn the lines in."""
        patient, examination = np.random.default_rng(key).integers((10**6, 10**7), (10**7, 10**8))
        return self.burn(image, f"{self.text}\nID {patient}  ACC {examination}" if self.number else self.text)


@register
class BurntInDate(Lettering):
    """The date and time of the film, of 2005 to 2019 where none is given."""

    name: str = "burnt_in_date"
    title = "burnt-in date"
    practice = (
        "With the lungs blacked out, networks still tell the collections apart that positives and negatives come from: "
        "what is burnt in around them suffices (Maguolo and Nanni 2021, Information Fusion 76, 1)."
    )
    date: str = Field("", max_length=80, description="as it is burnt in; empty: drawn from the image's key")

    def stronger(self) -> Self:
        """Half as high again."""
        return self.replaced(height=1.5 * self.height)

    def draw(self, image: Pixels, key: int) -> Drawn:
        """Burn the date in."""
        taken = SINCE + timedelta(minutes=int(np.random.default_rng(key).integers(MINUTES)))
        return self.burn(image, self.date or f"{taken:%d.%m.%Y %H:%M}")
