"""What experiment trackers are told of real runs, read back with each tracker's own reader."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.metadata import distributions
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

import funrec
from funrec.config.compose import compose
from funrec.experiment import experiment
from funrec.experiment.run import Run
from funrec.experiment.tracking import TrackedRun, Tracker, _Channel, run_id
from funrec.utils.errors import InputError

SMALL = ("dataset.rows=3000", "trainer=smoke", "trainer.epochs=2", "model=mmoe", "weighting=mgda")

third_party = pytest.mark.filterwarnings("ignore")  # trackers' own


def run_in(folder: Path, *overrides: str) -> Run:
    folder.mkdir(parents=True)
    return experiment.run(compose([*SMALL, *overrides]), folder, [*SMALL, *overrides])


class Told(Tracker):
    """Keeps what it is told, or does what `trouble` does."""

    package = "json"

    def __init__(self, trouble: Any = None) -> None:
        super().__init__(wait=0.3)
        self.calls: list[str] = []
        self.trouble = trouble or (lambda: None)

    def start(self, run: TrackedRun) -> None:
        self.calls.append(run.name)
        self.trouble()

    def epoch(self, number: int, values: Mapping[str, float]) -> None:
        self.calls.append(f"epoch {number}")

    def finish(self, record: Mapping[str, Any]) -> None:
        self.calls.append("finished")

    def fail(self, state: str, reason: str) -> None:
        self.calls.append(state)


def tell(tracker: Tracker, folder: Path) -> None:
    channel = _Channel("told", tracker)
    channel.send("start", (TrackedRun(folder, {}, []),))
    channel.send("epoch", (1, {}))
    channel.close()


def test_calls_arrive_in_order(tmp_path: Path) -> None:
    tell(tracker := Told(), tmp_path / "a")
    assert tracker.calls == ["a", "epoch 1"]


def test_a_tracker_that_fails_is_a_warning_and_is_told_no_more(tmp_path: Path, caplog: Any) -> None:
    def refuse() -> None:
        raise ConnectionError("no route\nand a second line")

    with caplog.at_level(logging.WARNING, "funrec"):
        tell(tracker := Told(refuse), tmp_path / "a")
    assert tracker.calls == ["a"]
    assert caplog.messages == ["tracking.told failed: no route. The run goes on without it."]


def test_a_tracker_that_does_not_answer_is_not_waited_for(tmp_path: Path, caplog: Any) -> None:
    started = time.monotonic()
    tell(Told(lambda: time.sleep(5)), tmp_path / "a")
    assert time.monotonic() - started < 4
    assert caplog.messages == ["tracking.told did not answer within 0.3 s. The run stands."]


def test_a_run_knows_its_sweep_and_its_parameters(tmp_path: Path) -> None:
    (tmp_path / "swept" / "0").mkdir(parents=True)
    (tmp_path / "swept" / "sweep.json").touch()
    config = {"seed": 1, "model": {"units": [4, 2], "groups": None}, "tracking": {"x": 1}}
    run = TrackedRun(tmp_path / "swept" / "0", config, [])
    assert run.parent == tmp_path / "swept"
    assert run.name == "swept/0"
    assert run.parameters == {"seed": 1, "model.units": "[4, 2]"}
    assert TrackedRun(tmp_path / "alone", config, []).parent is None


def test_a_tracker_without_its_package_is_refused_before_anything_runs() -> None:
    class Absent(Told):
        package = "no_such_tracker"

    with pytest.raises(InputError, match=r'pip install "funrec-lab\[no_such_tracker\]"'):
        Absent()


def test_an_unknown_key_of_a_tracker_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"tracking\.tensorboard\.wiat"):
        run_in(tmp_path / "run", "tracking=tensorboard", "+tracking.tensorboard.wiat=3")


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of a sweep, told to all trackers at once."""
    for package in ("tensorboard", "mlflow", "wandb"):
        pytest.importorskip(package, reason=f'needs pip install "funrec-lab[{package}]"')
    place = tmp_path_factory.mktemp("tracked")
    (place / "swept").mkdir()
    (place / "swept" / "sweep.json").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("WANDB_SILENT", "true")
        store = f"tracking.mlflow.uri=sqlite:///{place}/mlflow.db"
        chosen = ("tracking=[tensorboard,mlflow,wandb]", store, "tracking.wandb.mode=offline")
        return run_in(place / "swept" / "0", *chosen)


