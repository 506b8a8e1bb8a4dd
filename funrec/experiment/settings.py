"""Check what no constructor checks: a key of a configuration file that nothing reads is a typo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from funrec.metrics import build_metrics
from funrec.runs.protocol import read_protocol
from funrec.utils.errors import InputError
from funrec.utils.specs import check, whole, worded

Columns = Annotated[list[str | int], worded("a list of columns, such as [tab]")]


@dataclass(frozen=True)
class RunSettings:
    """What a run's configuration has: sections, which are checked where they are read, and values."""

    dataset: Any
    model: Any
    weighting: Any
    optimizer: Any
    trainer: Any
    metrics: Any
    report: Any
    seed: Annotated[int, whole(0, 2**31 - 1)]
    baselines: bool = False
    tracking: Any = None
    protocol: Any = None
    calibration: Any = None
    schedule: Any = None
    tuned_on: Annotated[str, worded("the name of a split, such as valid", str.isidentifier)] | None = None


@dataclass(frozen=True)
class MetricSettings:
    """The section `metrics`; `build_metrics` checks the first two."""

    gauc_weight: Any = None
    extra: Any = None
    slices: Columns = field(default_factory=list)


@dataclass(frozen=True)
class ReportSettings:
    """The section `report`: what is printed below the table."""

    gates: bool = False
    diagnosis: bool = False
    slices: bool = False


def check_settings(config: Mapping[str, Any]) -> None:
    """Check the keys and values of a run that no part of it is built from."""
    if "experiment" in config:
        raise InputError('experiment/*.yaml should begin with "# @package _global_". It does not.')
    check(RunSettings, config, "")
    check(MetricSettings, config["metrics"], "metrics")
    check(ReportSettings, config["report"], "report")
    if (schedule := config.get("schedule")) is not None:
        raise InputError(f"schedule should be null, or daily in `funrec run schedule=daily`. Received: {schedule}.")
    build_metrics(config["metrics"])
    read_protocol(config)
