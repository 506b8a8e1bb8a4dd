"""Tuning from Python."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from funrec.experiment.experiment import load_run
from funrec.experiment.run import Run
from funrec.runs.folder import is_run
from funrec.utils.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


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
        from funrec.tuning.results import outcomes, ranked
        from funrec.tuning.study import StudyFolder

        study = StudyFolder(self.path)
        return load_run(study.folder(ranked(outcomes(study), study.plan.settings.signs)[0].number))

    @property
    def start(self) -> Run:
        """Trial 0: the configuration as it was."""
        return load_run(self.path / "0")

    def trials(self) -> pd.DataFrame:
        """Return a row per trial: number, state, objectives, the values of the space, epochs, seconds, reason."""
        import pandas as pd

        from funrec.tuning.results import outcomes
        from funrec.tuning.study import StudyFolder

        study = StudyFolder(self.path)
        names = list(study.plan.settings.objectives)
        return pd.DataFrame(
            {
                "trial": outcome.number,
                "state": outcome.state,
                **dict(zip(names, outcome.values, strict=False)),  # none unless it finished
                **outcome.params,
                "epochs": outcome.epochs,
                "seconds": outcome.seconds,
                "reason": outcome.reason,
            }
            for outcome in outcomes(study)
        )

    def __repr__(self) -> str:
        return f"Study({str(self.path)!r})\n{self.summary}"


def tune(model: str | None = None, *overrides: str) -> Study:
    """Search a space of configurations, and return the study when its trials are done.

    Args:
        model: A model's name, such as `mmoe`; or the first override. The folder of a study goes on with that.
        overrides: Hydra overrides that all trials share, and those of the search, such as `search.trials=50`.

    Raises:
        InputError: If Optuna is missing, a key or a value is not what it should be, or no trial finished.
    """
    try:
        from funrec.tuning.summary import conclude
        from funrec.tuning.tuner import begin, join, run_study
    except ModuleNotFoundError as error:
        if error.name != "optuna":
            raise
        raise InputError('funrec.tune should find Optuna. It is missing: pip install "funrec[tune]".') from None
    if model is not None and (Path(model) / "study.json").is_file() and not is_run(model):
        study = join(Path(model), overrides)
    else:
        chosen = [] if model is None else [model if "=" in model else f"model={model}"]
        study = begin([*chosen, *overrides])
    run_study(study)
    return Study(study.path, conclude(study))
