"""The README's commands and code, run as they stand there."""

from __future__ import annotations

import re
import shlex
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from commands import Command

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)
    return [text for found, text in fenced if found == language]


def run_commands() -> list[str]:
    """Return the README's `funrec run` commands without their comments."""
    lines = [line for block in blocks("") for line in block.splitlines()]
    commands = [line.partition("  #")[0].strip() for line in lines if line.startswith("funrec run ")]
    return [command for command in commands if "--config-dir" not in command]


def test_the_first_commands_are_those_that_set_up_and_go() -> None:
    assert [block.strip() for block in blocks("")[:2]] == [
        "pip install -e . && funrec run model=mmoe",
        'pip install -e ".[dev]" && pytest',
    ]


@pytest.mark.parametrize("command", run_commands())
def test_what_a_command_asks_for_is_there(command: str, funrec: Command, workdir: Path) -> None:
    arguments = [argument for argument in shlex.split(command)[1:] if argument != "-m" and "," not in argument]
    if "--cfg" not in arguments:
        arguments += ["--cfg", "job"]
    done = funrec(*arguments)
    assert done.code == 0, done.err


@pytest.mark.slow
def test_the_python_code_runs(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = blocks("python")
    exec(compile(code, "README.md", "exec"), {})  # noqa: S102 - the text is ours
    assert "auc_is_click" in capsys.readouterr().out


@pytest.mark.slow
def test_a_table_of_ones_own_runs_as_described(funrec: Command, workdir: Path) -> None:
    text = next(block for block in blocks("yaml") if "mine/dataset/shop.yaml" in block)
    (workdir / "mine" / "dataset").mkdir(parents=True)
    (workdir / "mine" / "dataset" / "shop.yaml").write_text(text)
    (workdir / "logs").mkdir()
    shop_log().write_parquet(workdir / "logs" / "2026-05.parquet")
    done = funrec("run", "--config-dir", "mine", "dataset=shop", "model=mmoe", "trainer=smoke")
    assert done.code == 0, done.err
    assert "auc_buy" in done.out


def shop_log(rows: int = 2000) -> pl.DataFrame:
    draw = np.random.default_rng(0)
    clicked = draw.random(rows) < 0.4
    return pl.DataFrame(
        {
            "user_id": draw.integers(0, 50, rows),
            "item_id": draw.integers(0, 50, rows),
            "day": [date(2026, 5, 1) + timedelta(int(day)) for day in draw.integers(0, 45, rows)],
            "price": draw.random(rows),
            "clicked": clicked.astype(int),
            "paid": clicked * (draw.random(rows) < 0.3) * 9.5,
            "last_items": [",".join(map(str, draw.integers(0, 50, 3))) for _ in range(rows)],
        }
    )
