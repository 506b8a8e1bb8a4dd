"""Check what no constructor checks: a key of a configuration file that nothing reads is a typo."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from funrec.metrics import build_metrics
from funrec.runs.protocol import read_protocol
from funrec.utils.errors import InputError, did_you_mean

KEYS = (
    *("dataset", "model", "weighting", "optimizer", "trainer", "metrics", "report", "tracking", "protocol"),
    *("calibration", "seed", "baselines", "tuned_on", "schedule"),
)
METRIC_KEYS = ("gauc_weight", "extra", "slices")
REPORT_KEYS = ("gates", "diagnosis", "slices")


def check_settings(config: Mapping[str, Any]) -> None:
    """Check the keys and values of a run that no part of it is built from."""
    groups = (
        ("", config, KEYS),
        ("metrics.", config["metrics"], METRIC_KEYS),
        ("report.", config["report"], REPORT_KEYS),
    )
    for where, keys, known in groups:
        for key in keys:
            if key == "experiment":
                raise InputError('experiment/*.yaml should begin with "# @package _global_". It does not.')
            if key not in known:
                raise InputError(f"{where}{key}: no such key.{did_you_mean(key, known)}")
    seed, slices = config["seed"], config["metrics"]["slices"]
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**31:
        raise InputError(f"seed should be a whole number from 0 to {2**31 - 1}. Received: {seed}.")
    if not isinstance(config["baselines"], bool):
        raise InputError(f"baselines should be true or false. Received: {config['baselines']}.")
    if (split := config.get("tuned_on")) is not None and not (isinstance(split, str) and split.isidentifier()):
        raise InputError(f"tuned_on should be null or the name of a split, such as valid. Received: {split}.")
    if (schedule := config.get("schedule")) is not None:
        raise InputError(f"schedule should be null, or daily in `funrec run schedule=daily`. Received: {schedule}.")
    build_metrics(config["metrics"])
    read_protocol(config)
    if not isinstance(slices, list) or not all(isinstance(name, str | int) for name in slices):
        raise InputError(f"metrics.slices should list columns, such as [tab]. Received: {slices}.")
