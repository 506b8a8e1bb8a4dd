"""Who works on which trial: handed out once, taken over when a process dies, the same whoever draws it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from optuna.trial import TrialState

from funrec.tuning.journal import Journal
from funrec.tuning.plan import Plan, make_plan
from funrec.tuning.results import importance, outcomes, pareto, ranked, write_trials
from funrec.tuning.study import StudyFolder, Work
from funrec.utils.errors import InputError

RATE, UNITS = "optimizer.learning_rate", "model.tower_units"


@pytest.fixture(scope="module")
def made() -> Plan:
    """A plan of four trials over two keys."""
    dropped = [f"~search.space.model.{key}" for key in ("tower_dropout", "embedding_l2", "wide.l2")]
    return make_plan(["search=default", "search.trials=4", *dropped])


@pytest.fixture
def study(made: Plan, tmp_path: Path) -> StudyFolder:
    return StudyFolder.create(tmp_path, made)


def changed(plan: Plan, **settings: object) -> Plan:
    return replace(plan, settings=replace(plan.settings, **settings))  # type: ignore[arg-type]


def take(study: StudyFolder) -> Work:
    work = study.claim()
    assert work is not None
    return work


def finish(study: StudyFolder, value: float) -> Work:
    work = take(study)
    study.tell(work, TrialState.COMPLETE, {"seconds": 1.0}, [value])
    return work


def abandon(work: Work) -> None:
    """What the kernel does when a process dies."""
    work.claim.release()


def test_trial_0_is_the_configuration_as_it_is(study: StudyFolder) -> None:
    work = take(study)
    assert (work.trial.number, work.values) == (0, {})
    assert study.values(study.trials[0]) == {RATE: 0.001, UNITS: [32]}


def test_trials_are_handed_out_until_there_are_enough(study: StudyFolder) -> None:
    works = [take(study) for _ in range(4)]
    assert [work.trial.number for work in works] == [0, 1, 2, 3]
    assert study.claim() is None
    assert study.running == 4
    assert not study.has_work()


def test_what_is_drawn_depends_on_the_trials_before_and_on_no_process(made: Plan, tmp_path: Path) -> None:
    drawn = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        study = StudyFolder.create(tmp_path / name, made)
        values = []
        for number in range(4):
            if name == "other":  # as a process of its own for every trial would see it
                study = StudyFolder(tmp_path / name)
            values.append(finish(study, 0.7 + 0.01 * number).values)
        drawn.append(values)
    assert drawn[0] == drawn[1]
    assert len({json.dumps(values) for values in drawn[0]}) == 4


def test_an_abandoned_trial_is_taken_over_with_the_values_it_has(study: StudyFolder) -> None:
    finish(study, 0.7)
    work = take(study)
    assert take(study).trial.number == 2
    abandon(work)
    assert study.has_work()
    again = take(StudyFolder(study.path))
    assert (again.trial.number, again.values) == (1, work.values)
    assert again.trial.user_attrs["attempts"] == 2


def test_only_one_of_many_takes_an_abandoned_trial(study: StudyFolder) -> None:
    works = [take(study) for _ in range(4)]
    abandon(works[2])
    assert take(study).trial.number == 2
    assert StudyFolder(study.path).claim() is None


def test_a_trial_that_was_told_meanwhile_is_not_abandoned(study: StudyFolder) -> None:
    work = take(study)
    before = study.trials[0]
    study.tell(work, TrialState.COMPLETE, {}, [0.7])
    assert study._take_abandoned(before) is None
    assert take(study).trial.number == 1


def test_a_trial_that_kills_its_process_again_and_again_has_failed(study: StudyFolder) -> None:
    for _ in range(3):
        abandon(take(study))
    assert take(study).trial.number == 1
    assert outcomes(study)[0].state == "failed"
    assert outcomes(study)[0].reason == "its process was killed 3 times: out of memory?"


def test_a_trial_that_was_stopped_politely_has_cost_no_attempt(study: StudyFolder) -> None:
    for _ in range(5):
        study.give_back(take(study), {"seconds": 1.0})
    assert take(study).trial.number == 0


def test_a_killed_process_lets_go_of_its_trial(study: StudyFolder) -> None:
    code = f"""
