"""`funrec ablate` trains a ladder of feature groups and says what each step adds."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from commands import Command

from funrec.runs.folder import find_runs

SMALL = ("dataset.rows=3000", "trainer=smoke", "model=shared_bottom")
HISTORY = "+dataset.features.n={kind: history, by: [video_id], count: true}"


@pytest.mark.slow
def test_every_step_adds_a_group_to_the_one_before(workdir: Path, funrec: Command) -> None:
    done = funrec("ablate", "groups=context:tab+tag,history", HISTORY, *SMALL)
    assert done.code == 0, done.err
    (folder,) = Path("outputs/ablations").iterdir()
    assert len(find_runs(folder)) == 3
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.out.splitlines() if "|" in line]
    steps = [row for row in table if row[1:2] in (["rest"], ["+ context"], ["+ history"])]
    assert [row[1] for row in steps[:3]] == ["rest", "+ context", "+ history"]
    assert steps[0][0] and not steps[1][0]
    for before, after in pairwise(steps[:3]):
        assert float(after[3]) == pytest.approx(float(after[2]) - float(before[2]), abs=2e-4)


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ("", "groups should list the groups to add"),
        ("groups=context:tba", "groups: no such feature tba in context. Did you mean tag?"),
        ("groups=sequences", "groups should be history or sequences where the dataset has any"),
    ],
)
def test_groups_that_are_none_are_one_line(groups: str, words: str, workdir: Path, funrec: Command) -> None:
    done = funrec("ablate", *filter(None, [groups]), *SMALL)
    assert done.code == 2
    assert words in done.err
    assert done.err.count("\n") == 1
