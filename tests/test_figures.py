"""What a figure draws is what its table says; saved figures are the same bytes each time."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.container import ErrorbarContainer

from sourcematters import confounders, figures, metrics
from sourcematters.errors import StudyError

GRID = [0.0, 0.1, 0.2, 0.5, 0.8, 1.0]
SOURCES = ["imagenet", "radimagenet", "random"]


def summary(names=("tag", "noise"), **columns) -> pd.DataFrame:
    rows = []
    for a, name in enumerate(names):
        for b, source in enumerate(SOURCES):
            for p in GRID:
                for test_set, mean in (("ood", 0.8 - 0.05 * a - 0.65 * p + 0.02 * b), ("iid", 0.8 + 0.19 * p)):
                    rows.append(("mass", name, source, "resnet50", test_set, p, 5, mean, mean - 0.15, mean + 0.1))
    return pd.DataFrame(rows, columns=metrics.SUMMARY).assign(**columns)


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
    figure = figures.robustness(data=summary(), baseline=0.9, note="phantoms, not patients")
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
    assert "mean of 5 folds, 95 % confidence interval" in figure.get_supxlabel()


def test_the_published_level_can_differ_between_tasks():
    data = pd.concat([summary(["tag"]), summary(["gender"], task="atelectasis")])
    figure = figures.robustness(data=data, baseline={"mass": 0.9, "atelectasis": 0.7})
    levels = [
        next(line for line in axes.lines if line.get_label() == "published state of the art").get_ydata()[0]
        for axes in figure.axes[:2]
    ]
    assert levels == [0.9, 0.7]
    assert [axes.get_title() for axes in figure.axes[:2]] == ["tag\nmass", "gender\natelectasis"]


def test_one_fold_is_drawn_without_bars():
    data = summary(["tag"], folds=1, ci_low=np.nan, ci_high=np.nan)
    figure = figures.robustness(data=data)
    (points, _, (bars,)) = curves(figure.axes[0])["random"].lines
    assert np.isfinite(points.get_ydata(orig=False)).all()
    assert not any(len(segment) for segment in bars.get_segments())
    assert "no confidence interval" in figure.get_supxlabel()


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
        (summary().drop(columns="ci_low"), None, "no column ci_low"),
        (summary().iloc[:0], None, "has no row"),
        (summary(mean=1.5), None, "1.5 is outside"),
        (summary(mean=np.nan), None, "nan is outside"),
        (summary(), ["tag", "gender"], "no o.o.d. or i.i.d. row for confounder 'gender'"),
        (pd.concat([summary(), summary(task="other")]), None, "more than one task"),
        (pd.concat([summary(), summary(backbone="densenet121")]), None, "more than one backbone"),
    ],
)
def test_a_table_that_cannot_be_drawn_is_refused(data, names, says):
    with pytest.raises(StudyError, match=says):
        figures.robustness(data=data, confounders=names)


def test_styles_are_distinct_in_colour_marker_and_line():
    chosen = figures.styles(["mine", "imagenet", "radimagenet", "random", "yours", "third", "fourth"])
    for field in list(zip(*chosen.values(), strict=True))[:3]:
        assert len(set(map(str, field))) == 7
    # Lightness tells them apart only in part; a colour-blind-safe palette is Okabe's and Ito's.
    assert chosen["imagenet"].color == "#D55E00" and chosen["radimagenet"].color == "#0072B2"


def test_styles_do_not_depend_on_the_order_and_stand_ins_wear_their_sources_colours():
    assert figures.styles(["b", "random", "a"]) == figures.styles(["a", "b", "random"])
    assert figures.styles(["natural-standin"]) == {"natural-standin": figures.SOURCES["imagenet"]}
    both = figures.styles(["imagenet", "natural-standin"])
    assert both["imagenet"] == figures.NATURAL and both["natural-standin"] in figures.OTHERS


def test_a_matched_source_has_its_sources_colour_and_marker_but_is_told_apart():
    chosen = figures.styles(["random", "radimagenet+matched", "mine+matched", "radimagenet", "mine"])
    assert list(chosen) == ["radimagenet", "radimagenet+matched", "random", "mine", "mine+matched"]
    for name in ("radimagenet", "mine"):
        plain, matched = chosen[name], chosen[f"{name}+matched"]
        assert (plain.color, plain.marker) == (matched.color, matched.marker)
        assert (plain.hollow, matched.hollow) == (False, True) and plain.linestyle != matched.linestyle
    assert figures.styles(["imagenet+matched"])["imagenet+matched"].color == figures.NATURAL.color
    assert figures.styles(["radimagenet-keras"]) == {"radimagenet-keras": figures.RADIOLOGY}


def test_more_sources_than_styles_are_refused():
    with pytest.raises(StudyError, match="draw fewer"):
        figures.styles("abcdefgh")


# --- gallery ---


@pytest.fixture(scope="module")
def shown():
    image = np.random.default_rng(0).integers(60, 120, (160, 128), dtype=np.uint8)
    drawn = [confounders.tag(), confounders.denoising(40), confounders.noise_high_vs_low()]
    return {"image": image, "confounders": drawn, "seed": 3, "image_id": "a"}


def pixels(axes) -> np.ndarray:
    return np.asarray(axes.images[0].get_array())


def test_gallery_shows_each_alteration_its_difference_and_its_detail(shown):
    figure = figures.gallery(**shown, zoom=4, note="phantoms")
    grid = np.array(figure.axes).reshape(3, 5)
    assert [a.get_title() for a in grid[0]] == ["without", "with", "difference", "without, × 4", "with, × 4"]
    for row, confounder in zip(grid, shown["confounders"], strict=True):
        for axes, alteration in zip(row, (confounder.base, confounder.carrier), strict=False):
            key = confounders.key_for(3, "a", alteration)
            assert (pixels(axes) == confounders.apply(alteration, shown["image"], key)[0]).all()
        factor = int(row[2].get_xlabel().split()[1])
        change = pixels(row[1]).astype(int) - pixels(row[0])
        assert (pixels(row[2]) - 128 == factor * change).all()
        left, top = (int(v) for v in row[0].patches[0].get_xy())
        part = np.s_[top : top + 32, left : left + 32]
        assert (pixels(row[3]) == pixels(row[0])[part]).all() and pixels(row[3]).shape == (32, 32)
        assert (pixels(row[4]) == pixels(row[1])[part]).all()
        assert confounder.carrier.label.split("(")[0] in row[0].get_ylabel()
    assert figure.get_suptitle() == "phantoms"


def test_the_magnified_part_holds_the_whole_tag(shown):
    axes = figures.gallery(**shown | {"confounders": [confounders.tag()]}).axes
    _, mask = confounders.draw_tag(shown["image"], 0)
    detail = pixels(axes[4]).astype(int) != pixels(axes[3])
    assert detail.sum() == np.count_nonzero(pixels(axes[1]) != pixels(axes[0])) > 0
    assert detail.sum() <= mask.sum()


def test_the_galleries_table_counts_what_it_shows(shown):
    table = figures.gallery_table(**shown).set_index("confounder")
    altered, mask = confounders.draw_tag(shown["image"], 0)
    change = np.abs(altered.astype(int) - shown["image"])
    row = table.loc["tag"]
    assert (row["masked_pixels"], row["changed_pixels"]) == (mask.sum(), (change > 0).sum())
    assert row["mean_change"] == pytest.approx(change.sum() / change.size)
    assert row["largest_change"] == change.max()
    assert table.loc["noise_high_vs_low", "others"] == "poisson_noise(n0=2e+07)"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"confounders": [confounders.gender()]}, "gender is sampled"),
        ({"confounders": []}, "no confounder"),
        ({"zoom": 0.5}, "zoom=0.5 must be 1 or more"),
    ],
)
def test_a_gallery_of_nothing_is_refused(shown, change, says):
    with pytest.raises(StudyError, match=says):
        figures.gallery(**shown | change)


# --- files ---


def test_saved_figures_come_with_their_table_and_are_the_same_bytes_each_time(tmp_path):
    data = summary(["tag"])
    first = figures.save(figures.robustness(data=data), tmp_path / "a" / "fig_0.5", data)
    second = figures.save(figures.robustness(data=data), tmp_path / "b" / "fig_0.5", data)
    assert [path.name for path in first] == ["fig_0.5.png", "fig_0.5.pdf", "fig_0.5.csv"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == sorted(path.name for path in first)
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    pd.testing.assert_frame_equal(pd.read_csv(first[2]), data)
    assert first[0].read_bytes().startswith(b"\x89PNG") and first[1].read_bytes().startswith(b"%PDF")
    assert b"CreationDate" not in first[1].read_bytes()


@pytest.mark.parametrize(
    ("data", "sources", "said"),
    [
        (["phantoms"], ["random"], "phantoms, not patients"),
        (["cxr14"], ["natural-standin", "random"], "stand-ins, not ImageNet or RadImageNet"),
        (["cxr14"], ["radiology-standin+matched"], "stand-ins, not ImageNet or RadImageNet"),
        (["phantoms"], ["natural-standin"], "phantoms, not patients; stand-ins, not ImageNet or RadImageNet"),
        (["cxr14"], ["imagenet", "radimagenet", "random"], ""),
    ],
)
def test_no_figure_hides_where_it_comes_from(data, sources, said):
    assert figures.caption(data=data, sources=sources) == said


def test_sheet_shows_the_first_image_of_different_patients():
    cohort = pd.DataFrame(
        {
            "image_id": ["a", "b", "c", "d", "e"],
            "path": "unused",
            "patient_id": ["p1", "p1", "p2", "p3", "p4"],
            "label": [0, 0, 1, 0, 1],
        }
    )
    bank = np.arange(5, dtype=np.uint8)[:, None, None] * np.ones((1, 4, 4), np.uint8)
    assert figures.sheet_table(cohort=cohort)["image_id"].tolist() == ["a", "d", "c", "e"]
    figure = figures.sheet(cohort=cohort, bank=bank, per_class=2)
    shown = [axes.images[0].get_array().max() for axes in figure.axes]
    assert shown == [0, 3, 2, 4]


def test_a_mean_that_exceeds_1_by_rounding_draws_no_negative_bar():
    data = pd.DataFrame({"source": ["random"], "p_art": [1.0], "mean": [1.0 + 1e-7], "ci_low": [0.9], "ci_high": [1.1]})
    figure = figures.Figure()
    axes = figure.subplots()
    figures._curves(axes, data, figures.styles(["random"]))
    (bars,) = (c for c in axes.containers if isinstance(c, ErrorbarContainer))
    (low, high) = bars.lines[2][0].get_segments()[0][:, 1]
    assert (low, high) == pytest.approx((0.9, 1.0))