import os, signal
from pathlib import Path
from funrec.tuning.study import StudyFolder
study = StudyFolder(Path({str(study.path)!r}))
work = study.claim()
print(work.trial.number, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (-9, "0"), done.stderr
    work = take(study)
    assert (work.trial.number, work.trial.user_attrs["attempts"]) == (0, 2)


def test_a_trial_left_without_some_of_its_values_gets_them(study: StudyFolder, made: Plan) -> None:
    finish(study, 0.7)
    trial = study.optuna.ask()  # its process dies before it draws
    work = take(study)
    assert work.trial.number == trial.number
    assert set(work.values) == {RATE, UNITS}


def test_more_trials_can_be_asked_for(study: StudyFolder, made: Plan) -> None:
    for value in (0.7, 0.71, 0.72, 0.73):
        finish(study, value)
    assert study.claim() is None
    changed(made, trials=5).write(study.path)
    assert take(study).trial.number == 4


def test_no_new_trial_starts_after_the_time_is_up(made: Plan, tmp_path: Path) -> None:
    study = StudyFolder.create(tmp_path, changed(made, timeout=1e-9))
    assert study.claim() is None


def test_a_grid_visits_every_point_once_and_the_start_first(made: Plan, tmp_path: Path) -> None:
    plan = make_plan(
        [
            *("search=logistic", "model=logistic", "search.sampler=grid", "search.trials=100"),
            "search.space.optimizer.learning_rate={choices: [0.001, 0.002, 0.003]}",
            "search.space.model.wide.l2={choices: [1.67, 5.0]}",
        ]
    )
    study = StudyFolder.create(tmp_path, plan)
    assert study.total == 6
    while (work := study.claim()) is not None:
        study.tell(work, TrialState.COMPLETE, {}, [0.7])
    points = [tuple(outcome.params.values()) for outcome in outcomes(study)]
    assert points[0] == (0.001, 1.67)
    assert len(set(points)) == len(points) == 6


def test_a_start_outside_of_its_range_does_not_stop_the_sampler(tmp_path: Path) -> None:
    plan = make_plan([f"search.space.{RATE}.low=0.002", "search.trials=15", "search=default"])
    study = StudyFolder.create(tmp_path, plan)
    for number in range(15):
        values = finish(study, 0.7 + number / 100).values
        assert not values or 0.002 <= values[RATE] <= 0.005
    assert set(importance(study)["auc_macro"]) == set(plan.space)


@pytest.mark.parametrize("left", [b'{"op_code":4,"worker_id":"x","tri', b"\x00\xff{"])
def test_a_line_that_a_killed_process_did_not_finish_is_dropped(study: StudyFolder, left: bytes) -> None:
    finish(study, 0.7)
    with (study.path / "journal.log").open("ab") as journal:
        journal.write(left)
    other = StudyFolder(study.path)
    assert [outcome.state for outcome in outcomes(other)] == ["finished"]
    finish(other, 0.8)
    assert [outcome.values for outcome in outcomes(StudyFolder(study.path))] == [[0.7], [0.8]]
    assert [outcome.values for outcome in outcomes(study)] == [[0.7], [0.8]]


def test_a_damaged_journal_is_named(study: StudyFolder) -> None:
    finish(study, 0.7)
    path = study.path / "journal.log"
    path.write_bytes(path.read_bytes().replace(b'"op_code"', b'"op_c\x00de"', 1)[:-5] + b"\n")
    with pytest.raises(InputError, match=r"journal\.log is damaged in line 1"):
        outcomes(StudyFolder(study.path))


def test_the_journal_reads_on_where_it_stopped(tmp_path: Path) -> None:
    one, other = Journal(tmp_path / "j"), Journal(tmp_path / "j")
    one.append_logs([{"n": 0}, {"n": 1}])
    assert list(other.read_logs(0)) == [{"n": 0}, {"n": 1}]
    one.append_logs([{"n": 2}])
    assert list(other.read_logs(2)) == [{"n": 2}]
    assert list(one.read_logs(1)) == [{"n": 1}, {"n": 2}]


def test_many_processes_append_whole_lines(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from funrec.tuning.journal import Journal
journal = Journal(Path({str(tmp_path / "j")!r}))
for number in range(30):
    journal.append_logs([{{"who": sys.argv[1], "n": number, "long": "x" * 5000}}])
"""
    writers = [subprocess.Popen([sys.executable, "-c", code, str(who)]) for who in range(3)]
    assert [writer.wait(120) for writer in writers] == [0, 0, 0]
    logs = list(Journal(tmp_path / "j").read_logs(0))
    assert [[log["n"] for log in logs if log["who"] == str(who)] for who in range(3)] == [list(range(30))] * 3


def test_the_best_comes_first_and_a_tie_goes_to_the_earlier(study: StudyFolder) -> None:
    for value in (0.7, 0.6, 0.7, 0.71):
        finish(study, value)
    assert [outcome.number for outcome in ranked(outcomes(study), [1])] == [3, 0, 2, 1]
    assert [outcome.number for outcome in ranked(outcomes(study), [-1])] == [1, 0, 2, 3]


def test_the_pareto_set_holds_what_nothing_beats(made: Plan, tmp_path: Path) -> None:
    plan = changed(made, objectives={"auc_is_click": "max", "log_loss_is_like": "min"})
    study = StudyFolder.create(tmp_path, plan)
    for values in ([0.7, 0.3], [0.8, 0.4], [0.6, 0.35], [0.7, 0.3]):
        study.tell(take(study), TrialState.COMPLETE, {}, values)
    assert [outcome.number for outcome in pareto(outcomes(study), plan.settings.signs)] == [0, 1, 3]
    assert ranked(outcomes(study), plan.settings.signs)[-1].number == 2


def test_what_mattered_is_found_where_more_is_better_and_where_less_is(made: Plan, tmp_path: Path) -> None:
    for direction, sign in (("max", 1), ("min", -1)):
        (tmp_path / direction).mkdir()
        plan = changed(made, trials=40, sampler="random", objectives={"auc_macro": direction})
        study = StudyFolder.create(tmp_path / direction, plan)
        while (work := study.claim()) is not None:
            rate = work.values.get(RATE, 0.001)
            study.tell(work, TrialState.COMPLETE, {}, [sign * (0.7 - abs(rate - 0.0005))])
        shares = importance(study)["auc_macro"]
        assert shares[RATE] > 0.8
        assert sum(shares.values()) == pytest.approx(1, abs=0.001)


def test_the_story_is_written_for_those_without_optuna(study: StudyFolder) -> None:
    finish(study, 0.7)
    study.tell(take(study), TrialState.FAIL, {"reason": "it diverged"})
    take(study)
    write_trials(study)
    told = json.loads((study.path / "trials.json").read_text())
    assert [trial["state"] for trial in told["trials"]] == ["finished", "failed", "running"]
    assert told["trials"][1]["reason"] == "it diverged"
    assert told["objectives"] == {"auc_macro": "max"}
    assert told["importance"] == {}
