"""The shell completes commands, choices and keys."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import Command

from funrec.cli.completion import SCRIPTS, completions


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("funrec comp", ["compare ", "completion "]),
        ("funrec list we", ["weightings "]),
        ("funrec run model=mm", ["model=mmoe"]),
        ("funrec run -m model=mmoe,pl", ["model=mmoe,ple"]),
        ("funrec run model=ple model.backbone.num_s", ["model.backbone.num_shared=", "model.backbone.num_specific="]),
        ("funrec tune search.tri", ["search.trials="]),
        ("funrec data describe dataset=ali_", ["dataset=ali_ccp"]),
        ("funrec predict outputs/ru", []),
        ("funrec nowhere ", []),
    ],
)
def test_a_line_goes_on_with_what_there_is(line: str, expected: list[str]) -> None:
    assert completions(line) == expected


def test_without_a_shell_it_says_which_there_are(funrec: Command) -> None:
    done = funrec("completion")
    assert done.code == 2
    assert "bash or zsh" in done.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "expected"),
    [("funrec run model=mm", "mmoe"), ("funrec run -m model=mmoe,pl", "ple"), ("funrec stat", "status ")],
)
def test_bash_puts_the_completion_behind_its_own_word_break(line: str, expected: str) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("needs bash")
    code = f'{SCRIPTS["bash"]}COMP_LINE="{line}" COMP_POINT={len(line)}; _funrec; printf "%s" "${{COMPREPLY[@]}}"'
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    done = subprocess.run([bash, "-c", code], env={"PATH": path}, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (expected, "")


def test_zsh_can_read_its_script() -> None:
    zsh = shutil.which("zsh")
    if zsh is None:
        pytest.skip("needs zsh")
    assert subprocess.run([zsh, "-n", "-c", SCRIPTS["zsh"]], capture_output=True, text=True).stderr == ""
