"""The figure of what is leaned on: a row a finding, strongest on top, all words inside it."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from sourcematters.audit import pictures
from sourcematters.results import verdicts
from sourcematters.results.style import title_of
from sourcematters.results.verdicts import Finding

WHO = "the model"
FINDINGS = [
    Finding(WHO, "gamma", 0.02, -0.01, 0.04, 1.0, 0.08, 60, 30),
    Finding(WHO, "tag", 0.31, 0.22, 0.40, 0.001, 0.15, 60, 30),
    Finding(WHO, "a_name_as_long_as_a_name_of_a_confounder_", *(np.nan,) * 5, 60, 30, "no pixel changes"),
    Finding(WHO, "rotation", -0.14, -0.2, -0.09, 0.01, 0.1, 60, 30),
    Finding(WHO, "noise", 0.06, -0.2, 0.3, 1.0, 0.5, 60, 30),
]
ORDER = [FINDINGS[place] for place in (1, 3, 4, 0, 2)]
EFFECTS = pd.DataFrame({
    "confounder": ["gamma", "tag", "rotation", "noise", "one_grey_level"],
    "auc_without": [0.8] * 5, "auc_aligned": [0.82, 0.99, 0.66, 0.8, 0.8], "auc_reversed": [0.78, 0.37, 0.94, 0.7, 0.8],
})  # fmt: skip
STRENGTHS = pd.DataFrame({
    "confounder": ["tag", "tag", "tag", "rotation", "rotation"], "rung": [0, 1, 2, 3, 4], "n": 40,
    "given": [False, True, False, True, False], "lean": [0.1, 0.3, 0.45, -0.14, -0.2],
})  # fmt: skip


def drawn(findings=FINDINGS, strengths=None, note=""):
    """The figure, laid out, and its first panel."""
    figure = pictures.leaning(verdicts.as_table(findings), EFFECTS, strengths, note=note)
    FigureCanvasAgg(figure).draw()
    return figure, figure.axes[0]


def words(axes):
    return [text.get_text() for text in axes.texts]


@pytest.mark.parametrize("strengths", [None, STRENGTHS, STRENGTHS[:0]], ids=["none", "some", "empty"])
def test_a_row_a_finding_strongest_on_top(strengths):
    figure, axes = drawn(strengths=strengths)
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert axes.get_ylim()[0] < axes.get_ylim()[1], "the last row is on top"
    assert shown[::-1] == [title_of(one.confounder) for one in ORDER]
    assert len(figure.axes) == (2 if strengths is not None and len(strengths) else 1)


def test_the_points_are_the_leans_in_the_colours_of_their_verdicts():
    _, axes = drawn()
    points = {line.get_ydata()[0]: line for line in axes.lines if line.get_marker() != "None"}
    for place, one in enumerate(reversed(ORDER)):
        x = points[place].get_xdata()[0]
        assert x == (one.effect if np.isfinite(one.effect) else 0)
        look = pictures.LOOKS[verdicts.verdict(one)]
        assert (points[place].get_color(), points[place].get_marker()) == (look["color"], look["marker"])
    spans = {tuple(line.get_xdata()) for line in axes.lines if len(line.get_xdata()) == 2}
    assert (0.22, 0.40) in spans and (-0.2, -0.09) in spans


def test_beside_each_row_stands_where_it_misleads():
    _, axes = drawn()
    found = words(axes)
    assert "0.80 \N{RIGHTWARDS ARROW} 0.37" in found, "a sign of disease misleads where negatives carry it"
    assert "0.80 \N{RIGHTWARDS ARROW} 0.66" in found, "a sign of health where positives do"
    assert found.count("not scored") == 1


def test_the_lean_at_other_strengths_stands_around_the_given_one():
    figure, _ = drawn(strengths=STRENGTHS)
    cells = {
        tuple(map(int, text.get_position())): text.get_text()
        for text in figure.axes[1].texts
        if text.get_ha() == "center"
    }
    tag, rotation = 4, 3  # rows from below
    assert cells == {
        (0, tag): "0.10", (1, tag): "0.30", (2, tag): "0.45",
        (1, rotation): "\N{MINUS SIGN}0.14", (2, rotation): "\N{MINUS SIGN}0.20",
    }  # fmt: skip
    assert "(40 images)" in figure.axes[1].get_xlabel()


@pytest.mark.parametrize("count", [1, 5, 20])
@pytest.mark.parametrize("strengths", [None, STRENGTHS], ids=["alone", "with strengths"])
def test_all_words_are_inside_the_figure(count, strengths):
    many = [FINDINGS[1]._replace(confounder=f"confounder_{k}") for k in range(count - 5)]
    findings = FINDINGS[1:][:count] if count < 5 else [*FINDINGS, *many]
    effects = pd.concat([EFFECTS, *(EFFECTS[1:2].assign(confounder=one.confounder) for one in many)])
    figure = pictures.leaning(verdicts.as_table(findings), effects, strengths, note="Drawings, no patients")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    width, height = canvas.get_width_height()
    texts = [each for axes in figure.axes for each in (*axes.texts, *axes.get_yticklabels())]
    for axes in figure.axes:  # Matplotlib has ticks beyond the limits, and does not draw them
        low, high = axes.get_xlim()
        ticks = zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
        texts += [label for place, label in ticks if low <= place <= high]
    texts += [axes.xaxis.label for axes in figure.axes] + figure.texts + figure.legends[0].get_texts()
    for text in texts:
        if text.get_text() and text.get_visible():
            box = text.get_window_extent(canvas.get_renderer())
            inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1
            assert inside, (text.get_text(), box)


def test_nothing_but_what_is_there_is_in_the_legend():
    figure, _ = drawn(FINDINGS[1:2])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [verdicts.LEANS]


def test_a_caution_stands_on_each_panel_beside_its_letter():
    figure, _ = drawn(note="Drawings: 100 %", strengths=STRENGTHS)
    for panel, letter in zip(figure.axes, "ab", strict=True):
        assert {"Drawings: 100 %", letter} <= set(words(panel))
    assert "Drawings: 100 %" in words(drawn(note="Drawings: 100 %")[1])
    assert figure.get_figwidth() * 25.4 == pytest.approx(183)
