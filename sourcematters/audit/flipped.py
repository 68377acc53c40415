"""A figure of images whose decision turns: each without the confounder and with it, and what the model says of both."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from sourcematters.audit.measures.flips import TO_POSITIVE
from sourcematters.results.galleries import Effect
from sourcematters.results.style import FULL, NATURAL, TEXT, literal, page, picture, title_of

ABREAST, ROW = 3, 39  # pairs in a row; mm of a row


def figure(rows: pd.DataFrame, effects: Sequence[Effect], note: str = "") -> Figure:
    """Pairs of images, without and with: `rows` of `flips.flipped`, and what was drawn onto each.

    Under each image stands the model's score; a frame marks the decision that is wrong.
    """
    lines = -(-len(rows) // ABREAST)
    drawn = Figure(figsize=page(FULL, 12 + lines * ROW), layout="constrained")
    grid = drawn.subplots(lines, 2 * ABREAST, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    pairs = zip(grid[0::2], grid[1::2], rows.itertuples(), effects, strict=False)
    for without, carrying, row, effect in pairs:
        turned = row.flips == TO_POSITIVE
        looks = (
            (without, effect.without, row.score_without, not turned),
            (carrying, effect.carrying, row.score_with, turned),
        )
        for axes, image, score, positive in looks:
            axes.set_axis_on()
            picture(axes, image)
            wrong = positive != bool(row.label)
            axes.set_xlabel(f"{score:.2f}: {'positive' if positive else 'negative'}", fontsize=TEXT)
            if wrong:
                axes.set_frame_on(True)
                for spine in axes.spines.values():
                    spine.set(color=NATURAL.color, linewidth=1.6)
        without.set_title(f"{'ill' if row.label else 'healthy'}", fontsize=TEXT)
        carrying.set_title(f"with {literal(title_of(row.confounder))}", fontsize=TEXT)
    threshold = rows["threshold"].iloc[0]
    said = f"Decision from {threshold:.2f} on; framed where it is wrong."
    drawn.suptitle("\n".join(filter(None, (literal(note), said))), fontsize=TEXT)
    return drawn
