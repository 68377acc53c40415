"""Finished runs: their tables and figures, each kept as a file and shown."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd
from IPython.display import Image
from matplotlib.figure import Figure

from sourcematters import checksums, metrics
from sourcematters.checked import unknown
from sourcematters.errors import StudyError
from sourcematters.results import figures, published, statistics, table1
from sourcematters.runs.run_folder import Workspace
from sourcematters.study.settings import Settings


def save_table(workspace: Workspace, name: str, table: pd.DataFrame) -> pd.DataFrame:
    """Keep a table as tables/NAME.csv, its checksum beside it, and return it."""
    checksums.write_csv(workspace.own(f"tables/{name}.csv"), table)
    return table


def save_figure(workspace: Workspace, name: str, figure: Figure, table: pd.DataFrame) -> Image:
    """Keep a figure and its table as figures/NAME.png, .pdf and .csv, sealed by NAME.sha256; return it to be shown."""
    png, *others = figures.save(figure, workspace.own(f"figures/{name}"), table)
    checksums.seal(checksums.seal_of(png), [png, *others])
    return Image(png, width=min(820, round(110 * figure.get_figwidth())))


@dataclass(frozen=True)
class FinishedRuns:
    """Runs that are done: `table` has one row a run and test set (`grids.collect`); `name` names what is kept."""

    table: pd.DataFrame
    workspace: Workspace
    settings: Settings
    name: str

    @cached_property
    def summary(self) -> pd.DataFrame:
        """Mean AUC over folds with its interval, one row a confounder, source, test set and strength."""
        return metrics.summarise(self.table)

    @cached_property
    def caution(self) -> str:
        """What every figure of these runs must say."""
        return figures.caption(self.table["caution"])

    def _kept(self, name: str, table: pd.DataFrame, columns: str, digits: int = 3) -> pd.DataFrame:
        """Keep all of a table, and return these of its columns, rounded, to be read."""
        return save_table(self.workspace, name, table)[columns.split()].round(digits)

    def _drawn(self, name: str, draw: Callable[..., Figure], confounders: Sequence[str]) -> Image | None:
        """Keep what `draw` makes of those of `confounders` that were run, and return it; nothing if none was."""
        part = self.summary[self.summary["confounder"].isin(confounders)]
        if part.empty:
            return None
        names = [name for name in confounders if name in set(part["confounder"])]
        levels, tasks = self.settings.state_of_the_art, sorted(set(self.summary["task"]))
        if wrong := [task for task in levels if task not in tasks]:
            raise StudyError(f"state_of_the_art: {unknown('task', wrong[0], tasks)}")
        figure = draw(data=part, confounders=names, baseline=levels, note=self.caution)
        return save_figure(self.workspace, name, figure, part)

    def plot(self) -> Image:
        """AUC against the confounder's strength, o.o.d. over i.i.d. test, a column a confounder."""
        figure = figures.robustness(data=self.summary, note=self.caution)
        return save_figure(self.workspace, self.name, figure, self.summary)

    def answer(self) -> pd.DataFrame:
        """Say how far each source falls from the weakest to the strongest correlation, and return the numbers."""
        table = metrics.robustness(self.summary)
        for row in table.itertuples():
            print(
                f"{row.confounder}, {row.source}: o.o.d. AUC {row.ood_low:.2f} at p_art {row.p_low:g}, "
                f"{row.ood_high:.2f} at p_art {row.p_high:g}"
            )
        return table.round(3)

    # The paper's tables and figures, of all runs of a study

    def table1(self) -> pd.DataFrame:
        """Table 1: what the networks were trained and tested on, a column a group of confounders."""
        save_table(self.workspace, "all_runs", self.table)
        save_table(self.workspace, "summary", self.summary)
        return save_table(self.workspace, "table1", table1.summarise(self.table, self.workspace)).T.fillna("")

    def fig3(self) -> Image | None:
        """The paper's Fig. 3: tag, denoising and gender, o.o.d. over i.i.d. test."""
        return self._drawn("fig3", figures.robustness, ("tag", "denoising", "gender"))

    def fig4(self) -> Image | None:
        """The paper's Fig. 4: noise in the o.o.d. test, a row a task, a column a design."""
        return self._drawn("fig4", figures.by_task, ("noise", "noise_high_vs_low"))

    def overview(self) -> Image | None:
        """The o.o.d. test of every confounder that was run, the paper's or not, a row a task."""
        return self._drawn("overview", figures.by_task, self.summary["confounder"].unique())

    def robustness(self) -> pd.DataFrame:
        """What each confounder costs each source: o.o.d. AUC at both ends, drop and gap."""
        return save_table(self.workspace, "robustness", metrics.robustness(self.summary)).round(3)

    # Statistics

    @cached_property
    def pairs(self) -> list[tuple[str, str]]:
        """The pairs of sources that are compared."""
        return statistics.pairs(self.table["source"], self.settings.reference)

    def permutation_tests(self) -> pd.DataFrame:
        """The paper's test for each strength, corrected by Holm within its family."""
        asked = self.settings
        tests = statistics.permutation_tests(
            self.table, pairs=self.pairs, test_sets=asked.test_sets, resamples=asked.permutations, seed=asked.seed
        )
        tests = statistics.holm(tests)
        for family, part in tests.groupby("family", sort=False):
            below = int((part["p_holm"] < 0.05).sum())
            print(f"{family}: {below} with p_holm below .05; the smallest possible is {part['floor_holm'].iloc[0]:.3f}")
        columns = "confounder test_set p_art a b difference t p floor p_holm floor_holm"
        return self._kept("tests", tests, columns, 4)

    def bootstrap(self) -> pd.DataFrame:
        """Differences between sources with an interval over test patients."""
        how = {key: getattr(self.settings, key) for key in ("test_sets", "resamples", "seed")}
        table = statistics.bootstrap(self.table, self.workspace.shared("runs"), pairs=self.pairs, **how)
        columns = "confounder test_set p_art a b patients difference ci_low ci_high"
        return self._kept("bootstrap", table, columns)

    def mixed_model(self) -> pd.DataFrame:
        """AUC over all strengths at once, with the fold as random intercept."""
        reference = self.settings.reference or self.table["source"].iloc[0]
        table = statistics.mixed_model(self.table, reference=reference, test_sets=self.settings.test_sets)
        columns = "confounder test_set term estimate ci_low ci_high p converged problem"
        return self._kept("mixed_model", table, columns, 4)

    def by_source(self) -> pd.DataFrame:
        """Each source in one row a confounder, averaged over strengths."""
        columns = "confounder source strengths folds iid ood ood_low ood_high gap gap_low gap_high"
        return self._kept("by_source", statistics.by_source(self.table), columns)

    # Against the paper

    @cached_property
    def comparison(self) -> pd.DataFrame:
        """Our curves on the published ones (`published.compare`)."""
        table = published.compare(self.table, self.workspace.shared("runs"))
        return save_table(self.workspace, "against_the_paper", table)

    def against_the_paper(self) -> Image:
        """Both curves in one figure, and what the comparison is worth."""
        verdict = published.verdict(self.comparison)
        print(verdict)
        figure = figures.against(data=self.comparison, note=verdict)
        return save_figure(self.workspace, "against_the_paper", figure, self.comparison)

    def differences(self) -> pd.DataFrame:
        """Ours and published side by side, and for each panel and source why it is not comparable."""
        first = self.comparison.groupby(["panel", "source"], sort=False)["reason"].first()
        for (panel, source), reason in first.items():
            print(f"{panel}, {source}: {reason or 'comparable'}")
        columns = "panel test_set source p_art ours published difference within_ci auc comparable".split()
        return self.comparison[columns].round(3)

    def consistency(self) -> pd.DataFrame:
        """What the paper's own numbers say of each other: its printed folds, its figures, its tests."""
        return save_table(self.workspace, "published_consistency", published.consistency()).round(4)
