"""The `funrec` command, one function per subcommand.

Results go to standard output, everything else to standard error. Exit codes: 0 done, 1 a job of a sweep failed,
2 the input is not what it should be, 130 interrupted.
"""

from __future__ import annotations

import argparse
import errno
import logging
import os
import shutil
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from funrec.errors import InputError, did_you_mean

log = logging.getLogger("funrec")

#: What a full or forbidding disk says; anything else from the system is a bug of ours.
DISK_ERRORS = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG),
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO),
}

KINDS = ("models", "datasets", "weightings", "experiments")

HELP = """\
usage: funrec COMMAND ...

  funrec run [OVERRIDE ...]              run one experiment: funrec run model=mmoe trainer.epochs=2
  funrec run -m [OVERRIDE ...]           run every combination: funrec run -m model=shared_bottom,mmoe
  funrec list [models|datasets|...]      what there is to choose from
  funrec compare PATH... [--baseline X]  runs side by side, and which differences are real
  funrec report PATH... -o report.html   the same drawn, with curves and diagnosis, in one file
  funrec predict RUN FILE -o SCORES      score raw rows with a finished run
  funrec data describe [OVERRIDE ...]    a dataset's rows, rates, vocabularies
  funrec data verify [ENTRY ...]         check prepared data against its checksums

  funrec run --help                      what can be overridden
  funrec run --cfg job                   the configuration, without running it
  funrec --version
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    command = arguments[0] if arguments else "--help"
    commands = {"run": run, "list": list_parts, "data": data, "predict": predict, "report": report, "compare": compare}
    if command in ("-h", "--help"):
        print(HELP, end="")
        sys.exit(0)
    if command == "--version":
        from importlib.metadata import version

        print(f"funrec {version('funrec')}")
        sys.exit(0)
    try:
        if command not in commands:
            raise InputError(f"funrec {command}: no such command.{did_you_mean(command, commands)}")
        sys.exit(commands[command](arguments[1:]))
    except BrokenPipeError:  # whoever reads the output, `| head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except (InputError, OSError) as error:
        print(f"funrec: {_reason(error)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("funrec: interrupted.", file=sys.stderr)
        sys.exit(130)


def run(arguments: Sequence[str]) -> int:
    """Run one experiment, or with `-m` every combination; print a table each, and one for a sweep."""
    import hydra
    from hydra.core.hydra_config import HydraConfig

    from funrec import experiment
    from funrec.configuration import CONFIG_MODULE, check_folder, one_line_errors, to_plain
    from funrec.metrics import table_columns
    from funrec.table import render, rows_from_records

    arguments = _take_allowed(arguments)
    for folder in _config_folders(arguments):
        check_folder(folder)
    finished: list[Any] = []
    failed: list[tuple[list[str], str]] = []
    with_baselines: list[dict[str, Any]] = []

    def is_first(config: dict[str, Any]) -> bool:
        """Whether no job of the sweep has made the same baselines yet."""
        data = {key: value for key, value in config.items() if key not in ("model", "weighting", "report")}
        if data in with_baselines:
            return False
        with_baselines.append(data)
        return True

    @hydra.main(config_path=f"pkg://{CONFIG_MODULE}", config_name="config", version_base="1.3")
    def job(config: Any) -> None:
        settings = HydraConfig.get()
        overrides = list(settings.overrides.task)
        try:
            plain = to_plain(config)
            if plain["baselines"] is True:
                plain["baselines"] = is_first(plain)
            runs = experiment.run_with_baselines(plain, Path(settings.runtime.output_dir), overrides, live=_is_live())
        except (InputError, OSError) as error:
            reason = _reason(error)
            log.debug("The run failed.", exc_info=True)
            log.error("funrec: %s", reason)
            failed.append((overrides, reason))
        else:
            finished.extend(runs)
            print(render(rows_from_records(done.record for done in runs), width=_width()), flush=True)
            wanted = runs[0].record["config"]["report"]
            if wanted["gates"]:
                print(runs[0].gates(), flush=True)
            if wanted["diagnosis"]:
                print(runs[0].diagnosis(), flush=True)
            if wanted["slices"]:
                print(runs[0].slices(), flush=True)
            for done in runs:
                log.info("%s", done.path)

    logging.raiseExceptions = False  # a log that finds the disk full should not bury the one line that says so
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra prints its errors itself, in several lines, and exits 1
    sys.argv = ["funrec run", *arguments]
    with one_line_errors([argument for argument in arguments if "=" in argument]):
        job()
    is_sweep = bool({"-m", "--multirun"} & set(arguments))
    if is_sweep and len(finished) + len(failed) > 1:
        swept = _swept([done.record["overrides"] for done in finished] + [overrides for overrides, _ in failed])
        rows = rows_from_records(
            done.record | {"swept": {key: _overrides(done.record["overrides"]).get(key, "") for key in swept}}
            for done in finished
        )
        rows += [
            {
                "model": _overrides(overrides).get("model", ""),
                **{key: _overrides(overrides).get(key, "") for key in swept},
            }
            | {"failed": reason}
            for overrides, reason in failed
        ]
        metrics = table_columns({name for row in rows for name in row} - {"model", "failed", *swept})
        columns = ["model", *swept, *metrics, *(["failed"] if failed else [])]
        print(render(rows, columns=columns, width=_width()), flush=True)
    if failed:
        return 1 if is_sweep else 2
    return 0


def _reason(error: InputError | OSError) -> str:
    """Return what to tell the user; an error of the system that is no fault of the disk is raised again."""
    if isinstance(error, InputError):
        return str(error)
    if error.errno not in DISK_ERRORS:
        raise error
    return f"{error.filename or 'the disk'} cannot be written: {error.strerror}. Free some space or choose another."


def list_parts(arguments: Sequence[str]) -> int:
    """Print what there is to choose from, a line each, with the paper."""
    from funrec.catalogue import describe

    parser = argparse.ArgumentParser(prog="funrec list", description="What there is to choose from.")
    parser.add_argument("kind", nargs="?", choices=KINDS, help="all kinds if not given")
    kind = parser.parse_args(arguments).kind
    for name in [kind] if kind else KINDS:
        if not kind:
            print(f"{name}:")
        parts = describe(name)
        width = max((len(part) for part, _ in parts), default=0)
        for part, text in parts:
            print(f"{'' if kind else '  '}{part:<{width}}  {text}")
    return 0


def predict(arguments: Sequence[str]) -> int:
    """Score the rows of a file with a finished run, and say how many there were."""
    parser = argparse.ArgumentParser(
        prog="funrec predict",
        description="Score raw rows: a probability per task and conditional head, in the order of the rows.",
    )
    parser.add_argument("run", type=Path, help="the folder of a finished run")
    parser.add_argument("file", help="raw rows: csv, tsv or parquet, a folder or a glob of them")
    parser.add_argument("-o", "--output", type=Path, required=True, help="where scores go: .parquet or .csv")
    options = parser.parse_args(arguments)
    from funrec.experiment import load_run

    clock = time.perf_counter()
    predictor = load_run(options.run).predictor
    loaded = time.perf_counter()
    rows = predictor.score_file(options.file, options.output)
    seconds = time.perf_counter() - loaded
    print(
        f"{options.output}: {rows:,} rows, {rows / seconds:,.0f} rows/s (the model loaded in {loaded - clock:.1f} s)",
        file=sys.stderr,
    )
    return 0


def compare(arguments: Sequence[str]) -> int:
    """Print runs side by side, with the differences from a baseline; 1 if a record or predictions are damaged."""
    parser = argparse.ArgumentParser(
        prog="funrec compare",
        description="Set finished runs side by side: seeds grouped, differences with intervals. Nothing is trained.",
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="run folders, sweep folders, or globs of them")
    parser.add_argument("--baseline", metavar="NAME", help="a model, a setting (weighting=fixed) or a run's folder")
    parser.add_argument("--bootstrap", type=int, metavar="N", help="intervals from N resamples of users, such as 1000")
    parser.add_argument("--format", default="grid", help="grid, github, latex or csv")
    parser.add_argument("--columns", metavar="METRICS", help="such as auc_macro,gauc_* or auc_*@random")
    parser.add_argument("--sort", metavar="COLUMN", help="a metric, best first, or another column")
    options = parser.parse_args(arguments)
    from funrec.report.compare import compare_runs
    from funrec.report.text import comparison_tables, sentences
    from funrec.table import check_format

    check_format(options.format)
    columns = options.columns.split(",") if options.columns else None
    found = compare_runs(options.paths, options.baseline, options.bootstrap, columns, options.sort)
    print(comparison_tables(found, options.format, _width()), flush=True)
    # A file that a program reads holds the table alone.
    reader = sys.stdout if options.format in ("grid", "github") else sys.stderr
    print("", *sentences(found), sep="\n", file=reader)
    return 1 if found.damaged else 0


def report(arguments: Sequence[str]) -> int:
    """Write finished runs into one HTML file that opens offline; 1 if a record or predictions are damaged."""
    parser = argparse.ArgumentParser(
        prog="funrec report",
        description="Draw finished runs in one HTML file that opens offline: comparison, curves, gates, diagnosis.",
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="run folders, sweep folders, or globs of them")
    parser.add_argument("-o", "--output", type=Path, default=Path("report.html"), help="by default report.html")
    parser.add_argument("--baseline", metavar="NAME", help="a model, a setting (weighting=fixed) or a run's folder")
    parser.add_argument("--columns", metavar="METRICS", help="such as auc_macro,gauc_* or auc_*@random")
    options = parser.parse_args(arguments)
    from funrec.report.html import write_report

    columns = options.columns.split(",") if options.columns else None
    found = write_report(options.paths, options.output, options.baseline, columns)
    for note in found.notes:
        print(note, file=sys.stderr)
    print(options.output)
    return 1 if found.damaged else 0


def data(arguments: Sequence[str]) -> int:
    """`funrec data describe|verify`."""
    actions = {"describe": _describe_data, "verify": _verify_data}
    action = arguments[0] if arguments else ""
    if action not in actions:
        raise InputError(f"funrec data should be followed by describe or verify. Received: {action or 'nothing'}.")
    return actions[action](arguments[1:])


def _describe_data(arguments: Sequence[str]) -> int:
    from funrec.configuration import compose
    from funrec.data.base import Dataset
    from funrec.data.describe import describe
    from funrec.data.prepare import prepare
    from funrec.experiment import cache_folder
    from funrec.targets import build

    config = compose(_take_allowed(arguments))
    dataset = build(config["dataset"], Dataset, "dataset")
    print(describe(prepare(dataset, cache_folder())))
    return 0


def _verify_data(arguments: Sequence[str]) -> int:
    from funrec.data.cache import entries, verify
    from funrec.experiment import cache_folder

    damaged = 0
    for entry in [Path(argument) for argument in arguments] or entries(cache_folder()):
        problems = verify(entry)
        damaged += bool(problems)
        print(f"{entry}: {'; '.join(problems) if problems else 'ok'}")
    return 2 if damaged else 0


def _config_folders(arguments: Sequence[str]) -> list[Path]:
    """Return the folders of configuration files that the arguments bring along."""
    flags = ("--config-dir", "-cd", "--config-path", "-cp")
    values = [value for flag, value in pairwise(arguments) if flag in flags]
    values += [value for flag, _, value in (argument.partition("=") for argument in arguments) if flag in flags]
    return [Path(value) for value in values if value]


def _take_allowed(arguments: Sequence[str]) -> list[str]:
    """Take `--allow package` out of the arguments; its packages may be named by `_target_` from here on."""
    from funrec.targets import ALLOW_VARIABLE

    left, packages = [], []
    rest = iter(arguments)
    for argument in rest:
        if argument == "--allow" or argument.startswith("--allow="):
            package = argument.partition("=")[2] if "=" in argument else next(rest, "")
            if not package.isidentifier():
                raise InputError(f"--allow should be followed by a package's name. Received: {package or 'nothing'}.")
            packages.append(package)
        else:
            left.append(argument)
    if packages:
        os.environ[ALLOW_VARIABLE] = ",".join(filter(None, [os.environ.get(ALLOW_VARIABLE, ""), *packages]))
    return left


def _overrides(overrides: Sequence[str]) -> dict[str, str]:
    return {key.lstrip("+"): value for key, _, value in (override.partition("=") for override in overrides)}


def _swept(jobs: Sequence[Sequence[str]]) -> list[str]:
    """Return the keys whose value differs between jobs; the model is the row's label and needs no column."""
    values = [_overrides(job) for job in jobs]
    keys = dict.fromkeys(key for job in values for key in job)
    return [key for key in keys if key != "model" and len({job.get(key) for job in values}) > 1]


def _is_live() -> bool:
    return sys.stderr.isatty()


def _width() -> int | None:
    """Return the terminal's width; none where the table goes to a file, which has all the room there is."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


if __name__ == "__main__":
    main()
