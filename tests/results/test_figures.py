"""What a figure draws is what its table says; saved figures are the same bytes each time."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.container import ErrorbarContainer

import sourcematters.demo.standins  # noqa: F401  (registers the stand-ins)
from sourcematters.errors import StudyError
from sourcematters.results import curves as drawing
from sourcematters.results import figures, statistics, style

GRID = [0.0, 0.1, 0.2, 0.5, 0.8, 1.0]
SOURCES = ["imagenet", "radimagenet", "random"]
NAMES = ["ImageNet", "RadImageNet", "random"]


def summary(names=("tag", "noise"), **columns) -> pd.DataFrame:
    rows = []
    for a, name in enumerate(names):
        for b, source in enumerate(SOURCES):
            for p in GRID:
                for test_set, mean in (("ood", 0.8 - 0.05 * a - 0.65 * p + 0.02 * b), ("iid", 0.8 + 0.19 * p)):
                    ends = (max(mean - 0.15, 0), min(mean + 0.1, 1), mean - 0.05, mean + 0.05)
                    rows.append(("mass", name, source, "resnet50", test_set, p, 5, mean, *ends, ""))
    return pd.DataFrame(rows, columns=statistics.SUMMARY).assign(**columns)


def curves(axes) -> dict[str, ErrorbarContainer]:
    return {c.get_label(): c for c in axes.containers if isinstance(c, ErrorbarContainer)}


def titles(axes):
    return [each.get_title(loc="left") for each in axes]


def panels(figure, columns):
    return np.array(figure.axes).reshape(2, columns)


def panel_rows(data, name, test_set, source):
    keep = (data["confounder"] == name) & (data["test_set"] == test_set) & (data["source"] == source)
    return data[keep].sort_values("p_art")


def test_curves_and_bars_are_the_tables():
    data = summary()
    grid = panels(figures.robustness(data=data.sample(frac=1, random_state=0), confounders=["tag", "noise"]), 2)
    for column, name in enumerate(["tag", "noise"]):
        for row, test_set in enumerate(["ood", "iid"]):
            drawn = curves(grid[row, column])
            assert list(drawn) == NAMES
            for source, container in zip(SOURCES, drawn.values(), strict=True):
                rows = panel_rows(data, name, test_set, source)
                points, _, (bars,) = container.lines
                assert points.get_ydata() == pytest.approx(rows["mean"].to_numpy())
                assert np.abs(points.get_xdata() - rows["p_art"]).max() <= 0.026
                ends = np.array([segment[:, 1] for segment in bars.get_segments()])
                assert ends == pytest.approx(rows[["ci_low", "ci_high"]].to_numpy())


def lines(axes, linewidth=1.2):
    return [line for line in axes.lines if line.get_linewidth() == linewidth and line.get_linestyle() != "None"]


def test_lines_join_at_the_true_strengths_and_only_markers_stand_aside():
    data = summary(["tag"])
    axes = figures.robustness(data=data).axes[0]
    for line, source in zip(lines(axes), SOURCES, strict=True):
        rows = panel_rows(data, "tag", "ood", source)
        assert line.get_xdata() == pytest.approx(GRID) and line.get_ydata() == pytest.approx(rows["mean"].to_numpy())
    aside = [container.lines[0].get_xdata() - GRID for container in curves(axes).values()]
    assert aside[0] == pytest.approx([-0.025] * 6) and aside[2] == pytest.approx([0.025] * 6)


def test_two_folds_are_two_points_and_no_interval():
    data = summary(["tag"])
    two = data["p_art"] == 0.5
    data["folds"] = np.where(two, 2, 5)
    figure = figures.robustness(data=data)
    for source, container in zip(SOURCES, curves(figure.axes[0]).values(), strict=True):
        points, _, (bars,) = container.lines
        rows = panel_rows(data, "tag", "ood", source)
        at = points.get_xdata()[3]
        bars_at = [segment[0, 0] for segment in bars.get_segments() if len(segment)]
        assert bars_at == pytest.approx(np.delete(points.get_xdata(), 3))
        dashes = [line for line in figure.axes[0].lines if line.get_marker() == "_" and line.get_xdata()[:1] == at]
        drawn = sorted(line.get_ydata().item() for line in dashes if line.get_markersize() == 6)
        assert drawn == pytest.approx(rows.loc[rows["p_art"] == 0.5, ["lowest", "highest"]].to_numpy()[0])
    assert "of two folds, dashes: both" in figure.get_supxlabel()
    assert "mean of 2 folds; dashes: the two folds" in figures.robustness(data=data[two]).get_supxlabel()


def test_an_interval_that_leaves_the_frame_ends_in_an_arrow_and_its_number():
    data = summary(["tag"])
    first = (data["source"] == "imagenet") & (data["p_art"] == 1)
    data.loc[first & (data["test_set"] == "ood"), "ci_low"] = -0.3
    data.loc[first & (data["test_set"] == "iid"), "ci_high"] = 1.25
    for axes, marker, edge, number in zip(
        figures.robustness(data=data).axes, "v^", (-0.02, 1.02), ("\N{MINUS SIGN}0.30", "1.25"), strict=True
    ):
        (arrow,) = [line for line in axes.lines if line.get_marker() == marker and line.get_markersize() == 3.5]
        assert (arrow.get_xdata().item(), arrow.get_ydata().item()) == pytest.approx((0.975, edge))
        assert [text.get_text() for text in axes.texts].count(number) == 1
    whole = figures.robustness(data=summary(["tag"])).axes
    assert not [line for axes in whole for line in axes.lines if line.get_markersize() == 3.5]


def test_numbers_beyond_the_frame_hide_none_of_another():
    data = summary(["tag", "noise", "denoising", "gender", "contrast"], folds=3, ci_low=-0.45, ci_high=1.5)
    apart = data["p_art"].isin([0, 0.5, 0.8])  # three sources at three strengths, two of which are near
    figure = figures.robustness(data=data[apart])
    FigureCanvasAgg(figure).draw()
    for axes in figure.axes:
        boxes = [text.get_window_extent() for text in axes.texts if text.get_text() in ("\N{MINUS SIGN}0.45", "1.50")]
        assert len(boxes) == 2 * 9
        for k, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[k + 1 :])


def test_a_panel_without_a_test_set_says_so():
    data = summary()
    data = data[(data["confounder"] != "noise") | (data["test_set"] == "ood")]
    grid = panels(figures.robustness(data=data, confounders=["tag", "noise"]), 2)
    empty = [["no such test" in " ".join(t.get_text() for t in axes.texts) for axes in row] for row in grid]
    assert empty == [[False, False], [False, True]]
    assert not curves(grid[1, 1]) and list(curves(grid[0, 1])) == NAMES


def test_error_bars_stand_side_by_side():
    axes = figures.robustness(data=summary()).axes[0]
    at = np.array([container.lines[0].get_xdata() for container in curves(axes).values()])
    assert np.diff(at, axis=0).min() >= 0.02
    assert at[1] == pytest.approx(GRID)
    assert np.diff(np.sort(at.ravel())).min() > 0.01


def test_labels_reference_lines_and_note():
    data = summary().assign(caution="phantoms, not patients")
    figure = figures.robustness(data=data, baseline={"mass": 0.9})
    grid = panels(figure, 2)
    assert titles(grid[0]) == ["tag", "noise vs none"]
    assert [" ".join(axes.get_ylabel().split()) for axes in grid[:, 0]] == [
        "o.o.d. test: confounder on the healthy only AUC", "i.i.d. test: on the diseased, as in training AUC",
    ]  # fmt: skip
    for axes in grid.flat:
        drawn = {line.get_label(): line for line in axes.lines}
        assert set(drawn["chance"].get_ydata()) == {0.5}
        assert set(drawn["published state of the art"].get_ydata()) == {0.9}
        assert axes.get_ylim() == grid[0, 0].get_ylim() == (-0.02, 1.02)
        assert axes.get_xticks() == pytest.approx(GRID)
    # Chance is told at the axis of the last column, once a row.
    told = [[text.get_text() == "chance" for text in axes.texts].count(True) for axes in grid.flat]
    assert told == [0, 1, 0, 1]
    assert {text.get_text() for text in figure.legends[0].get_texts()} == {*NAMES, "published state of the art"}
    assert "mean of 5 folds, 95 % interval: folds and test patients" in figure.get_supxlabel()


def test_the_published_level_can_differ_between_tasks():
    data = pd.concat([summary(["tag"]), summary(["gender"], task="atelectasis")])
    figure = figures.robustness(data=data, baseline={"mass": 0.9, "atelectasis": 0.7})
    levels = [
        next(line for line in axes.lines if line.get_label() == "published state of the art").get_ydata()[0]
        for axes in figure.axes[:2]
    ]
    assert levels == [0.9, 0.7]
    assert titles(figure.axes[:2]) == ["tag, mass", "gender, atelectasis"]


def test_a_task_without_a_published_level_has_no_line_for_it():
    data = pd.concat([summary(["tag"]), summary(["gender"], task="atelectasis")])
    figure = figures.robustness(data=data, baseline={"mass": 0.9})
    drawn = ["published state of the art" in [line.get_label() for line in axes.lines] for axes in figure.axes]
    assert drawn == [True, False, True, False]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()].count("published state of the art") == 1


def test_one_fold_has_bars_of_its_patients_and_says_so():
    data = summary(["tag"], folds=1)
    assert "one fold, 95 % interval: test patients only" in figures.robustness(data=data).get_supxlabel()


def test_a_point_without_an_interval_is_drawn_without_a_bar():
    figure = figures.robustness(data=summary(["tag"], ci_low=np.nan, ci_high=np.nan))
    (points, _, (bars,)) = curves(figure.axes[0])["random"].lines
    assert np.isfinite(points.get_ydata(orig=False)).all()
    assert not any(len(segment) for segment in bars.get_segments())


def thin_lines(axes):
    return [line for line in axes.lines if line.get_linewidth() == 0.6 and len(line.get_xdata())]


def test_the_clean_test_is_a_thin_line_of_the_sources_colour_in_both_rows():
    data = summary(["tag", "noise"])
    clean = data[(data["test_set"] == "iid") & (data["confounder"] == "tag")].assign(test_set="clean", mean=0.77)
    clean["mean"] -= 0.1 * clean["p_art"]
    figure = figures.robustness(data=pd.concat([data, clean]))
    grid = panels(figure, 2)
    assert [[len(thin_lines(axes)) for axes in row] for row in grid] == [[3, 0], [3, 0]]
    for axes in grid[:, 0]:
        for line, name in zip(thin_lines(axes), NAMES, strict=True):
            assert line.get_xdata() == pytest.approx(GRID)
            assert line.get_ydata() == pytest.approx([0.77 - 0.1 * p for p in GRID])
            assert line.get_color() == curves(axes)[name].lines[0].get_color()
    said = [text.get_text().replace("\n", " ") for text in figure.legends[0].get_texts()]
    assert said.count(drawing.CLEAN) == 1
    assert not any("clean" in text.get_text() for text in figures.robustness(data=data).legends[0].get_texts())
    by_task = figures.by_task(data=pd.concat([data, clean]), confounders=["tag", "noise"], baseline={})
    assert [len(thin_lines(axes)) for axes in by_task.axes] == [3, 0]


def test_runs_not_yet_made_leave_a_gap_and_nothing_else():
    data = summary()
    late = (data["source"] == "random") & (data["confounder"] == "tag")
    late |= (data["confounder"] == "noise") & (data["test_set"] == "iid")
    figure = figures.robustness(data=data[~late])
    figure.draw_without_rendering()
    drawn = [list(curves(axes)) for axes in figure.axes]
    assert drawn == [NAMES[:2], NAMES, NAMES[:2], []]
    # Constrained layout collapses the axes if something in a panel has no place.
    assert min(axes.get_position().height for axes in figure.axes) > 0.25


def test_columns_are_picked_and_ordered():
    data = summary(["tag", "noise", "noise_high_vs_low"])
    figure = figures.robustness(data=data, confounders=["noise_high_vs_low", "noise"])
    assert titles(figure.axes[:2]) == ["noise, high vs low", "noise vs none"]


@pytest.mark.parametrize(
    ("data", "names", "says"),
    [
        (pd.concat([summary(), summary(task="other")]), [], "more than one task"),
        (pd.concat([summary(), summary(backbone="densenet121")]), [], "more than one backbone"),
    ],
)
def test_a_table_that_cannot_be_drawn_is_refused(data, names, says):
    with pytest.raises(StudyError, match=says):
        figures.robustness(data=data, confounders=names)


def test_saved_figures_come_with_their_table_and_are_the_same_bytes_each_time(tmp_path):
    data = summary(["tag"])
    first = figures.save(figures.robustness(data=data), tmp_path / "a" / "fig_0.5", data)
    second = figures.save(figures.robustness(data=data), tmp_path / "b" / "fig_0.5", data)
    assert [path.name for path in first] == ["fig_0.5.png", "fig_0.5.pdf", "fig_0.5.svg", "fig_0.5.csv"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == sorted(path.name for path in first)
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    pd.testing.assert_frame_equal(pd.read_csv(first[3], keep_default_na=False), data, check_dtype=False)
    assert first[0].read_bytes().startswith(b"\x89PNG") and first[1].read_bytes().startswith(b"%PDF")
    assert b"CreationDate" not in first[1].read_bytes()
    svg = first[2].read_text()
    assert "<dc:date>" not in svg and ">tag<" in svg, "no date, and text is text"


def test_no_figure_hides_where_it_comes_from():
    cautions = ["phantoms, not patients; stand-ins, not weights", "", np.nan, "phantoms, not patients", "drawn"]
    assert figures.caption(cautions) == "phantoms, not patients; stand-ins, not weights; drawn"
    assert figures.caption(pd.Series(["", np.nan])) == figures.caption([]) == ""


def said(axes):
    """What stands small above a panel."""
    return " ".join(" ".join(text.get_text().split()) for text in axes.texts if text.get_style() == "italic")


def test_each_panel_says_what_must_be_said_of_it_with_sources_in_words():
    # Real radiographs, read by stand-ins and by a network that is none, beside drawn CT.
    x_ray, ct = summary(("noise", "tag")), summary(("noise",)).assign(task="mass-ct")
    names = {"imagenet": "natural-standin"}
    x_ray, ct = x_ray.replace({"source": names}), ct.replace({"source": names})
    x_ray["caution"] = np.where(x_ray["source"] == "random", "", "natural-standin is not ImageNet")
    ct["caution"] = np.where(ct["source"] == "random", "phantoms", "phantoms; natural-standin is not ImageNet")
    figure = figures.by_task(data=pd.concat([x_ray, ct]), confounders=["noise", "tag"], baseline={})
    one, both = "natural stand-in is not ImageNet", "phantoms; natural stand-in is not ImageNet"
    assert [said(axes) for axes in figure.axes] == [one, one, both, ""]
    figure.draw_without_rendering()
    renderer = FigureCanvasAgg(figure).get_renderer()
    for axes in figure.axes[:1]:
        title, (caution,) = axes._left_title, [text for text in axes.texts if text.get_style() == "italic"]
        title, caution = title.get_window_extent(renderer), caution.get_window_extent(renderer)
        assert caution.y1 <= title.y0 and caution.y0 >= axes.get_window_extent(renderer).y1, "nothing hides another"


def test_cautions_in_words_name_the_task_they_are_about():
    table = pd.DataFrame({"task": ["mass", "mass", "mass-ct", "mass-ct"], "caution": ["b", "", "a; b", "a"]})
    assert figures.cautions(table) == ["b", "mass-ct: a"]
    assert figures.cautions(table[table["task"] == "mass-ct"]) == ["a; b"]
    assert figures.cautions(table.assign(caution=["", "", "a", ""])) == ["mass-ct: a"]
    assert figures.cautions(table[:0]) == figures.cautions(table.assign(caution=np.nan)) == []


def test_by_task_draws_a_row_a_task_of_one_test_set():
    x_ray, ct = summary(("noise", "noise_high_vs_low")), summary(("noise",)).assign(task="mass-ct")
    ct["mean"] -= 0.1
    data = pd.concat([x_ray, ct])
    designs = ["noise", "noise_high_vs_low"]
    figure = figures.by_task(data=data, confounders=designs, baseline={"mass-ct": 0.9})
    grid = panels(figure, 2)
    assert titles(grid[0]) == ["noise vs none", "noise, high vs low"]
    assert [axes.get_ylabel().splitlines()[0] for axes in grid[:, 0]] == ["mass", "mass-ct"]
    for row, table in enumerate((x_ray, ct)):
        for column, name in enumerate(designs):
            for source, container in zip(SOURCES, curves(grid[row, column]).values(), strict=False):
                expected = panel_rows(table, name, "ood", source)["mean"].to_numpy()
                assert container.lines[0].get_ydata() == pytest.approx(expected)
    assert not curves(grid[1, 1]) and "no such runs" in [text.get_text() for text in grid[1, 1].texts]
    published = [{line.get_label() for line in axes.lines} for axes in grid[:, 0]]
    assert "published state of the art" not in published[0] and "published state of the art" in published[1]


def test_panels_say_how_many_images_their_test_has():
    data = summary()
    data["n"] = np.where(data["test_set"] == "ood", 30, 24)
    data["positives"] = np.where(data["confounder"] == "tag", 10, 12)
    figure = figures.robustness(data=data)
    assert [said(axes) for axes in figure.axes] == [f"n = {n} ({k} positive)" for n in (30, 24) for k in (10, 12)]


def test_two_tasks_are_not_laid_on_one_published_panel():
    rows = summary(["tag"]).rename(columns={"mean": "ours"}).assign(panel="tag", data="nih")
    with pytest.raises(StudyError, match=r"tag has more than one task \(mass, other\)"):
        figures.against(data=pd.concat([rows, rows.assign(task="other")]))


def test_by_task_draws_one_backbone():
    data = pd.concat([summary(), summary().assign(backbone="densenet121")])
    with pytest.raises(StudyError, match="noise has more than one backbone"):
        figures.by_task(data=data, confounders=["noise"], baseline={})


def legend_of(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_every_source_stands_in_the_legend_whatever_it_is_called(tmp_path):
    strange = {"imagenet": "_mine", "radimagenet": r"$\frac$", "random": "chance"}
    data = summary(["tag"])
    data = data.assign(source=data["source"].map(strange), task=r"$mass_", caution=r"phantoms, $\frac$ of them")
    figure = figures.robustness(data=data, note="50$ and $x")
    figures.save(figure, tmp_path / "a", data)  # mathtext would raise here
    texts = legend_of(figure)
    assert {text.strip().replace("\\", "") for text in texts} == {"mine", "$frac$", "chance"}


def test_runs_that_did_not_learn_are_crossed_out():
    data = summary(["tag"])
    weak = (data["source"] == "random") & (data["p_art"] <= 0.1)
    grid = panels(figures.robustness(data=data.assign(unlearned=2 * weak)), 1)
    for row, test_set in enumerate(["ood", "iid"]):
        (crosses,) = [line for line in grid[row, 0].lines if line.get_marker() == "x"]
        expected = panel_rows(data[weak], "tag", test_set, "random")["mean"]
        assert crosses.get_ydata() == pytest.approx(expected.to_numpy())
    figure = figures.robustness(data=data.assign(unlearned=0 * weak))
    assert drawing.UNLEARNED not in legend_of(figure)
    assert legend_of(figures.robustness(data=data.assign(unlearned=2 * weak))).count(drawing.UNLEARNED) == 1


MANY = ["tag", "noise", "gender", "gamma", "pacemaker", "heart_size", "motion_blur"]


@pytest.mark.parametrize(("count", "width"), [(1, 89), (2, 120), (3, 183), (5, 183), (7, 183)])
def test_a_figure_is_as_wide_as_a_journal_prints_it_and_all_words_are_in_it(count, width):
    data = summary(MANY[:count]).replace({"source": {"imagenet": "natural-standin", "random": "x" * 30}})
    said = "phantoms, not patients; natural-standin is not ImageNet; radiology-standin is not RadImageNet"
    clean = data[data["test_set"] == "iid"].assign(test_set="clean")
    data = pd.concat([data, clean]).assign(caution=said, unlearned=1, n=1062, positives=531)
    figure = figures.robustness(data=data, note="size 64, 128 (tag)", baseline={"mass": 0.9})
    FigureCanvasAgg(figure).draw()
    assert figure.get_figwidth() * 25.4 == pytest.approx(width)
    texts = [text for axes in figure.axes for text in (*axes.texts, axes._left_title, axes.yaxis.label)]
    texts += [*figure.legends[0].get_texts(), figure.legends[0].get_title(), figure._supxlabel]
    page = figure.bbox
    for text in texts:
        if text.get_text():
            box = text.get_window_extent()
            assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= page.x1 + 1 and box.y1 <= page.y1 + 1, text.get_text()
            assert text.get_fontsize() in (style.TEXT, style.FINE)
    letters = [text.get_text() for axes in figure.axes for text in axes.texts if text.get_weight() == "bold"]
    assert letters == list("abcdefghijklmn"[: 2 * count]), "in the order in which they are read"


def test_strengths_are_written_with_their_zero_where_there_is_room():
    def labels(names):
        figure = figures.robustness(data=summary(names))
        return [label.get_text() for label in figure.axes[len(names)].get_xticklabels()]

    assert labels(["tag"]) == ["0", "0.1", "0.2", "0.5", "0.8", "1"]
    assert labels(MANY[:5]) == ["0", "", "0.2", "0.5", "0.8", "1"]
