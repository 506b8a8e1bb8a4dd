"""Tuning from Python: begin a study or join one, run it, and read its results."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from funrec.config.build import allow, build
from funrec.config.catalogue import add_folders
from funrec.config.compose import compose
from funrec.data.datasets.base import Dataset
from funrec.experiment.baselines import is_popularity
from funrec.experiment.run import Run, load_run
from funrec.experiment.settings import check_settings
from funrec.runs.folder import is_run, new_run_folder
from funrec.tuning.plan import STUDY, Plan, differences, make_plan, read_plan
from funrec.utils.errors import InputError
from funrec.utils.logging import load_tensorflow

if TYPE_CHECKING:
    import pandas as pd

    from funrec.tuning.results import Outcome
    from funrec.tuning.study import StudyFolder


@dataclass(frozen=True)
class Study:
    """A study of `funrec tune` whose trials are done.

    Attributes:
        path: Its folder, which `funrec.compare` and `funrec report` read as they read any folder of runs.
        summary: What the command line would have printed.
    """

    path: Path
    summary: str

    @property
    def best(self) -> Run:
        """The best trial's run; with several objectives the one of the Pareto set with the best mean rank."""
        from funrec.tuning.results import ranked

        study, found = self._outcomes()
        return load_run(study.folder(ranked(study, found)[0].number))

    @property
    def start(self) -> Run:
        """Trial 0: the configuration as it was."""
        return load_run(self.path / "0")

    def trials(self) -> pd.DataFrame:
        """Return a row per trial: number, state, objectives, the values of the space, epochs, seconds, reason."""
        import pandas as pd

        study, found = self._outcomes()
        names = list(study.plan.settings.objectives)
        return pd.DataFrame(
            {
                "trial": outcome.number,
                "state": outcome.state,
                **dict(zip(names, outcome.values, strict=False)),  # empty unless it finished
                **outcome.params,
                "epochs": outcome.epochs,
                "seconds": outcome.seconds,
                "reason": outcome.reason,
            }
            for outcome in found
        )

    def _outcomes(self) -> tuple[StudyFolder, list[Outcome]]:
        from funrec.tuning.results import outcomes
        from funrec.tuning.study import StudyFolder

        study = StudyFolder(self.path)
        return study, outcomes(study)

    def __repr__(self) -> str:
        return f"Study({str(self.path)!r})\n{self.summary}"


def tune(model: str | None = None, *overrides: str) -> Study:
    """Search a space of configurations, and return the study when its trials are done.

    Args:
        model: A model's name, such as `mmoe`; or the first override. The folder of a study joins that study.
        overrides: Hydra overrides for all trials, and those of the search, such as `search.trials=50`.

    Raises:
        InputError: If Optuna is missing, a key or a value is not what it should be, or no trial finished.
    """
    if model is not None and (Path(model) / STUDY).is_file() and not is_run(model):
        study = join(Path(model), overrides)
    else:
        chosen = [] if model is None else [model if "=" in model else f"model={model}"]
        study = begin([*chosen, *overrides])
    from funrec.tuning.summary import conclude
    from funrec.tuning.trial import run_study

    run_study(study)
    return Study(study.path, conclude(study))


def begin(overrides: Sequence[str]) -> StudyFolder:
    """Begin a study in a new folder below `outputs/studies`.

    Args:
        overrides: Those of a run, for all trials, and those that begin with `search`.
    """
    _check_optuna()
    from funrec.tuning.study import StudyFolder

    plan = make_plan(overrides)
    check_plan(plan)
    path = new_run_folder(Path("outputs", "studies"), f"{datetime.now():%Y-%m-%d_%H-%M-%S}")
    return StudyFolder.create(path, plan)


def join(path: Path, overrides: Sequence[str] = (), force: bool = False) -> StudyFolder:
    """Join a study that was begun here or elsewhere, running or not.

    Args:
        path: Its folder.
        overrides: `search.trials`, `.workers`, `.timeout` and `.confirm` may be others than before.
        force: Whether to join although the configuration files have changed.

    Raises:
        InputError: If there is no study, its space, its objectives or its configuration changed since, or Optuna is
            missing.
    """
    _check_optuna()
    from funrec.tuning.study import StudyFolder

    path = path.resolve()
    stored = read_plan(path)
    if os.path.isdir(stored.started_in):
        os.chdir(stored.started_in)
    allow(stored.allow.split(","))
    add_folders([Path(folder) for folder in stored.folders])
    given = [_key(override) for override in overrides]
    now = make_plan([*stored.fixed, *(asked for asked in stored.asked if _key(asked) not in given), *overrides])
    if (found := differences(stored, now)) and not force:
        shown = "; ".join(found[:4]) + (f"; and {len(found) - 4} more" if len(found) > 4 else "")
        raise InputError(f"{path} should be resumed as it was begun: {shown}. Put it back, or begin a new study.")
    if overrides and not found:
        stored = replace(now, name=stored.name)
        stored.write(path)
    return StudyFolder(path, stored)


def check_plan(plan: Plan) -> None:
    """Check that the configuration as it is can be trained, and with each end of each range and each choice."""
    if is_popularity(plan.config):
        raise InputError("model should have something to tune. Received: popularity, which is not trained.")
    _check_config(plan.config)
    for key, entry in plan.space.items():
        for value in entry.ends:
            try:
                _check_config(_with(plan, key, value))
            except InputError as error:
                raise InputError(f"search.space.{key} should hold values that can be trained with: {error}") from error


def _with(plan: Plan, key: str, value: Any) -> Mapping[str, Any]:
    """Return the configuration with one other value; one of a whole group is composed, which takes half a second."""
    if plan.start[key] == value:
        return plan.config
    *path, last = key.split(".")
    config = copy.deepcopy(plan.config)
    node: Any = config
    for part in path:
        node = node[part]
    if "/" in key or (isinstance(node.get(last), Mapping) and isinstance(value, str)):
        return compose(plan.overrides({key: value}))
    node[last] = value
    return config


def _check_config(config: Mapping[str, Any]) -> None:
    check_settings(config)
    dataset = build(config["dataset"], Dataset, "dataset")
    dataset.sources()
    load_tensorflow()
    from funrec.experiment import fitting

    fitting.check_parts(config, dataset)


def _check_optuna() -> None:
    if find_spec("optuna") is None:
        raise InputError('funrec tune should find Optuna. It is missing: pip install "funrec-lab[tune]".')


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+")
