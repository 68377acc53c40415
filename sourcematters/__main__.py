"""The command line: `python -m sourcematters run|audit|report|verify|status|check`."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from sourcematters.errors import StudyError, printable

AUDIT = "40_audit"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0 done; 1 a notebook failed, or verify or check found problems; 2 wrong usage or input; 130 interrupted.
    """
    if arguments is None:
        _with_streams()
        _in_utf8()
    printable()
    options = _parser().parse_args(arguments)
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.default_int_handler)
    from sourcematters.files import explained

    try:
        with explained(Path.cwd()):
            code = options.command(options)
            sys.stdout.flush()
            return code
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; start the same command again to go on", file=sys.stderr)
        return 130
    except BrokenPipeError:  # such as --list | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _with_streams() -> None:
    """Open what takes everything in place of a closed standard stream: the next file would be taken for it."""
    for number, (name, mode) in enumerate({"stdin": "r", "stdout": "w", "stderr": "w"}.items()):
        if getattr(sys, name) is None:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
            setattr(sys, name, open(number, mode))


def _in_utf8() -> None:
    """Begin again in Python's UTF-8 mode where the locale has another encoding: files are named in UTF-8.

    What is printed keeps the encoding of the terminal.
    """
    if sys.getfilesystemencoding() != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
        kept = {"PYTHONIOENCODING": sys.stdout.encoding}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], kept | os.environ | {"PYTHONUTF8": "1"})


def _run(options: argparse.Namespace) -> int:
    from sourcematters.study import execute, freshness, notebooks, settings

    given = [("executor", options.executor)] * bool(options.executor) + [_pair(words) for words in options.p]
    plan = notebooks.plan(options.profile, given, options.only, options.results)
    if plan.note:
        print(plan.note, file=sys.stderr)
    if options.list or options.dry_run:
        print(notebooks.listing() if options.list else notebooks.describe(plan))
        return 0

    def signature() -> dict[str, str]:
        paths = [notebook.path for notebook in plan.notebooks]
        return freshness.signature(settings.ROOT, plan.folder, paths, plan.study.values)

    changed = None if options.only else freshness.changes(plan.folder, signature())
    if changed:
        print(f"executed again, for something changed: {', '.join(changed)}", file=sys.stderr)
    if changed == []:
        print("up to date: nothing that the study was made from has changed (--only NOTEBOOK executes one again)")
        print(f"figures and notebooks: {plan.folder / 'index.html'}")
        return 0
    notebooks.check(plan)
    try:
        index = execute.run(plan)
    except execute.NotebookFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if not options.only:
        freshness.stamp(plan.folder, signature())
    print(f"figures and notebooks: {index}")
    return 0


def _audit(options: argparse.Namespace) -> int:
    import pandas as pd

    from sourcematters.audit import settings_file
    from sourcematters.audit.audit import Audit
    from sourcematters.study import execute, notebooks

    if not options.path.endswith((".yaml", ".yml")):
        print(settings_file.proposed(options.path), end="")
        return 0
    given = [_pair(words) for words in options.p]
    plan = notebooks.plan(options.path, given, [AUDIT], options.results)
    audit = Audit(plan.study)
    if plan.study.settings.budget and not options.yes:
        audit.plan()
        if not _agreed("Train these networks?"):
            given.append(("budget", "''"))
            plan = notebooks.plan(options.path, given, [AUDIT], options.results)
    try:
        index = execute.run(plan)
    except execute.NotebookFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if audit.has_model:
        print("\n- ".join(pd.read_csv(plan.folder / "tables" / "audit_answer.csv")["sentence"]))
    else:
        print("No model was audited: what is confounded in the data stands on the page.")
    print(f"figures and tables: {index}")
    return 0


def _agreed(question: str) -> bool:
    """Whether a person says yes; nobody is asked where no terminal is, and then it is no."""
    if not sys.stdin.isatty():
        print(f"{question} Nobody is there to answer: no (--yes says so beforehand).")
        return False
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")


def _pair(words: Sequence[str]) -> tuple[str, str]:
    """What one -p sets: NAME VALUE, or NAME=VALUE, which may begin with a hyphen."""
    name, separator, value = words[0].partition("=")
    if len(words) == 2:
        return words[0], words[1]
    if len(words) == 1 and separator:
        return name, value
    raise StudyError(
        f"-p {' '.join(words)}: give -p NAME VALUE, or -p NAME=VALUE where the value begins with a hyphen."
    )


