"""What a figure draws is what its table says; saved figures are the same bytes each time."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.container import ErrorbarContainer

from sourcematters.errors import StudyError
from sourcematters.results import figures, statistics

GRID = [0.0, 0.1, 0.2, 0.5, 0.8, 1.0]
SOURCES = ["imagenet", "radimagenet", "random"]


def summary(names=("tag", "noise"), **columns) -> pd.DataFrame:
    rows = []
    for a, name in enumerate(names):
        for b, source in enumerate(SOURCES):
            for p in GRID:
                for test_set, mean in (("ood", 0.8 - 0.05 * a - 0.65 * p + 0.02 * b), ("iid", 0.8 + 0.19 * p)):
                    rows.append(("mass", name, source, "resnet50", test_set, p, 5, mean, mean - 0.15, mean + 0.1, ""))
    return pd.DataFrame(rows, columns=statistics.SUMMARY).assign(**columns)


def curves(axes) -> dict[str, ErrorbarContainer]:
    return {c.get_label(): c for c in axes.containers if isinstance(c, ErrorbarContainer)}


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
            assert list(drawn) == SOURCES
            for source, container in drawn.items():
                rows = panel_rows(data, name, test_set, source)
                points, _, (bars,) = container.lines
                assert points.get_ydata() == pytest.approx(rows["mean"].to_numpy())
                assert np.abs(points.get_xdata() - rows["p_art"]).max() <= 0.026
                ends = np.array([segment[:, 1] for segment in bars.get_segments()])
                expected = np.clip(rows[["ci_low", "ci_high"]].to_numpy(), 0, 1)
                assert ends == pytest.approx(expected)


def test_a_panel_without_a_test_set_says_so():
    data = summary()
    data = data[(data["confounder"] != "noise") | (data["test_set"] == "ood")]
    grid = panels(figures.robustness(data=data, confounders=["tag", "noise"]), 2)
    texts = [[" ".join(t.get_text() for t in axes.texts) for axes in row] for row in grid]
    assert texts[0] == ["", ""] and texts[1][0] == "" and "no such test" in texts[1][1]
    assert not curves(grid[1, 1]) and list(curves(grid[0, 1])) == SOURCES


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
    assert [axes.get_title() for axes in grid[0]] == ["tag", "noise vs none"]
    assert [axes.get_ylabel() for axes in grid[:, 0]] == ["o.o.d. test\nAUC", "i.i.d. test\nAUC"]
    for axes in grid.flat:
        lines = {line.get_label(): line for line in axes.lines}
        assert set(lines["chance"].get_ydata()) == {0.5}
        assert set(lines["published state of the art"].get_ydata()) == {0.9}
        assert axes.get_ylim() == grid[0, 0].get_ylim() == (-0.02, 1.02)
        assert axes.get_xticks() == pytest.approx(GRID)
    (legend,) = figure.legends
    assert legend.get_title().get_text() == "phantoms, not patients"
    names = {text.get_text() for text in legend.get_texts()}
    assert names == {*SOURCES, "chance", "published state of the art"}
    assert "mean of 5 folds, 95 % interval: folds and test patients" in figure.get_supxlabel()


def test_the_published_level_can_differ_between_tasks():
    data = pd.concat([summary(["tag"]), summary(["gender"], task="atelectasis")])
    figure = figures.robustness(data=data, baseline={"mass": 0.9, "atelectasis": 0.7})
    levels = [
        next(line for line in axes.lines if line.get_label() == "published state of the art").get_ydata()[0]
        for axes in figure.axes[:2]
    ]
    assert levels == [0.9, 0.7]
    assert [axes.get_title() for axes in figure.axes[:2]] == ["tag\nmass", "gender\natelectasis"]


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


def test_the_clean_test_is_a_thin_line_of_the_sources_colour_in_the_ood_row():
    data = summary(["tag", "noise"])
    clean = data[(data["test_set"] == "iid") & (data["confounder"] == "tag")].assign(test_set="clean", mean=0.77)
    clean["mean"] -= 0.1 * clean["p_art"]
    figure = figures.robustness(data=pd.concat([data, clean]))
    grid = panels(figure, 2)
    assert [[len(thin_lines(axes)) for axes in row] for row in grid] == [[3, 0], [0, 0]]
    for line, source in zip(thin_lines(grid[0, 0]), SOURCES, strict=True):
        assert line.get_ydata() == pytest.approx([0.77 - 0.1 * p for p in GRID]) and line.get_xdata() == pytest.approx(
            GRID
        )
        assert line.get_color() == curves(grid[0, 0])[source].lines[0].get_color()
    assert [text.get_text() for text in figure.legends[0].get_texts()].count("clean test (thin)") == 1
    assert "clean test (thin)" not in [t.get_text() for t in figures.robustness(data=data).legends[0].get_texts()]
    by_task = figures.by_task(data=pd.concat([data, clean]), confounders=["tag", "noise"], baseline={})
    assert [len(thin_lines(axes)) for axes in by_task.axes] == [3, 0]


def test_runs_not_yet_made_leave_a_gap_and_nothing_else():
    data = summary()
    late = (data["source"] == "random") & (data["confounder"] == "tag")
    late |= (data["confounder"] == "noise") & (data["test_set"] == "iid")
    figure = figures.robustness(data=data[~late])
    figure.draw_without_rendering()
    drawn = [list(curves(axes)) for axes in figure.axes]
    assert drawn == [SOURCES[:2], SOURCES, SOURCES[:2], []]
    # Constrained layout collapses the axes if something in a panel has no place.
    assert min(axes.get_position().height for axes in figure.axes) > 0.25


def test_columns_are_picked_and_ordered():
    data = summary(["tag", "noise", "noise_high_vs_low"])
    figure = figures.robustness(data=data, confounders=["noise_high_vs_low", "noise"])
    assert [axes.get_title() for axes in figure.axes[:2]] == ["noise, high vs low", "noise vs none"]


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
    assert [path.name for path in first] == ["fig_0.5.png", "fig_0.5.pdf", "fig_0.5.csv"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == sorted(path.name for path in first)
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    pd.testing.assert_frame_equal(pd.read_csv(first[2], keep_default_na=False), data, check_dtype=False)
    assert first[0].read_bytes().startswith(b"\x89PNG") and first[1].read_bytes().startswith(b"%PDF")
    assert b"CreationDate" not in first[1].read_bytes()


def test_no_figure_hides_where_it_comes_from():
    cautions = ["phantoms, not patients; stand-ins, not weights", "", np.nan, "phantoms, not patients", "drawn"]
    assert figures.caption(cautions) == "phantoms, not patients; stand-ins, not weights; drawn"
    assert figures.caption(pd.Series(["", np.nan])) == figures.caption([]) == ""


def said(axes):
    """What stands above a panel, beside its title."""
    return " ".join(" ".join(text.get_text().split()) for text in axes.texts if text.get_style() == "italic")


def test_a_caution_stands_on_the_panels_it_is_about():
    # Real radiographs, read by stand-ins and by a network that is none, beside drawn CT.
    x_ray, ct = summary(("noise", "tag")), summary(("noise",)).assign(task="mass-ct")
    x_ray["caution"] = np.where(x_ray["source"] == "random", "", "stand-ins, not ImageNet")
    ct["caution"] = np.where(ct["source"] == "random", "phantoms", "phantoms; stand-ins, not ImageNet")
    figure = figures.by_task(data=pd.concat([x_ray, ct]), confounders=["noise", "tag"], baseline={})
    assert [said(axes) for axes in figure.axes] == ["", "", "phantoms", ""]
    assert figure.legends[0].get_title().get_text() == "stand-ins, not ImageNet"
    # Gender on a cohort of one's own, beside phantoms: a column.
    gender = summary(["gender"]).assign(task="mine", caution="")
    both = pd.concat([summary(["tag"]).assign(caution="phantoms, not patients"), gender])
    figure = figures.robustness(data=both)
    assert [said(axes) for axes in figure.axes] == ["phantoms, not patients", "", "phantoms, not patients", ""]
    assert [axes.get_title() for axes in figure.axes[:2]] == ["tag\nmass", "gender\nmine"]
    assert figure.legends[0].get_title().get_text() == ""
    figure.draw_without_rendering()
    renderer = FigureCanvasAgg(figure).get_renderer()
    for axes in figure.axes[:1]:
        title, caution = axes.title.get_window_extent(renderer), axes.texts[-1].get_window_extent(renderer)
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
    assert [axes.get_title() for axes in grid[0]] == ["noise vs none", "noise, high vs low"]
    assert [axes.get_ylabel() for axes in grid[:, 0]] == [f"{task}\no.o.d. test\nAUC" for task in ("mass", "mass-ct")]
    for row, table in enumerate((x_ray, ct)):
        for column, name in enumerate(designs):
            for source, container in curves(grid[row, column]).items():
                expected = panel_rows(table, name, "ood", source)["mean"].to_numpy()
                assert container.lines[0].get_ydata() == pytest.approx(expected)
    assert not curves(grid[1, 1]) and grid[1, 1].texts[0].get_text() == "no such runs"
    published = [{line.get_label() for line in axes.lines} for axes in grid[:, 0]]
    assert "published state of the art" not in published[0] and "published state of the art" in published[1]


def test_panels_say_how_many_images_their_test_has():
    data = summary()
    data["n"] = np.where(data["test_set"] == "ood", 30, 24)
    data["positives"] = np.where(data["confounder"] == "tag", 10, 12)
    figure = figures.robustness(data=data)
    texts = [[text.get_text() for text in axes.texts if text.get_text()] for axes in figure.axes]
    assert texts == [[f"n = {n} ({k} positive)"] for n in (30, 24) for k in (10, 12)]


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
    assert {text.strip().replace("\\", "") for text in texts} == {"_mine", "$frac$", "chance"}
    assert texts.count("chance") == 2, "the source and the line"


def test_runs_that_did_not_learn_are_crossed_out():
    data = summary(["tag"])
    weak = (data["source"] == "random") & (data["p_art"] <= 0.1)
    grid = panels(figures.robustness(data=data.assign(unlearned=2 * weak)), 1)
    for row, test_set in enumerate(["ood", "iid"]):
        (crosses,) = [line for line in grid[row, 0].lines if line.get_marker() == "x"]
        expected = panel_rows(data[weak], "tag", test_set, "random")["mean"]
        assert crosses.get_ydata() == pytest.approx(expected.to_numpy())
    figure = figures.robustness(data=data.assign(unlearned=0 * weak))
    assert figures.UNLEARNED not in legend_of(figure)
    assert legend_of(figures.robustness(data=data.assign(unlearned=2 * weak))).count(figures.UNLEARNED) == 1


@pytest.mark.parametrize("names", [["tag"], ["tag", "noise"], ["tag", "noise", "gender"]])
def test_legend_and_cautions_fit_into_the_figure(names):
    said = "phantoms, not patients; natural-standin is not ImageNet; radiology-standin is not RadImageNet"
    data = summary(names).replace({"source": {"imagenet": "natural-standin", "radimagenet": "radiology-standin"}})
    figure = figures.robustness(
        data=data.assign(caution=said, unlearned=1, n=62, positives=31), note="size 64, 128 (tag)"
    )
    FigureCanvasAgg(figure).draw()
    drawn = figure.legends[0].get_window_extent()
    assert drawn.x0 >= 0 and drawn.x1 <= figure.bbox.width and drawn.y1 <= figure.bbox.height
    assert figure.legends[0].get_title().get_text().replace("\n", " ").startswith(said)
