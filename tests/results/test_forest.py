"""The forest plot shows the table of the primary analysis: a panel a pair, a row a test, nothing beyond its frame."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

import sourcematters.demo.standins  # noqa: F401  (registers the stand-ins)
from sourcematters.results.forest import forest

MINUS = "\N{MINUS SIGN}"


def table(**columns):
    rows = [
        # confounder, a, b, difference, ci_low, ci_high, p, p_holm, detectable, problem
        ("tag", "natural-standin", "random", 0.62, 0.40, 0.84, 0.001, 0.0004, 0.3, ""),
        ("noise", "natural-standin", "random", -0.10, -1.3, 1.1, 0.8, 0.8, 1.4, ""),
        ("gamma", "natural-standin", "random", np.nan, np.nan, np.nan, np.nan, np.nan, np.nan, "one fold, run more"),
        ("tag", "imagenet", "random", 0.05, -0.05, 0.15, 0.3, 0.3, 0.12, ""),
    ]
    names = ["confounder", "a", "b", "difference", "ci_low", "ci_high", "p", "p_holm", "detectable", "problem"]
    return pd.DataFrame(rows, columns=names).assign(task="lung-mass-ct", backbone="resnet50").assign(**columns)


def words(axes):
    return [text.get_text() for text in axes.texts]


def points(axes):
    """By row from below: the difference, and whether its marker is filled."""
    found = [line for line in axes.lines if line.get_marker() == "o"]
    return {line.get_ydata()[0]: (line.get_xdata()[0], line.get_markerfacecolor()) for line in found}


def test_a_panel_a_pair_and_a_row_a_test_in_words():
    first, second = forest(data=table()).axes
    assert [axes.get_title(loc="left") for axes in (first, second)] == [
        "natural stand-in against random", "ImageNet against random",
    ]  # fmt: skip
    assert [label.get_text() for label in first.get_yticklabels()] == ["gamma", "noise vs none", "tag"]
    assert points(first) == {2: (0.62, "black"), 1: (-0.10, "white")} and points(second) == {0: (0.05, "white")}
    assert {"+0.62 [0.40, 0.84]", "below 0.001", "0.30"} <= set(words(first))
    assert {f"{MINUS}0.10 [{MINUS}1.30, 1.10]", "0.800", "1.40"} <= set(words(first))
    assert "no test: one fold, run more" in words(first)
    assert "\N{LEFTWARDS ARROW} random relies more" in words(first)


def test_intervals_and_bands_are_the_tables_and_end_in_arrows_at_the_frame():
    first, second = forest(data=table()).axes
    assert first.get_xlim() == second.get_xlim() == (-1, 1), "no difference of two AUCs' differences is drawn further"
    spans = {tuple(line.get_xdata()) for line in first.lines if line.get_linewidth() == 1.2}
    assert spans == {(0.40, 0.84), (-1, 1)}
    arrows = {at.get_marker(): (*at.get_xdata(), *at.get_ydata()) for at in first.lines if at.get_marker() in "<>"}
    assert arrows == {"<": (-1, 1), ">": (1, 1)}
    assert {f"{MINUS}1.30", "1.10"} <= set(words(first))
    bands = {round(bar.get_y() + 0.4): (bar.get_x(), bar.get_width()) for bar in first.patches}
    assert bands == {2: pytest.approx((-0.3, 0.6)), 1: (-1, 2)}
    small = forest(data=table()[3:]).axes[0]
    assert small.get_xlim() == pytest.approx((-0.162, 0.162)) and not [x for x in small.lines if x.get_marker() in "<>"]


def test_rows_name_task_and_network_where_there_are_several():
    data = table(task=["lung-mass", "lung-mass-ct"] * 2)
    shown = [label.get_text() for label in forest(data=data).axes[0].get_yticklabels()]
    assert shown == ["gamma, lung mass", "noise vs none, lung mass, CT", "tag, lung mass"]


@pytest.mark.parametrize("pairs", [1, 3])
def test_all_words_are_inside_the_figure_and_each_panel_has_its_caution(pairs):
    of_one = table()[:3]
    data = pd.concat([of_one.assign(b=f"source_number_{k}") for k in range(pairs)])
    said = "phantoms, not patients; natural-standin is not ImageNet"
    figure = forest(data=data, caution=said)
    FigureCanvasAgg(figure).draw()
    assert figure.get_figwidth() * 25.4 == pytest.approx(183)
    page = figure.bbox
    for axes, letter in zip(figure.axes, "abc" if pairs == 3 else [""], strict=True):
        assert said.replace("natural-standin", "natural stand-in") in words(axes)
        assert (letter in words(axes)) == (pairs == 3)
        for text in (*axes.texts, *axes.get_yticklabels(), axes._left_title):
            box = text.get_window_extent()
            inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= page.x1 + 1 and box.y1 <= page.y1 + 1
            assert inside or not text.get_text(), text.get_text()
