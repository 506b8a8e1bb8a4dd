"""The commands and code of README and tutorial, in both languages, run as they stand there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from commands import Command

ROOT = Path(__file__).parents[1]
READMES = (ROOT / "README.md", ROOT / "README.zh.md")
TUTORIALS = (ROOT / "docs" / "tutorial.md", ROOT / "docs" / "zh" / "tutorial.md")


def blocks(file: Path, language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", file.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    return [text for found, text in fenced if found == language]


def commands_in(*files: Path) -> list[str]:
    """Return the commands of some pages, one by one, without their comments."""
    lines = [line for file in files for text in blocks(file, "") for line in text.replace("\\\n", " ").splitlines()]
    return [line.partition("  #")[0].strip() for line in lines if line]


def documented(start: str) -> list[str]:
    """Return the commands of README, start page, how-tos and concepts that begin like this."""
    pages = (*READMES, ROOT / "docs" / "index.md", *sorted((ROOT / "docs").glob("[hc]o*/*.md")))
    return list(dict.fromkeys(command for command in commands_in(*pages) if command.startswith(start)))


def run_commands() -> list[str]:
    """Return those of `funrec run` that need no file of their own."""
    commands = documented("funrec run ")
    return [command for command in commands if "--config-dir" not in command]


@pytest.mark.parametrize("readme", READMES, ids=lambda file: file.name)
def test_the_first_commands_are_those_that_set_up_and_go(readme: Path) -> None:
    assert commands_in(readme)[:2] == [
        "pip install -e . && funrec run model=mmoe",
        'pip install -e ".[dev]" && pytest',
    ]


@pytest.mark.parametrize("language", ["", "python", "yaml", "text"])
def test_the_tutorial_has_the_same_commands_and_code_in_both_languages(language: str) -> None:
    english, chinese = ([without_comments(text) for text in blocks(page, language)] for page in TUTORIALS)
    assert english == chinese


def test_the_chinese_readme_has_no_command_or_code_that_the_english_one_lacks() -> None:
    english, chinese = (commands_and_code(page) for page in READMES)
    assert chinese <= english
    assert len(chinese) >= 20


def commands_and_code(page: Path) -> set[str]:
    commands = {command for command in commands_in(page) if command.startswith(("funrec ", "pip "))}
    return commands | {without_comments(text) for kind in ("python", "yaml", "text") for text in blocks(page, kind)}


@pytest.mark.parametrize("readme", READMES, ids=lambda file: file.name)
def test_the_map_names_every_package(readme: Path) -> None:
    named = set(re.findall(r"^[├└]── (\w+)/", readme.read_text("utf-8"), flags=re.MULTILINE))
    assert named == {folder.parent.name for folder in (ROOT / "funrec").glob("*/__init__.py")}


def without_comments(text: str) -> str:
    return re.sub(r"[ \t]+#.*", "", text)


@pytest.mark.slow
def test_the_tutorial_leads_from_a_log_to_scores(funrec: Command, workdir: Path) -> None:
    """With fewer rows, models, seeds and epochs than it says."""
    page = TUTORIALS[0]
    (make_log,), (dataset,) = blocks(page, "python"), blocks(page, "yaml")
    (workdir / "make_log.py").write_text(make_log.replace("60_000", "4_000"))
    (workdir / "mine" / "dataset").mkdir(parents=True)
    (workdir / "mine" / "dataset" / "feed.yaml").write_text(dataset)
    smaller = {"trainer.epochs=6": "trainer.epochs=1", "=single_task,shared_bottom,mmoe": "=single_task,shared_bottom"}
    smaller |= {"seed=1,2,3": "seed=1", "SWEEP/3": "SWEEP/1"}
    for command in commands_in(page)[1:]:
        for theirs, ours in smaller.items():
            command = command.replace(theirs, ours)
        if sweep := next((workdir / "outputs" / "sweeps").glob("*"), None):
            command = command.replace("SWEEP", sweep.name)
        program, *arguments = shlex.split(command)
        if program == "python":
            subprocess.run([sys.executable, *arguments], check=True)
        else:
            done = funrec(*arguments)
            assert done.code == 0, f"{command}: {done.err}"
    assert {"user_id", "video_id", "p_click", "p_like"} <= set(pl.read_parquet("scores.parquet").columns)
    assert (workdir / "report.html").stat().st_size > 10_000


@pytest.mark.parametrize("command", run_commands())
def test_what_a_command_asks_for_is_there(command: str, funrec: Command, workdir: Path) -> None:
    arguments = [argument for argument in shlex.split(command)[1:] if argument != "-m" and "," not in argument]
    if "--cfg" not in arguments:
        arguments += ["--cfg", "job"]
    done = funrec(*arguments)
    assert done.code == 0, done.err


def test_every_command_and_flag_in_the_documentation_exists(funrec: Command) -> None:
    commands = [shlex.split(command)[1:] for command in documented("funrec ")]
    assert {"compare", "export", "fuse", "predict", "resume"} <= {name for name, *_ in commands}
    flags: dict[str, set[str]] = {}
    for name, *arguments in commands:
        command = f"{name} {arguments[0]}" if name == "data" else name
        flags.setdefault(command, set()).update(argument for argument in arguments if argument.startswith("--"))
    for command, used in flags.items():
        done = funrec(*command.split(), "--help")
        assert done.code == 0, f"{command}: {done.err}"
        assert all(flag in done.out for flag in used), f"{command} {used}"


@pytest.mark.slow
def test_the_python_code_runs(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = blocks(READMES[0], "python")
    exec(compile(code, "README.md", "exec"), {})  # noqa: S102 - the text is ours
    assert "auc_is_click" in capsys.readouterr().out


@pytest.mark.slow
def test_a_table_of_ones_own_runs_as_described(funrec: Command, workdir: Path) -> None:
    text = next(block for block in blocks(READMES[0], "yaml") if "mine/dataset/shop.yaml" in block)
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