@pytest.mark.slow
@third_party
def test_tensorboard_reads_every_epoch_with_weights_and_gradient_norms(tracked: Run) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tracked.path / "tensorboard"))
    events.Reload()
    history = tracked.history()
    from tensorflow import make_ndarray

    for column in ("auc_is_click", "weight_is_like", "gradient_norm_is_click", "loss_long_view"):
        points = events.Tensors(f"{column.partition('_')[0]}/{column}")
        assert [point.step for point in points] == [1, 2]
        assert [float(make_ndarray(p.tensor_proto)) for p in points] == pytest.approx(history[column].tolist())
    (table,) = events.Tensors("table")
    assert b"auc_is_click" in make_ndarray(table.tensor_proto).item()


@pytest.mark.slow
@third_party
def test_mlflow_holds_parameters_epochs_metrics_and_files_under_the_sweep(tracked: Run) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{tracked.path.parents[1]}/mlflow.db")
    experiment_id = client.get_experiment_by_name("funrec").experiment_id
    (run,) = client.search_runs([experiment_id], f"tags.`funrec.id` = '{run_id(tracked.path)}'")
    assert run.info.status == "FINISHED"
    assert run.data.params["weighting._target_"] == "funrec.weighting.mgda.MGDA"
    assert run.data.metrics["best/auc_is_click"] == tracked.metrics["auc_is_click"]
    points = client.get_metric_history(run.info.run_id, "gradient_norm_is_like")
    assert [point.value for point in points] == tracked.history()["gradient_norm_is_like"].tolist()
    parent = client.get_run(run.data.tags["mlflow.parentRunId"])
    assert (parent.info.run_name, parent.info.status) == ("swept", "FINISHED")
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"record.json", "history.parquet", "table.txt", "report.html"} <= files


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """MLflow's own server, with its database and its artifacts."""
    if not any(distribution.name == "mlflow" for distribution in distributions()):
        pytest.skip("needs MLflow's server: pip install mlflow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    stores = (f"--backend-store-uri=sqlite:///{tmp_path}/server.db", f"--artifacts-destination={tmp_path}/artifacts")
    command = (sys.executable, "-m", "mlflow", "server", *stores, "--host=127.0.0.1", f"--port={port}", "--workers=1")
    with (tmp_path / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        for _ in range(600):
            with suppress(OSError), urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                break
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.slow
@third_party
def test_mlflows_server_has_the_epochs_and_the_files_of_a_run(server: str, tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    run = run_in(tmp_path / "run", "tracking=mlflow", f"tracking.mlflow.uri={server}")
    client = MlflowClient(server)
    (told,) = client.search_runs([client.get_experiment_by_name("funrec").experiment_id])
    assert told.info.status == "FINISHED"
    points = client.get_metric_history(told.info.run_id, "auc_is_click")
    assert [point.value for point in points] == pytest.approx(run.history()["auc_is_click"].tolist())
    file = client.download_artifacts(told.info.run_id, "record.json", str(tmp_path))
    assert Path(file).read_bytes() == (run.path / "record.json").read_bytes()


@pytest.mark.slow
def test_wandb_offline_leaves_a_file_to_upload(tracked: Run) -> None:
    (file,) = tracked.path.glob("wandb/offline-run-*/run-*.wandb")
    content = file.read_bytes()
    assert b"gradient_norm_is_like" in content
    assert b"swept/0" in content


@pytest.mark.slow
@third_party
def test_a_run_stands_whose_trackers_server_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    pytest.importorskip("mlflow", reason='needs pip install "funrec-lab[mlflow]"')
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    run = run_in(tmp_path / "run", "tracking=mlflow", "tracking.mlflow.uri=http://127.0.0.1:9", "trainer.epochs=1")
    assert funrec.load_run(run.path).metrics["auc_is_click"] > 0
    assert [text for text in caplog.messages if text.startswith("tracking.mlflow failed")]
