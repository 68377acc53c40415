"""A figure of images whose decision turns: each without the confounder and with it, and what the model says of both."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from sourcematters.audit.measures.flips import TO_POSITIVE
from sourcematters.results.galleries import Effect
from sourcematters.results.style import NATURAL, NORMAL, SMALL, literal, picture, title_of

ABREAST, SIDE = 3, 1.12  # pairs in a row; inches of an image


def figure(rows: pd.DataFrame, effects: Sequence[Effect], note: str = "") -> Figure:
    """Pairs of images, without and with: `rows` of `flips.flipped`, and what was drawn onto each.

    Under each image stands the model's score; a frame marks the decision that is wrong.
    """
    lines = -(-len(rows) // ABREAST)
    width = 2 * ABREAST * (SIDE + 0.08)
    drawn = Figure(figsize=(width, 0.4 + lines * (SIDE + 0.45)), layout="constrained")
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
            axes.set_xlabel(f"{score:.2f}: {'positive' if positive else 'negative'}", fontsize=SMALL)
            if wrong:
                axes.set_frame_on(True)
                for spine in axes.spines.values():
                    spine.set(color=NATURAL.color, linewidth=1.6)
        without.set_title(f"{'ill' if row.label else 'healthy'}", fontsize=SMALL)
        carrying.set_title(f"with {literal(title_of(row.confounder))}", fontsize=SMALL)
    threshold = rows["threshold"].iloc[0]
    said = f"Decision from {threshold:.2f} on; framed where it is wrong."
    drawn.suptitle("\n".join(filter(None, (literal(note), said))), fontsize=NORMAL)
    return drawn
