"""The command line: `python -m sourcematters run|verify|status`."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence

from sourcematters.errors import StudyError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0 done; 1 a notebook failed, or verify found problems; 2 wrong usage or input; 130 interrupted.
    """
    options = _parser().parse_args(arguments)
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.default_int_handler)
    try:
        return options.command(options)
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; start the same command again to go on", file=sys.stderr)
        return 130
    except BrokenPipeError:  # such as --list | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(options: argparse.Namespace) -> int:
    from sourcematters.study import freshness, pipeline, profiles

    if options.list:
        print(profiles.listing(profiles.ROOT))
        return 0
    given = [("executor", options.executor)] * bool(options.executor) + options.p
    plan = profiles.plan(profiles.ROOT, options.profile, given, options.only, options.results)
    if options.dry_run:
        print(profiles.describe(plan))
        return 0
    steps = [(notebook.path, parameters) for notebook, parameters in plan.steps]
    if not options.only and freshness.is_fresh(plan.folder, freshness.signature(profiles.ROOT, plan.folder, steps)):
        print("up to date: nothing that the study was made from has changed (--only NOTEBOOK executes one again)")
        print(f"figures and notebooks: {plan.folder / 'index.html'}")
        return 0
    try:
        index = pipeline.run(plan)
    except pipeline.NotebookFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if not options.only:
        freshness.stamp(plan.folder, freshness.signature(profiles.ROOT, plan.folder, steps))
    print(f"figures and notebooks: {index}")
    return 0


def _verify(options: argparse.Namespace) -> int:
    import tempfile

    from sourcematters.cohorts import Request, open_cohort, verify
    from sourcematters.processes import cores

    with tempfile.TemporaryDirectory() as cache:
        request = Request(
            data=options.data,
            task=options.task,
            view=options.view,
            splits=options.splits,
            cache=cache,
            workers=cores(),
            require_files=False,
        )
        text, problems = verify.report(open_cohort(request), workers=cores())
    print(text)
    return 1 if len(problems) else 0


def _status(options: argparse.Namespace) -> int:
    from sourcematters.runs import grids

    print(grids.status(options.folder))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sourcematters", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run the study's notebooks", allow_abbrev=False)
    run.set_defaults(command=_run)
    run.add_argument("--profile", default="demo", metavar="NAME|FILE", help="parameters (default: demo)")
    run.add_argument(
        "-p",
        nargs=2,
        action="append",
        default=[],
        metavar=("KEY", "VALUE"),
        help="set a parameter",
    )
    run.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NOTEBOOK",
        help="only this one, as 20 or 20_tag",
    )
    run.add_argument(
        "--executor",
        metavar="local|slurm",
        help="who makes the runs: this machine (default), or jobs of a cluster, with options as "
        "-p slurm '{partition: gpu, time: 60}' (README, On a cluster)",
    )
    run.add_argument("--results", metavar="FOLDER", help="write to FOLDER/PROFILE")
    run.add_argument("--list", action="store_true", help="show notebooks, parameters, profiles")
    run.add_argument("--dry-run", action="store_true", help="show what would run, with which parameters")

    verify = commands.add_parser("verify", help="open every image of a cohort and report what is wrong")
    verify.set_defaults(command=_verify)
    verify.add_argument("data", help="folder of NIH ChestX-ray14, a cohort's CSV file, or phantoms")
    verify.add_argument("--task", required=True, help="a finding, lung-mass, atelectasis-gender; lesion for phantoms")
    verify.add_argument("--view", default="", help="keep one view only: PA or AP")
    verify.add_argument(
        "--splits",
        default="own",
        metavar="own|published|FOLDER",
        help="whose parts and folds (lung-mass, atelectasis-gender)",
    )

    status = commands.add_parser("status", help="show which runs are done, running, queued, failed, lost or missing")
    status.set_defaults(command=_status)
    status.add_argument("folder", help="results folder of a profile, such as results/demo")
    return parser


if __name__ == "__main__":
    sys.exit(main())
