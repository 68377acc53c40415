"""The taxonomy's figure holds every leaf in its place; the calibration figure is two curves of one ranking."""

import numpy as np
import pytest
import scipy.stats

from sourcematters import confounders, metrics
from sourcematters.confounders import taxonomy
from sourcematters.results import diagrams
from sourcematters.results.style import title_of


def texts(figure):
    return {text.get_text().replace("\n", " "): text for text in figure.axes[0].texts}


def test_every_node_is_drawn_and_the_tested_leaves_are_bold():
    drawn = texts(diagrams.miccat())
    for level, branch, leaf, _ in taxonomy.as_table().itertuples(index=False):
        assert {level, branch, leaf} <= drawn.keys()
        if leaf not in ("gender", "tag", "noise", "denoising"):
            assert drawn[leaf].get_weight() == "normal"
    bold = {t.get_text() for t in diagrams.miccat().axes[0].texts if t.get_weight() == "bold"}
    assert bold & set(taxonomy.leaves()) == {"gender", "tag", "noise", "denoising"}


def test_each_leaf_says_what_implements_it_or_not_yet():
    table = diagrams.miccat_table().set_index("leaf")["confounder"]
    assert table["noise"].startswith("noise, noise_high_vs_low")
    assert set(table[table == "not yet"].index) == set(taxonomy.leaves()) - set(confounders.implemented())
    at = {}
    for text in diagrams.miccat().axes[0].texts:
        at.setdefault(text.get_position()[1], []).append(text.get_text().replace("\n", " "))
    for leaf, said in table.items():
        row = next(found for found in at.values() if leaf in found)
        assert " \u00b7 ".join(map(title_of, said.split(", "))) in row


def test_a_registered_confounder_is_in_the_figure_and_called_by_its_title(monkeypatch):
    class Stamp(confounders.Tag):
        name: str = "stamp"
        leaf: str = "tag"
        title = "stamp at the edge"

    monkeypatch.setitem(confounders.known(), "stamp", Stamp)
    assert diagrams.miccat_table().set_index("leaf").loc["tag", "confounder"] == "tag, stamp"
    assert "tag \u00b7 stamp at the edge" in texts(diagrams.miccat())


def test_no_text_hides_another_or_leaves_the_page():
    figure = diagrams.miccat()
    figure.draw_without_rendering()
    page = figure.bbox
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    for k, box in enumerate(boxes):
        assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1
        assert not any(box.overlaps(other) for other in boxes[k + 1 :])


def test_binormal_has_the_auc_asked_for_and_is_calibrated():
    table = diagrams.binormal(negatives=5200, positives=3100, auc=0.92)
    assert metrics.auc(table) == pytest.approx(0.92, abs=2e-3)
    for low in (0.1, 0.3, 0.5, 0.7):
        among = table[table["score"].between(low, low + 0.2)]
        assert among["label"].mean() == pytest.approx(among["score"].mean(), abs=0.02)


def test_shifting_moves_one_curve_only():
    predictions = diagrams.binormal(negatives=52, positives=31, auc=0.92)
    table = diagrams.calibration_table(predictions=predictions, shifts=[-16, -3, 0, 3, 16])
    assert table["auc"].nunique() == 1
    # So far out that all scores lie beyond the outermost thresholds: the shares of the classes.
    assert table["auc_keras"].iloc[[0, -1]].tolist() == pytest.approx([52 / 83, 31 / 83], abs=1e-6)
    # Mann and Whitney, from the ranks of the positives.
    ranks = scipy.stats.rankdata(predictions["score"])[52:].sum()
    assert table["auc"].iloc[0] == pytest.approx((ranks - 31 * 32 / 2) / (52 * 31))

    axes = diagrams.calibration_shift(data=table, majority=52 / 83).axes[0]
    curves = [line for line in axes.lines if len(line.get_xdata()) == 5]
    assert [line.get_ydata().tolist() for line in curves] == [table["auc"].tolist(), table["auc_keras"].tolist()]
    levels = {np.round(line.get_ydata()[0], 4) for line in axes.lines if len(line.get_xdata()) == 2}
    assert levels == {0.6265, 0.3735}
