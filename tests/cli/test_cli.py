"""The `funrec` command: results on standard output, all else on standard error, and Hydra's own ways."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
import yaml
from commands import Command

from funrec.cli.main import COMMANDS
from funrec.runs.folder import status

SMALL = ("dataset.rows=3000", "trainer=smoke")
FUNREC = (sys.executable, "-m", "funrec.cli.main")


def is_table(text: str) -> bool:
    return bool(text) and all(line[0] in "+|" and line[-1] in "+|" for line in text.splitlines())


def cells(text: str) -> list[dict[str, str]]:
    """Return the rows of the last grid in a text, by column."""
    last = f"\n{text}".rpartition("\n| model")[2]
    lines = ["| model" + last.partition("\n")[0], *(line for line in last.splitlines()[1:] if line.startswith("|"))]
    header, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return [dict(zip(header, row, strict=True)) for row in rows]


# One run


def test_standard_output_holds_a_table_alone_with_the_columns_that_people_know(workdir: Path, funrec: Command) -> None:
    done = funrec("run", "model=logistic", *SMALL)
    assert done.code == 0, done.err
    assert is_table(done.out)
    (path,) = (workdir / "outputs" / "runs").rglob("record.json")
    assert done.err.splitlines()[-1] == str(path.parent)
    assert "epoch 1: " in done.err

    tasks = ["is_click", "is_like", "long_view"]
    named = [f"auc_{t}" for t in (*tasks, "macro")] + [f"gauc_{t}" for t in (*tasks, "macro")]
    row, oracle = cells(done.out)
    assert (row["model"], oracle["model"]) == ("logistic", "oracle")
    assert list(row) == ["model", *sorted(named[:4]), *sorted(named[4:]), *(f"val_user_{task}" for task in tasks)]
    metrics = json.loads(path.read_text())["metrics"]
    for name in named:
        assert row[name] == f"{metrics[name]:.4f}"
    assert all(row[f"val_user_{task}"] == str(metrics[f"val_user_{task}"]) for task in tasks)


def test_without_a_group_there_is_no_gauc_and_one_line_says_why(workdir: Path, funrec: Command) -> None:
    done = funrec("run", "model=logistic", *SMALL, "dataset.group=null")
    assert "gauc" not in done.out
    assert [line for line in done.err.splitlines() if "No GAUC" in line and "dataset.group" in line]


def test_help_and_the_configuration_run_nothing(workdir: Path, funrec: Command) -> None:
    shown = funrec("run", "--cfg", "job", "model=shared_bottom", "trainer.epochs=7")
    assert shown.code == 0
    config = yaml.safe_load(shown.out)
    assert config["trainer"]["epochs"] == 7
    assert config["model"]["backbone"]["_target_"].endswith("SharedBottom")
    helped = funrec("run", "--help")
    assert helped.code == 0
    assert "shared_bottom" in helped.out
    assert not list(workdir.iterdir())


def test_a_data_set_of_ones_own_is_found_in_a_folder_of_ones_own(workdir: Path, funrec: Command) -> None:
    pl.DataFrame(
        {
            "who": [f"u{i % 17}" for i in range(600)],
            "what": [i * 7 % 23 for i in range(600)],
            "bought": [int(i * 7 % 23 > 11 and i % 5 > 0) for i in range(600)],
        }
    ).write_csv(workdir / "log.csv")
    (workdir / "mine" / "dataset").mkdir(parents=True)
    (workdir / "mine" / "dataset" / "shop.yaml").write_text(
        "defaults: [tabular, _self_]\npath: log.csv\ngroup: who\n"
        "tasks: {buy: {label: bought}}\nfeatures: {who: {}, what: {}}\n"
    )
    done = funrec("run", "--config-dir", "mine", "dataset=shop", "model=logistic", "trainer.batch_size=64")
    assert done.code == 0, done.err
    (row,) = cells(done.out)
    assert float(row["auc_buy"]) > 0.8
    assert 5 < int(row["val_user_buy"]) <= 17


@pytest.mark.slow
def test_a_backbone_of_ones_own_runs_once_its_package_is_allowed(
    workdir: Path, funrec: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workdir / "my_backbones.py").write_text(
        "from funrec.models.backbones.shared_bottom import SharedBottom\n\n\nclass Mine(SharedBottom):\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(workdir))
    own = ("run", *SMALL, "model=shared_bottom", "model.backbone._target_=my_backbones.Mine")
    refused = funrec(*own)
    assert refused.code == 2
    assert "--allow my_backbones" in refused.err
    done = funrec(*own, "--allow", "my_backbones")
    assert done.code == 0, done.err
    assert cells(done.out)[0]["model"] == "my_backbones"
    assert funrec(*own, "--allow=my-backbones").code == 2
    assert funrec("compare", "--allow", "my_backbones", "outputs/runs").code == 0


# Sweeps


@pytest.mark.slow
def test_a_sweep_prints_each_jobs_table_and_one_of_all_with_what_was_swept(workdir: Path, funrec: Command) -> None:
    done = funrec("run", "-m", "model=logistic,shared_bottom", "optimizer.learning_rate=0.01,0.02", *SMALL)
    assert done.code == 0, done.err
    assert is_table(done.out)
    assert done.out.count("| model ") == 5
    rows = cells(done.out)
    assert list(rows[0])[:2] == ["model", "optimizer.learning_rate"]
    assert [(row["model"], row["optimizer.learning_rate"]) for row in rows] == [
        ("logistic", "0.01"),
        ("logistic", "0.02"),
        ("shared_bottom", "0.01"),
        ("shared_bottom", "0.02"),
        ("oracle", ""),
    ]
    folders = sorted(path.parent for path in (workdir / "outputs" / "sweeps").rglob("record.json"))
    assert [folder.name for folder in folders] == ["0", "1", "2", "3"]
    assert len({folder.parent for folder in folders}) == 1
    assert all("epoch 1" in (folder / "funrec.log").read_text() for folder in folders)
    assert "retracing" not in done.err


@pytest.mark.slow
def test_a_sweep_goes_on_after_jobs_that_failed_and_shows_why(workdir: Path, funrec: Command) -> None:
    done = funrec("run", "--multirun", "model=mmoe,nope", "model.backbone.num_experts=0,2", *SMALL)
    assert done.code == 1
    finished, failed = done.out.split("\n\n")
    assert [(row["model"], row["model.backbone.num_experts"]) for row in cells(finished)[:-1]] == [("mmoe", "2")]
    assert {row["model"] for row in cells(failed)} >= {"mmoe", "nope"}
    assert "model.backbone.num_experts should be a positive whole number" in failed
    assert "model: there is no nope" in failed
    assert len(list(workdir.rglob("record.json"))) == 1
    assert "Traceback" not in done.err


# Other commands


def test_list_shows_models_with_their_papers(funrec: Command) -> None:
    done = funrec("list", "models")
    assert done.code == 0
    (line,) = (line for line in done.out.splitlines() if line.startswith("mmoe "))
    assert "Ma et al., KDD 2018" in line
    listed = {line.split("  ")[0]: line for line in funrec("list", "metrics").out.splitlines()}
    assert {"auc", "gauc", "log_loss", "val_user", "gxauc", "metrics/extra=ndcg_at_k"} <= set(listed)
    assert "ties counting half" in listed["auc"]
    everything = funrec("list").out
    for heading in ("models:", "datasets:", "weightings:"):
        assert heading in everything.splitlines()


def test_list_of_an_unknown_kind_says_which_there_are(funrec: Command) -> None:
    done = funrec("list", "modles")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("funrec: funrec list: argument kind: invalid choice: 'modles' (choose from 'models', ")
    assert done.err.count("\n") == 1


def test_an_option_whose_value_begins_with_a_minus_shows_how_to_write_it(funrec: Command) -> None:
    done = funrec("fuse", "run", "--objective", "-gauc_click")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "A value that begins with - needs a =" in done.err


def test_data_is_described_and_verified(workdir: Path, funrec: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUNREC_CACHE", str(workdir / "cache"))
    described = funrec("data", "describe", "dataset.rows=3000")
    assert described.code == 0, described.err
    for text in ("3,000", "is_click", "video_id"):
        assert text in described.out
    verified = funrec("data", "verify")
    assert verified.code == 0
    assert verified.out.strip().endswith(": ok")
    entry = Path(verified.out.partition(": ok")[0])
    labels = entry / "train" / "labels.npy"
    labels.chmod(0o644)
    content = labels.read_bytes()
    labels.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    damaged = funrec("data", "verify", str(entry))
    assert damaged.code == 2
    assert "labels.npy has changed since it was written" in damaged.out


def test_help_and_version(funrec: Command) -> None:
    for arguments in ((), ("--help",), ("-h",)):
        done = funrec(*arguments)
        assert (done.code, done.err) == (0, "")
        assert done.out.startswith("usage: funrec COMMAND")
    assert re.fullmatch(r"funrec \d+\.\d+\.\d+\n", funrec("--version").out)


@pytest.mark.parametrize("command", [*COMMANDS, "data describe", "data verify"])
def test_every_command_explains_itself(command: str, workdir: Path, funrec: Command) -> None:
    done = funrec(*command.split(), "--help")
    assert (done.code, done.err) == (0, "")
    assert f"funrec {command}" in done.out
    assert not list(workdir.iterdir())


def test_a_data_set_of_ones_own_is_described(workdir: Path, funrec: Command) -> None:
    (workdir / "log.csv").write_text("who,bought\n" + "".join(f"u{i % 7},{i % 3 // 2}\n" for i in range(90)))
    (workdir / "mine" / "dataset").mkdir(parents=True)
    (workdir / "mine" / "dataset" / "shop.yaml").write_text(
        "defaults: [tabular, _self_]\npath: log.csv\ntasks: {buy: {label: bought}}\nfeatures: {who: {}}\n"
    )
    done = funrec("data", "describe", "--config-dir", "mine", "dataset=shop")
    assert done.code == 0, done.err
    assert "buy" in done.out
    refused = funrec("data", "describe", "--config-dir", "nowhere", "dataset=shop")
    assert (refused.code, refused.err) == (2, "funrec: --config-dir should be a folder. Received: nowhere.\n")


# Processes of their own


@pytest.mark.slow
def test_a_narrow_terminal_gets_a_row_per_task_and_live_progress(workdir: Path) -> None:
    """A real terminal on both ends, 70 columns wide."""
    table, told = pty.openpty(), pty.openpty()
    environment = os.environ | {"COLUMNS": "70", "TERM": "xterm"}
    command = [*FUNREC, "run", "model=logistic", *SMALL]
    with subprocess.Popen(command, stdout=table[1], stderr=told[1], env=environment) as child:
        os.close(table[1])
        os.close(told[1])
        out, err = (_read(end) for end in (table[0], told[0]))
    assert child.returncode == 0, err
    lines = out.splitlines()
    assert all(len(line) <= 70 for line in lines)
    assert "task" in lines[1]
    assert {"is_click", "is_like", "long_view", "macro"} <= set(re.findall(r"\w+", out))
    assert "rows/s" in err
    assert "\x1b[" in err  # drawn, not logged


def _read(end: int) -> str:
    content = b""
    try:
        while part := os.read(end, 1 << 16):
            content += part
    except OSError:  # how a terminal ends on Linux
        pass
    finally:
        os.close(end)
    return content.decode()


@pytest.mark.slow
@pytest.mark.exhaustive  # the same line without a process in test_resume.py, the signal to a process in test_tuning.py
def test_an_interrupted_run_ends_with_130_and_says_how_to_go_on(workdir: Path) -> None:
    command = [*FUNREC, "run", "model=logistic", "dataset.rows=3000", "trainer.epochs=100000", "trainer.patience=null"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None and child.stdout is not None
        seen = ""
        deadline = time.monotonic() + 200
        while "epoch 2" not in seen and time.monotonic() < deadline:
            seen += child.stderr.readline()
        child.send_signal(signal.SIGINT)
        out, err = child.stdout.read(), child.stderr.read()
    assert child.returncode == 130, err
    assert out == ""
    (folder,) = (workdir / "outputs" / "runs").iterdir()
    last = err.strip().splitlines()[-1]
    assert last.startswith("funrec: Interrupted.")
    assert last.endswith(f"funrec resume {folder}")
    assert "Traceback" not in err
    assert not (folder / "record.json").exists()
    assert status(folder).state == "interrupted"