def _verify(options: argparse.Namespace) -> int:
    from sourcematters import files, plugins
    from sourcematters.cohorts import Request, open_cohort, verify
    from sourcematters.processes import cores

    plugins.load(options.plugin)
    with files.scratch() as cache:
        asked = {name: getattr(options, name) for name in ("data", "task", "view", "splits")}
        request = Request(**asked, cache=cache, workers=cores(), require_files=False)
        text, problems = verify.report(open_cohort(request), workers=cores())
    print(text)
    return 1 if len(problems) else 0


def _report(options: argparse.Namespace) -> int:
    from sourcematters import report
    from sourcematters.report import pdf

    folder = Path(options.folder)
    if not any((folder / name).is_dir() for name in ("tables", "figures", "notebooks")):
        raise StudyError(f"{folder}: no results are here (tables, figures, notebooks). Give a folder as results/demo.")
    index = report.write(folder)
    print(f"report: {pdf.printed(index) if options.pdf else index}")
    return 0


def _check(options: argparse.Namespace) -> int:
    from sourcematters.runs import check

    text, wrong = check.report(options.folder)
    print(text)
    return 1 if wrong else 0


def _status(options: argparse.Namespace) -> int:
    from sourcematters.runs import plans

    print(plans.status(options.folder))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sourcematters", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run the study's notebooks", allow_abbrev=False)
    run.set_defaults(command=_run)
    run.add_argument("--profile", default="demo", metavar="NAME|FILE", help="which settings (default: demo)")
    example = "change a setting: -p epochs 5, -p tag.height 64, -p gender.size 256, -p task=-x"
    run.add_argument("-p", nargs="+", action="append", default=[], metavar=("NAME", "VALUE"), help=example)
    run.add_argument("--only", action="append", default=[], metavar="NOTEBOOK", help="only this one, as 20 or 20_tag")
    run.add_argument(
        "--executor",
        metavar="local|slurm",
        help="who makes the runs: this machine (default), or jobs of a cluster, with options as "
        "-p slurm '{partition: gpu, time: 60}' (docs/cluster.md)",
    )
    named = "write to FOLDER/PROFILE; or FOLDER/PROFILE-DATA, where -p data is of another kind than the profile's"
    run.add_argument("--results", metavar="FOLDER", help=named)
    listed = "show all that can be named: notebooks, settings, confounders, data ..."
    run.add_argument("--list", action="store_true", help=listed)
    run.add_argument("--dry-run", action="store_true", help="show every setting and run; nothing runs")

    audit = commands.add_parser(
        "audit",
        help="what is confounded in data, and what a finished model leans on",
        description="With data (a table, a folder, a .npz, a release), print the settings of an audit of them, to be "
        "edited and saved as audit.yaml; with such a file, run that audit, and write its page, tables and figures. "
        "docs/audit.md has an example from another person's data to the answer.",
        allow_abbrev=False,
    )
    audit.set_defaults(command=_audit)
    audit.add_argument("path", help="data to look at, or the settings of an audit (.yaml)")
    audit.add_argument("-p", nargs="+", action="append", default=[], metavar=("NAME", "VALUE"), help=example)
    audit.add_argument("--results", metavar="FOLDER", help="write to FOLDER/NAME, the file being NAME.yaml")
    audit.add_argument("--yes", action="store_true", help="train within the budget without asking")

    verify = commands.add_parser("verify", help="open every image of a cohort and report what is wrong")
    verify.set_defaults(command=_verify)
    verify.add_argument("data", help="a folder of NIH ChestX-ray14 or LIDC-IDRI, or a cohort's CSV file")
    verify.add_argument("--task", required=True, help="a finding, lung-mass, atelectasis-gender, lung-mass-ct")
    verify.add_argument("--plugin", action="append", default=[], help="a module or file that reads other data")
    verify.add_argument("--view", default="", help="keep one view only: PA or AP")
    whose = "whose parts and folds (lung-mass, atelectasis-gender)"
    verify.add_argument("--splits", default="own", metavar="own|published|FOLDER", help=whose)

    report = commands.add_parser("report", help="write the page of a results folder anew, from what is in it")
    report.set_defaults(command=_report)
    report.add_argument("folder", help="results folder of a profile, such as results/demo")
    report.add_argument("--pdf", action="store_true", help="print it to report.pdf, too, by a browser that is at hand")

    status = commands.add_parser("status", help="show which runs are done, running, queued, failed, lost or missing")
    status.set_defaults(command=_status)
    status.add_argument("folder", help="results folder of a profile, such as results/demo")

    check = commands.add_parser("check", help="compare all that was written with its checksum; nothing is changed")
    check.set_defaults(command=_check)
    check.add_argument("folder", help="results folder of a profile, such as results/demo, or all of results")
    return parser


if __name__ == "__main__":
    sys.exit(main())
