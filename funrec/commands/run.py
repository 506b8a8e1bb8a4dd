"""`funrec run`: one experiment, or with `-m` every combination."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from funrec.commands.arguments import config_folders, take_allowed
from funrec.commands.console import is_live, reason, width
from funrec.errors import InputError

log = logging.getLogger("funrec")


def main(arguments: Sequence[str]) -> int:
    """Run one experiment, or with `-m` every combination; print a table each, and one for a sweep."""
    import hydra
    from hydra.core.hydra_config import HydraConfig

    from funrec import experiment
    from funrec.configuration import CONFIG_MODULE, check_folder, one_line_errors, to_plain
    from funrec.metrics import table_columns
    from funrec.table import render, rows_from_records

    arguments = take_allowed(arguments)
    for folder in config_folders(arguments):
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
            runs = experiment.run_with_baselines(plain, Path(settings.runtime.output_dir), overrides, live=is_live())
        except (InputError, OSError) as error:
            why = reason(error)
            log.debug("The run failed.", exc_info=True)
            log.error("funrec: %s", why)
            failed.append((overrides, why))
        else:
            finished.extend(runs)
            print(render(rows_from_records(done.record for done in runs), width=width()), flush=True)
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
            | {"failed": why}
            for overrides, why in failed
        ]
        metrics = table_columns({name for row in rows for name in row} - {"model", "failed", *swept})
        columns = ["model", *swept, *metrics, *(["failed"] if failed else [])]
        print(render(rows, columns=columns, width=width()), flush=True)
    if failed:
        return 1 if is_sweep else 2
    return 0


def _overrides(overrides: Sequence[str]) -> dict[str, str]:
    return {key.lstrip("+"): value for key, _, value in (override.partition("=") for override in overrides)}


def _swept(jobs: Sequence[Sequence[str]]) -> list[str]:
    """Return the keys whose value differs between jobs; the model is the row's label and needs no column."""
    values = [_overrides(job) for job in jobs]
    keys = dict.fromkeys(key for job in values for key in job)
    return [key for key in keys if key != "model" and len({job.get(key) for job in values}) > 1]
