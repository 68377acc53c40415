"""Finished runs: their tables and figures, each kept as a file and shown."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import Image
from matplotlib.figure import Figure

from sourcematters import checksums, metrics
from sourcematters.checked import unknown
from sourcematters.errors import StudyError
from sourcematters.report import captions
from sourcematters.results import figures, forest, published, statistics, table1, verdicts
from sourcematters.runs import mixtures
from sourcematters.runs.run_folder import Workspace
from sourcematters.runs.specs import RunSpec
from sourcematters.study.settings import Settings


def save_table(workspace: Workspace, name: str, table: pd.DataFrame) -> pd.DataFrame:
    """Keep a table as tables/NAME.csv, its checksum beside it, and return it."""
    path = workspace.own(f"tables/{name}.csv")
    checksums.usable(path, "it is written anew")
    checksums.write_csv(path, table)
    return table


def save_figure(workspace: Workspace, name: str, figure: Figure, table: pd.DataFrame) -> Image:
    """Keep a figure and its table as figures/NAME of each of `figures.KINDS`, sealed by NAME.sha256.

    Returned is the png, with what it shows in words.
    """
    path = workspace.own(f"figures/{name}")
    all(checksums.usable(f"{path}.{kind}", "the figure is drawn anew") for kind in figures.KINDS)
    png, *others = figures.save(figure, path, table)
    checksums.seal(checksums.seal_of(png), [png, *others])
    rows = table.astype(object).where(table.notna(), "").astype(str).to_dict("records")
    width = min(820, round(110 * figure.get_figwidth()))
    return Image(png, width=width, alt=captions.caption(name, rows).alt)


def discard_figure(workspace: Workspace, name: str) -> None:
    """Delete what `save_figure` kept: an earlier figure tells nothing of what was asked now, and is not drawn."""
    path = workspace.own(f"figures/{name}")
    for each in (checksums.seal_of(f"{path}.png"), *(Path(f"{path}.{kind}") for kind in figures.KINDS)):
        each.unlink(missing_ok=True)


@dataclass(frozen=True)
class FinishedRuns:
    """Runs that are done: `table` has one row a run and test set (`grids.collect`); `name` names what is kept.

    `paper` gives the runs of profile `paper` on X-rays, which say what can be compared with the published numbers.
    """

    table: pd.DataFrame
    workspace: Workspace
    settings: Settings
    name: str
    paper: Callable[[], Sequence[RunSpec]]

    @property
    def runs(self) -> Path:
        """The folder of the run folders."""
        return self.workspace.shared("runs")

    @cached_property
    def parts(self) -> statistics.Parts:
        """How far each test patient moves the AUC of each run, from the predictions."""
        return statistics.read_parts(self.table, self.runs)

    @cached_property
    def summary(self) -> pd.DataFrame:
        """Mean AUC over folds with its interval, size of the test, `caution` and in how many folds it did not learn.

        One row a group of `metrics.GROUP`.
        """
        of_group = self.table.assign(unlearned=1 - self.table["learned"]).groupby(metrics.GROUP, as_index=False)
        said = of_group.agg({"caution": "first", "unlearned": "sum"})
        return self._sized(statistics.summarise(self.table, self.runs, parts=self.parts).merge(said, on=metrics.GROUP))

    def _sized(self, table: pd.DataFrame) -> pd.DataFrame:
        """`table` with the size of its test sets (`metrics.SIZE`); of the o.o.d. test where a row is not of one."""
        sizes, of = metrics.sizes(self.table), ["task", "confounder", "test_set"]
        if "test_set" not in table:
            sizes, of = sizes[sizes["test_set"] == "ood"], of[:2]
        new = [column for column in metrics.SIZE if column not in table]
        return table.merge(sizes[[*of, *new]], on=of, how="left")

    def _kept(self, name: str, table: pd.DataFrame, columns: str, digits: int = 3) -> pd.DataFrame:
        """Keep all of a table, and return what tells its rows apart and these of its columns, rounded, to be read."""
        table = save_table(self.workspace, name, self._sized(table))
        several = [name for name in ("data", "backbone") if name in table and table[name].nunique() > 1]
        return table[list(dict.fromkeys(["task", *several, *columns.split(), "n", "positives"]))].round(digits)

    @cached_property
    def _settings(self) -> pd.DataFrame:
        return mixtures.settings_of_runs(self.table, self.workspace)

    def _drawn(self, name: str, draw: Callable[..., Figure], confounders: Sequence[str]) -> Image | None:
        """Keep what `draw` makes of those of `confounders` that were run, and return it; nothing if none was."""
        part = self.summary[self.summary["confounder"].isin(confounders)]
        if part.empty:
            discard_figure(self.workspace, name)
            return None
        names = [name for name in confounders if name in set(part["confounder"])]
        levels, tasks = self.settings.state_of_the_art, sorted(set(self.summary["task"]))
        if wrong := [task for task in levels if task not in tasks]:
            raise StudyError(f"state_of_the_art: {unknown('task', wrong[0], tasks)}")
        figure = draw(data=part, confounders=names, baseline=levels, note=self._differences(names))
        return save_figure(self.workspace, name, figure, part)

    def _differences(self, confounders: Iterable[str]) -> str:
        """In which settings the panels of a figure of these confounders differ."""
        return mixtures.told(self._settings[self._settings["confounder"].isin(confounders)])

    def plot(self) -> Image:
        """AUC against the confounder's strength, o.o.d. over i.i.d. test, a column a confounder."""
        figure = figures.robustness(data=self.summary, note=self._differences(self.summary["confounder"]))
        return save_figure(self.workspace, self.name, figure, self.summary)

    def answer(self) -> pd.DataFrame:
        """Say of each source whether it leans on the confounder (`results.verdicts`), and return the numbers.

        What the confounder does to networks that never saw it is told apart.
        """
        table = self._sized(statistics.by_source(self.table, self.runs, self.parts))
        findings = verdicts.of_sources(table, self.table)
        print(verdicts.on_top(findings))
        for row, finding in zip(table.itertuples(), findings, strict=True):
            print(verdicts.sentence(finding))
            if np.isfinite(row.shift):
                print(
                    f"    AUC {row.clean:.2f} clean, {row.shift:+.2f} where it misleads, never having seen it (shift)"
                )
            if row.problem:
                print(f"    {row.problem}")
        for sentence in mixtures.unlearned(self.table):
            print(sentence)
        words = verdicts.as_table(findings)[["verdict", "sentence"]]
        save_table(self.workspace, f"{self.name}_answer", pd.concat([table, words], axis=1))
        return pd.concat([table.round(3), words["verdict"]], axis=1)

    # The paper's tables and figures, of all runs of a study

    def table1(self) -> pd.DataFrame:
        """Table 1: what the networks were trained and tested on, a column a group of confounders."""
        save_table(self.workspace, "all_runs", self.table)
        save_table(self.workspace, "summary", self.summary)
        return save_table(self.workspace, "table1", table1.summarise(self.table, self.workspace)).T.fillna("")

    def settings_of_runs(self) -> pd.DataFrame:
        """With which settings the runs were made, a row a task and confounder."""
        return save_table(self.workspace, "settings_of_runs", self._settings)

    def fig3(self) -> Image | None:
        """The paper's Fig. 3: tag, denoising and gender, o.o.d. over i.i.d. test."""
        return self._drawn("fig3", figures.robustness, ("tag", "denoising", "gender"))

    def fig4(self) -> Image | None:
        """The paper's Fig. 4: noise in the o.o.d. test, a row a task, a column a design."""
        return self._drawn("fig4", figures.by_task, ("noise", "noise_high_vs_low"))

    def overview(self) -> Image | None:
        """The o.o.d. test of every confounder that was run, the paper's or not, a row a task."""
        return self._drawn("overview", figures.by_task, self.summary["confounder"].unique())

    # Statistics

    @cached_property
    def pairs(self) -> list[tuple[str, str]]:
        """The pairs of sources that are compared."""
        return statistics.pairs(self.table["source"], self.settings.reference)

    @cached_property
    def _compared(self) -> pd.DataFrame:
        return statistics.compare(self.table, self.runs, pairs=self.pairs, parts=self.parts)

    def compare(self, save_as: str = "primary") -> pd.DataFrame:
        """The primary analysis: does one source rely more on a confounder than another? Says what it found."""
        table = self._compared
        for line in (
            *statistics.told(table),
            *(statistics.false_alarms(k, "primary") for k in sorted(set(table["folds"]))),
        ):
            print(line)
        columns = "task confounder a b folds patients n reliance_a reliance_b difference ci_low ci_high p p_holm "
        return self._kept(save_as, table, columns + "p_holm_development detectable problem", 4)

    def forest(self) -> Image | None:
        """The primary analysis in one figure, a panel a pair of sources; nothing where no pair was run."""
        table = self._compared
        if table.empty:
            discard_figure(self.workspace, "forest")
            return None
        figure = forest.forest(data=table, caution=figures.caption(self.table["caution"]))
        return save_figure(self.workspace, "forest", figure, table)

    def by_source(self) -> pd.DataFrame:
        """What each confounder does to each source: clean AUC, shift and reliance, a row a source."""
        table = self._sized(statistics.by_source(self.table, self.runs, self.parts))
        return save_table(self.workspace, "by_source", table).round(3)

    def permutation_tests(self) -> pd.DataFrame:
        """The paper's test for each strength, corrected by Holm within its family, and how often it is wrong."""
        asked = self.settings
        how = {"resamples": asked.permutations, "seed": asked.seed}
        tests = statistics.holm(statistics.permutation_tests(self.table, pairs=self.pairs, **how))
        for family, part in tests.groupby("family", sort=False):
            below = int((part["p_holm"] < 0.05).sum())
            print(
                f"{family}: {below} with p_holm below 0.05; the smallest possible is {part['floor_holm'].iloc[0]:.3f}"
            )
        for folds in sorted(set(tests["folds_a"])):
            print(statistics.false_alarms(folds))
        columns = "task confounder backbone p_art a b folds_a folds_b difference t p floor p_holm floor_holm"
        return self._kept("tests", tests, columns, 4)

    # Against the paper

    @cached_property
    def comparison(self) -> pd.DataFrame:
        """Our curves on the published ones (`published.compare`)."""
        table = self._sized(published.compare(self.table, self.workspace, self.paper()))
        return save_table(self.workspace, "against_the_paper", table)

    def against_the_paper(self) -> Image | None:
        """Both curves in one figure, and what the comparison is worth; that alone where there is nothing to be read."""
        verdict = published.verdict(self.comparison)
        if not published.readable(self.comparison):
            print(f"{verdict} No panel has the paper's data and task, so none is drawn.")
            discard_figure(self.workspace, "against_the_paper")
            return None
        print(verdict)
        figure = figures.against(data=self.comparison, note=verdict)
        return save_figure(self.workspace, "against_the_paper", figure, self.comparison)

    def differences(self) -> pd.DataFrame:
        """Ours and published side by side, and for each panel and source why it is not comparable."""
        first = self.comparison.groupby(["panel", "task", "source"], sort=False)["reason"].first()
        for (panel, task, source), reason in first.items():
            print(f"{panel}, {task}, {source}: {reason or 'comparable'}")
        columns = (
            "panel task backbone test_set source p_art ours published difference within_ci auc n positives comparable"
        ).split()
        return self.comparison[columns].round(3)

    def consistency(self) -> pd.DataFrame:
        """What the paper's own numbers say of each other: its printed folds, its figures, its tests."""
        return save_table(self.workspace, "published_consistency", published.consistency()).round(4)
