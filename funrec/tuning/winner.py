"""What a study was for: its winner as a configuration, and how much better it is, as far as that can be said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from funrec.comparison.compare import compare_runs
from funrec.comparison.notes import sentences
from funrec.comparison.significance import SEEDS_FOR_VARIANTS
from funrec.comparison.text import comparison_tables
from funrec.config.compose import parse_override
from funrec.experiment import experiment
from funrec.runs import folder as run_folder
from funrec.runs import record
from funrec.tuning.results import Outcome
from funrec.tuning.study import StudyFolder
from funrec.utils.files import replacing
from funrec.utils.locks import locked
from funrec.utils.logging import logging_to

BEST = "best"

#: Groups that are written whole, so that nothing of the defaults is left over in them.
GROUPS = ("dataset", "model", "weighting", "optimizer", "trainer", "metrics")


def write_winner(study: StudyFolder, outcome: Outcome, name: str = BEST) -> Path:
    """Write a trial's configuration into `<study>/best` as an experiment; return that folder.

    `funrec run --config-dir <study>/best experiment=best` runs it again.
    """
    folder = study.path / BEST
    config = record.read(study.folder(outcome.number))["config"]
    names = study.plan.settings.objectives
    values = ", ".join(f"{metric} {value:.4f}" for metric, value in zip(names, outcome.values, strict=True))
    title = (
        f"# Trial {outcome.number} of {study.path.name}, of {study.total} searched by {study.plan.search}: {values}.\n"
    )
    for group in GROUPS:
        _write(folder / group / f"{name}.yaml", title, config[group])
    rest = {key: value for key, value in config.items() if key not in (*GROUPS, "baselines")}
    defaults = [*({f"override /{group}": name} for group in GROUPS), "_self_"]
    _write(folder / "experiment" / f"{name}.yaml", f"# @package _global_\n{title}", {"defaults": defaults, **rest})
    return folder


def compare_with_start(study: StudyFolder, chosen: Sequence[Outcome]) -> str:
    """Return the comparison of trials with trial 0, as `funrec compare` gives it."""
    folders = {study.folder(number): str(number) for number in (0, *(outcome.number for outcome in chosen))}
    return _comparison(folders, study.folder(0), "trial")


def confirm(study: StudyFolder, winner: Outcome, live: bool = False, force: bool = False) -> str:
    """Run the winner and the configuration as it was with fresh seeds, and return their comparison.

    The runs are ordinary ones, in a folder beside the study's: the seed that chose the winner is not among them. Those
    that are finished are not run again.
    """
    count = study.plan.settings.confirm
    place = study.path.with_name(f"{study.path.name}_confirm")
    place.mkdir(exist_ok=True)
    first = int(study.plan.config["seed"]) + 1
    values = {} if winner.number == 0 else winner.params
    with locked(place / ".lock_of_study"):
        for seed in range(first, first + count):
            for name, chosen in (("start", {}), ("winner", values)):
                _confirm_once(study, place / f"{name}_seed{seed}", chosen, seed, live, force)
    names = ("start", "winner")
    folders = {place / f"{name}_seed{seed}": name for name in names for seed in range(first, first + count)}
    return _comparison(folders, place / f"start_seed{first}", "values")


def cautions(study: StudyFolder, winner: Outcome, finished: int) -> list[str]:
    """Return what the comparison with trial 0 does not say of itself."""
    lines = []
    tested = "test" in record.read(study.folder(0))["row_fingerprint"]
    if not tested:
        lines.append(
            f"Trial {winner.number} is the best of {finished} on these very rows, so that its lead is flattered; "
            "dataset.split.test_from or dataset.split.test would give rows that nothing was chosen on."
        )
    if not study.plan.settings.confirm:
        lines.append(
            f"Whether its values are better for other seeds, fresh ones say: funrec tune --join {study.path} "
            f"search.confirm={SEEDS_FOR_VARIANTS}."
        )
    return lines


def _confirm_once(
    study: StudyFolder, folder: Path, values: Mapping[str, Any], seed: int, live: bool, force: bool
) -> None:
    folder.mkdir(exist_ok=True)
    state = run_folder.status(folder).state
    if state == "finished":
        return
    overrides = [override for override in study.plan.overrides(values) if parse_override(override)[0] != "seed"]
    overrides.append(f"seed={seed}")
    with logging_to(folder, verbose=False):
        config = study.plan.compose(overrides) | {"baselines": False}
        experiment.run(config, folder, overrides, live, resume=state != "absent", force=force)


def _comparison(folders: Mapping[Path, str], baseline: Path, column: str) -> str:
    """Return a comparison in which a column of names stands for all the values that runs differ in."""
    found = compare_runs(list(folders), baseline)
    for variant in found.variants:
        variant.settings = {column: folders[variant.runs[0].path]}
    return "\n".join([comparison_tables(found), "", *sentences(found)])


def _write(path: Path, head: str, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True).replace("${", "\\${")
    with replacing(path) as temporary:
        temporary.write_text(head + text, encoding="utf-8")
