"""`funrec list`: everything there is to choose from, with a line that says where it is from."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import Command

from funrec.config.catalogue import GROUPS, describe
from funrec.utils.errors import InputError

CONF = Path(__file__).parents[2] / "conf"
MENTIONS = {
    "mmoe": "Ma et al., KDD 2018",
    "ple": "Tang et al., RecSys 2020",
    "esmm": "Ma et al., SIGIR 2018",
    "model/backbone=ple": "Tang et al., RecSys 2020",
    "model/funnel=esm2": "Wen et al., SIGIR 2020",
}


@pytest.mark.parametrize("kind", GROUPS)
def test_every_configuration_file_is_listed_with_a_line_about_it(kind: str) -> None:
    listed = dict(describe(kind))
    for folder, prefix in GROUPS[kind]:
        for file in (CONF / folder).glob("*.yaml"):
            assert (prefix + file.stem in listed) is not file.stem.startswith("_")
    assert listed
    assert all(len(line) > 10 and "\n" not in line for line in listed.values()), listed


@pytest.mark.parametrize(("name", "paper"), MENTIONS.items())
def test_models_and_their_parts_are_listed_with_their_papers(name: str, paper: str) -> None:
    assert paper in dict(describe("models"))[name]


def test_the_command_lists_all_kinds_or_one(funrec: Command) -> None:
    everything, models = funrec("list"), funrec("list", "models")
    assert everything.code == models.code == 0
    assert all(f"{kind}:" in everything.out for kind in GROUPS)
    assert [line.split()[0] for line in models.out.splitlines()] == [name for name, _ in describe("models")]


def test_an_unknown_kind_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"^modles: no such kind\. Did you mean models\?$"):
        describe("modles")
