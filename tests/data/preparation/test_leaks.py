"""The check for leaks that users run: it passes the engine, and tells when it does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tables import log_table, tabular, write_kuairand

from funrec.cli.data import main
from funrec.config.build import build
from funrec.config.compose import compose
from funrec.data.datasets.base import Dataset
from funrec.data.features.history_ranges import Clock
from funrec.data.preparation.leaks import check_histories
from funrec.utils.errors import InputError

FEATURES = {
    "user": {},
    "exposures": {"kind": "history", "by": "user", "count": True},
    "rate": {"kind": "history", "by": "item", "rate": "click", "lag": 2},
    "recent": {"kind": "history", "by": "user", "last": 4, "of": "item", "where": "click = 1"},
}


def test_no_history_moves_with_later_outcomes_and_all_move_with_earlier_ones(tmp_path: Path) -> None:
    dataset = tabular(tmp_path, log_table(), features=FEATURES, history={"where": "buy = 0"})
    checks = check_histories(dataset, tmp_path)
    assert [found.name for found in checks] == ["exposures", "rate", "recent"]
    assert all(found.leaks == 0 and found.moved > 20 for found in checks)


def test_a_clock_that_is_late_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Clock.seen
    monkeypatch.setattr(Clock, "seen", lambda clock, lag: np.minimum(seen(clock, lag) + 1, len(clock.instants)))
    dataset = tabular(tmp_path, log_table(), features=FEATURES, history={"where": "buy = 0"})
    assert all(found.leaks for found in check_histories(dataset, tmp_path))


def test_the_command_says_ok_for_each_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log_table().write_csv(tmp_path / "log.csv")
    monkeypatch.setenv("FUNREC_CACHE", str(tmp_path / "cache"))
    overrides = [
        *("dataset=tabular", f"dataset.path={tmp_path / 'log.csv'}", "dataset.time=day", "+dataset.tasks={click: {}}"),
        "+dataset.features={user: {}, n: {kind: history, by: user, rate: click}}",
    ]
    assert main(["verify", "--leaks", *overrides]) == 0
    assert capsys.readouterr().out.startswith("n: ok (")
    with pytest.raises(InputError, match=r"one of kind history to check for leaks"):
        main(["verify", "--leaks", *overrides[:-1], "+dataset.features={user: {}}"])


EXPERIMENTS = Path(__file__).parents[3] / "conf" / "experiment"
WITH_HISTORY = [file.stem for file in sorted(EXPERIMENTS.glob("*.yaml")) if "kind: history" in file.read_text()]


@pytest.mark.parametrize("name", WITH_HISTORY)
def test_no_history_of_an_experiment_leaks(tmp_path: Path, name: str) -> None:
    root = write_kuairand(tmp_path / "archive")
    config = compose([f"experiment={name}", f"dataset.root={root}"])["dataset"]
    histories = {name: values for name, values in config["features"].items() if values.get("kind") == "history"}
    config["features"] = {"user_id": {}, **histories}
    work = tmp_path / "work"
    work.mkdir()
    checks = check_histories(build(config, Dataset, "dataset"), work)
    assert len(checks) >= 28 and not any(found.leaks for found in checks)
    assert sum(found.moved > 0 for found in checks) >= len(checks) // 2
