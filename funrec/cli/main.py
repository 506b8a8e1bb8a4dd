"""The `funrec` command; `funrec.cli` has a module per subcommand.

Results go to standard output, everything else to standard error. Exit codes: 0 done, 1 a job of a sweep failed,
2 the input is not what it should be, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from funrec.cli.arguments import take_allowed
from funrec.cli.console import reason
from funrec.utils.errors import InputError, did_you_mean
from funrec.utils.installation import VERSION, check_installation

COMMANDS = (
    *("run", "tune", "resume", "status", "clean", "list", "data"),
    *("predict", "fuse", "policy", "compare", "report", "export", "serve", "explain", "ablate", "completion"),
)

HELP = """\
usage: funrec COMMAND ...

  funrec run [OVERRIDE ...]              run one experiment: funrec run model=mmoe trainer.epochs=2
  funrec run -m [OVERRIDE ...]           run every combination: funrec run -m model=shared_bottom,mmoe
  funrec tune [OVERRIDE ...]             search with Optuna: funrec tune model=mmoe search.trials=50
  funrec resume PATH                     resume a run, sweep or search that was stopped
  funrec status PATH...                  list what is finished, running or stopped
  funrec clean PATH...                   remove what interrupted and failed runs wrote
  funrec list [models|datasets|...]      show the available choices
  funrec compare PATH... [--baseline X]  set runs side by side and test their differences
  funrec report PATH... -o report.html   the same as one HTML page, with curves and diagnosis
  funrec fuse RUN --objective "..."      search one score from many heads, applied by funrec predict
  funrec predict RUN FILE -o SCORES      score raw rows with a finished run
  funrec policy RUN                      what a policy of the scores would earn, from logged propensities
  funrec export RUN --format onnx        write a model for other programs, compared with the run's scores
  funrec serve RUN                       answer requests with an exported model, on 127.0.0.1
  funrec explain RUN                     how much AUC is lost where a feature's values are shuffled
  funrec ablate groups=G,... [OVERRIDE]  what each group of features adds to those before it
  funrec data fetch NAME                 download a public data set: funrec list downloads
  funrec data describe [OVERRIDE ...]    print a dataset's rows, rates and vocabularies
  funrec data verify [ENTRY ...]         check prepared data against its checksums
  funrec completion bash|zsh             complete commands, choices and keys in the shell

  funrec run --help                      what can be overridden
  funrec run --cfg job                   the configuration, without running it
  funrec --version

--allow PACKAGE, with any command, lets configurations and runs name classes of a package of yours.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    command = arguments[0] if arguments else "--help"
    if command in ("-h", "--help"):
        print(HELP, end="")
        sys.exit(0)
    if command == "--version":
        print(f"funrec {VERSION}")
        sys.exit(0)
    try:
        check_installation()
        if command not in COMMANDS:
            raise InputError(f"funrec {command}: no such command.{did_you_mean(command, COMMANDS)}")
        sys.exit(import_module(f"funrec.cli.{command}").main(take_allowed(arguments[1:])))
    except BrokenPipeError:  # the reader of the output, such as `| head`, has stopped reading
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except (InputError, OSError) as error:
        print(f"funrec: {reason(error)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as stop:
        print(f"funrec: {str(stop) or 'Interrupted.'}", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
