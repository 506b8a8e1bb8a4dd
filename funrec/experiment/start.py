"""A run that starts from another's weights: whether it may, and what its record says of its ancestors."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from funrec.data.arrays import PreparedData
from funrec.data.datasets.base import Dataset
from funrec.data.preparation.cache import log_fingerprint
from funrec.data.preparation.extending import Known
from funrec.experiment.baselines import has_network
from funrec.runs import record as records
from funrec.runs.folder import BEST_WEIGHTS
from funrec.utils.errors import InputError

if TYPE_CHECKING:
    from funrec.models.transfer import Transferred

log = logging.getLogger("funrec")

KEY = "trainer.start_from"


@dataclass(frozen=True)
class Start:
    """The run that another one starts from.

    Attributes:
        run: Its folder.
        record: Its record.
        known: How it reads its rows.
    """

    run: Path
    record: dict[str, Any]
    known: Known

    @property
    def lineage(self) -> list[dict[str, Any]]:
        """Its ancestors and itself, the oldest first: each run's folder, and what the record calls `seen`."""
        return [*self.record.get("lineage", []), {"run": str(self.run), **self.record["seen"]}]

    def check_unseen(self, dataset: Dataset, data: PreparedData) -> str:
        """Return why no evaluation row is known to this run or an ancestor.

        Runs on the same files with the same split have the same rows in each split, so names decide. Else times do:
        what a run has seen must end before the evaluation rows begin.
        """
        evaluated = [name for name in data.splits if name != "train"]
        ranges = {name: data.statistics["splits"][name]["time_range"] for name in evaluated}
        by_times = False
        for ancestor in self.lineage:
            if ancestor["log"] == log_fingerprint(dataset):
                if both := [name for name in evaluated if name in ancestor["splits"]]:
                    raise self._refused(ancestor, f"{both[0]}, a split of this run too")
                continue
            until, by_times = ancestor["until"], True
            if until is None or ancestor["time"] != dataset.time:
                raise self._refused(ancestor, "another log or split, and dataset.time does not tell them apart")
            for name, (first, _) in ranges.items():
                if isinstance(first, str) != isinstance(until, str) or first <= until:
                    raise self._refused(
                        ancestor, f"rows until {dataset.time} {until}; {name} begins at {first}, and should be later"
                    )
        if by_times:
            return f"what it and its ancestors have seen ends before these rows begin, by {dataset.time}"
        return "it was neither trained nor selected on these splits of the same log"

    def _refused(self, ancestor: Mapping[str, Any], problem: str) -> InputError:
        which = self.run if ancestor["run"] == str(self.run) else f"{ancestor['run']}, an ancestor of {self.run},"
        return InputError(
            f"{KEY} should name a run that does not know this run's evaluation rows. Received: {which} trained or "
            f"selected on {problem}. Change dataset.split, or start from another run."
        )


def find_start(config: Mapping[str, Any], dataset: Dataset) -> Start | None:
    """Return the run that `trainer.start_from` names; None where it names none.

    Raises:
        InputError: If it is no finished run with weights, its features are not the dataset's, or baselines are asked
            for beside it.
    """
    if (name := config["trainer"].get("start_from")) is None:
        return None
    if config.get("baselines"):
        raise InputError(
            f"baselines should be false with {KEY}: baselines start anew, on fewer rows. Start each from a run of its "
            f"own, as in model=logistic {KEY}=RUN."
        )
    if not has_network(config):
        raise InputError(f"{KEY} is for models with weights that training goes on from. Received: one without.")
    run = Path(name)
    try:
        record = records.read(run)
    except InputError as error:
        raise InputError(f"{KEY}: {error}") from None
    if "seen" not in record:
        raise InputError(f"{KEY}: the record of {run} should say which rows it has seen. It is older: run it again.")
    if not (run / BEST_WEIGHTS).is_file():
        raise InputError(f"{KEY}: {run} should have kept its weights, by trainer.keep=best. It has none: run it again.")
    start = Start(run, record, Known.read(run))
    start.known.check_features(dataset)
    return start


def describe_seen(dataset: Dataset, data: PreparedData, selected_on: Collection[str | None]) -> dict[str, Any]:
    """Return the record's `seen`: the splits that a run was trained or selected on, of which log, and until when."""
    splits = [name for name in data.splits if name == "train" or name in selected_on]
    ranges = [data.statistics["splits"][name]["time_range"] for name in splits]
    until = None if None in ranges else max(last for _, last in ranges)
    return {"log": log_fingerprint(dataset), "splits": splits, "time": dataset.time, "until": until}


def describe_start(start: Start, dataset: Dataset, data: PreparedData, transferred: Transferred) -> dict[str, Any]:
    """Return the record's `started_from`, and log it."""
    unseen = start.check_unseen(dataset, data)
    known = start.known.inputs
    new_ids = {
        name: len(vocabulary) - len(known.vocabularies[name])
        for name, vocabulary in data.vocabularies.items()
        if len(vocabulary) > len(known.vocabularies[name])
    }
    heads = [[task.name for task in tasks] for tasks in (known.tasks, data.tasks)]
    described = {
        "run": str(start.run),
        "unseen": unseen,
        "new_ids": new_ids,
        "new_heads": [name for name in heads[1] if name not in heads[0]],
        "dropped_heads": [name for name in heads[0] if name not in heads[1]],
        "in_part": transferred.in_part,
        "anew": transferred.anew,
    }
    log.info("Starts from %s: %d weights taken over whole.", start.run, len(transferred.whole))
    log.info("Its evaluation rows are new: %s.", unseen)
    texts = {
        "New ids": [f"{count:,} of {name}" for name, count in new_ids.items()],
        "New heads": described["new_heads"],
        "Heads dropped": described["dropped_heads"],
        "Taken over in part": transferred.in_part,
        "Started anew": transferred.anew,
    }
    for title, names in texts.items():
        if names:
            log.info("%s: %s.", title, ", ".join(names))
    return described
