"""Which trial is run next: each once, again when its process died, the same whichever process draws it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial

from funrec.tuning.plan import Plan, make_plan
from funrec.tuning.results import importance, outcomes, ranked, write_trials
from funrec.tuning.space import Choices, Range
from funrec.tuning.study import StudyFolder, TrialFailed
from funrec.utils.errors import InputError

RATE, UNITS = "optimizer.learning_rate", "model.tower_units"


class Deadly(Choices):
    """Kills the process that draws from it."""

    def suggest(self, trial: optuna.Trial, key: str) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="module")
def made() -> Plan:
    """A plan of four trials over two keys, in the storage that is fastest to make."""
    entries = (f"{RATE}={{low: 2.0e-4, high: 5.0e-3, log: true}}", f"{UNITS}={{choices: [[16], [32], [64], [64, 32]]}}")
    spaces = ("search.space=null", *(f"search.space.{entry}" for entry in entries))
    return make_plan(["search=default", "search.trials=4", "search.storage=journal", *spaces])


@pytest.fixture
def study(made: Plan, tmp_path: Path) -> StudyFolder:
    return StudyFolder.create(tmp_path, made)


def changed(plan: Plan, **settings: Any) -> Plan:
    return replace(plan, settings=replace(plan.settings, **settings))


def run(study: StudyFolder, *results: float, ended: Callable[[optuna.Trial], None] | None = None) -> list[Any]:
    """Run a trial per result; return their numbers and values."""
    seen = []
    for result in results:

        def objective(trial: optuna.Trial, values: dict[str, Any], result: float = result) -> list[float]:
            seen.append((trial.number, values))
            if ended:
                ended(trial)
            return [result]

        if not study.run_next(objective):
            break
    return seen


def stop(study: StudyFolder) -> None:
    """Run a trial that is stopped by Ctrl-C."""

    def objective(trial: optuna.Trial, values: dict[str, Any]) -> list[float]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study.run_next(objective)


def fail(trial: optuna.Trial) -> None:
    trial.set_user_attr("reason", "it diverged")
    raise TrialFailed


def kill(study: StudyFolder, key: str | None = None) -> int | None:
    """Run a trial in a process that is killed, or is while it draws a key; return the trial's number."""
    out, into = os.pipe()
    if (child := os.fork()) == 0:
        try:
            alone = StudyFolder(study.path, replace(study.plan, space=dict(study.plan.space)))
            if key is not None:
                alone.plan.space[key] = Deadly(())

            def die(trial: optuna.Trial, values: dict[str, Any]) -> list[float]:
                os.write(into, str(trial.number).encode())
                os.kill(os.getpid(), signal.SIGKILL)
                return []

            alone.run_next(die)
        finally:
            os._exit(1)  # it should be dead
    _, status = os.waitpid(child, 0)
    os.close(into)
    with os.fdopen(out) as told:
        number = told.read()
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGKILL
    return int(number) if number else None


def test_trial_0_is_the_configuration_as_it_is(study: StudyFolder) -> None:
    assert run(study, 0.7) == [(0, {})]
    assert outcomes(study)[0].params == {RATE: 0.003, UNITS: [32]}


def test_trials_are_run_until_there_are_enough(study: StudyFolder) -> None:
    assert [number for number, _ in run(study, *[0.7] * 9)] == [0, 1, 2, 3]
    assert not study.has_work()
    assert study.running == 0


@pytest.mark.parametrize("storage", ["journal", None])
def test_what_is_drawn_depends_on_the_trials_before_and_on_no_process(
    storage: str | None, made: Plan, tmp_path: Path
) -> None:
    drawn = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        study = StudyFolder.create(tmp_path / name, replace(changed(made, storage=storage), name=name))
        values = []
        for number in range(4):
            if name == "other":  # as a process of its own for every trial would see it
                study = StudyFolder(tmp_path / name)
            values += run(study, 0.7 + 0.01 * number)
        drawn.append(values)
    assert drawn[0] == drawn[1]
    assert len({json.dumps(values) for values in drawn[0]}) == 4


def test_a_trial_whose_process_was_killed_is_run_again_in_its_folder_with_its_values(study: StudyFolder) -> None:
    run(study, 0.7)
    assert kill(study) == 1
    assert study.running == 1
    assert study.has_work()
    values = outcomes(study)[1].params
    assert run(StudyFolder(study.path), 0.8) == [(1, values)]
    assert [(outcome.number, outcome.state, outcome.attempts) for outcome in outcomes(study)] == [
        (0, "finished", 1),
        (1, "finished", 2),
    ]
    assert [number for number, _ in run(study, 0.7, 0.7, 0.7)] == [2, 3]


def test_a_trial_whose_process_was_killed_while_it_drew_draws_the_same_values(made: Plan, tmp_path: Path) -> None:
    drawn = []
    for name in ("undisturbed", "killed"):
        (tmp_path / name).mkdir()
        study = StudyFolder.create(tmp_path / name, replace(changed(made, sampler="random"), name=name))
        values = run(study, 0.7)
        if name == "killed":
            assert kill(study, key=UNITS) is None
        drawn.append(values + run(study, 0.7, 0.7))
    assert [number for number, _ in drawn[0]] == [0, 1, 2]
    assert drawn[0] == drawn[1]


def test_a_trial_that_ends_while_another_process_looks_is_not_run_again(study: StudyFolder) -> None:
    has_begun, may_end = Event(), Event()

    def wait(trial: optuna.Trial) -> None:
        has_begun.set()
        assert may_end.wait(60)

    other = Thread(target=run, args=(StudyFolder(study.path), 0.7), kwargs={"ended": wait})

    class Late(StudyFolder):
        """Looks at the locks when the trial that it saw running has ended."""

        @property
        def trials(self) -> list[FrozenTrial]:
            found = super().trials
            may_end.set()
            other.join(60)
            return found

    other.start()
    assert has_begun.wait(60)
    assert Late(study.path).has_work()
    assert [(outcome.number, outcome.state, outcome.attempts) for outcome in outcomes(study)] == [(0, "finished", 1)]
    assert [number for number, _ in run(study, 0.8)] == [1]


def test_a_trial_that_kills_its_process_again_and_again_has_failed(study: StudyFolder) -> None:
    assert [kill(study) for _ in range(3)] == [0, 0, 0]
    assert [number for number, _ in run(study, 0.7)] == [1]
    assert outcomes(study)[0].state == "failed"
    assert outcomes(study)[0].reason == "its process was killed 3 times: out of memory?"


def test_a_trial_that_was_stopped_has_cost_no_attempt(study: StudyFolder) -> None:
    run(study, 0.7)
    for _ in range(5):
        stop(study)
    assert [(outcome.state, outcome.attempts) for outcome in outcomes(study)] == [("finished", 1), ("running", 1)]
    values = outcomes(study)[1].params
    assert run(study, 0.7) == [(1, values)]
    assert outcomes(study)[1].attempts == 1


def test_a_trial_that_fails_after_it_was_stopped_is_not_run_again(study: StudyFolder) -> None:
    stop(study)
    run(study, 0.7, ended=fail)
    assert [number for number, _ in run(study, 0.7)] == [1]
    assert (outcomes(study)[0].state, outcomes(study)[0].reason) == ("failed", "it diverged")


def test_while_a_trial_runs_another_process_runs_the_next(study: StudyFolder) -> None:
    other, seen = StudyFolder(study.path), []

    def meanwhile(trial: optuna.Trial) -> None:
        seen.extend(run(other, 0.8))

    assert [number for number, _ in run(study, 0.7, ended=meanwhile)] == [0]
    assert [number for number, _ in seen] == [1]
    assert [outcome.values for outcome in outcomes(study)] == [[0.7], [0.8]]


def test_more_trials_can_be_asked_for(study: StudyFolder, made: Plan) -> None:
    run(study, 0.7, 0.71, 0.72, 0.73)
    assert not study.has_work()
    changed(made, trials=5).write(study.path)
    assert [number for number, _ in run(study, 0.7)] == [4]


def test_no_new_trial_starts_after_the_time_is_up(made: Plan, tmp_path: Path) -> None:
    study = StudyFolder.create(tmp_path, changed(made, timeout=1e-9))
    assert run(study, 0.7) == []


def test_a_grid_visits_every_point_once_and_the_start_first_however_many_processes_work(
    made: Plan, tmp_path: Path
) -> None:
    space = {RATE: Choices((0.001, 0.002, 0.003)), UNITS: Choices(([32], [8]))}
    points = []
    for name in ("one", "other"):
        plan = replace(changed(made, sampler="grid", trials=100), space=space, name=name)
        (tmp_path / name).mkdir()
        study = StudyFolder.create(tmp_path / name, plan)
        assert study.total == 6
        if name == "one":
            run(study, *[0.7] * 9)
        else:
            kill(study)
            stop(study)
            while run(StudyFolder(study.path), 0.7):
                pass
        points.append([tuple(outcome.params.values()) for outcome in outcomes(study)])
    assert points[0] == points[1]
    assert len({json.dumps(point) for point in points[0]}) == len(points[0]) == 6


def test_a_start_outside_of_its_range_does_not_stop_the_sampler(made: Plan, tmp_path: Path) -> None:
    plan = changed(replace(made, space={**made.space, RATE: Range(0.004, 0.005, log=True)}), trials=15)
    study = StudyFolder.create(tmp_path, plan)
    kill(study)
    for number in range(15):
        ((_, values),) = run(study, 0.7 + number / 100)
        assert not values or 0.004 <= values[RATE] <= 0.005
    assert set(importance(study)["auc_macro"]) == set(plan.space)


@pytest.mark.parametrize("left", [b'{"op_code":4,"worker_id":"x","tri', b"\x00\xff{"])
def test_a_line_that_a_killed_process_did_not_finish_is_dropped(study: StudyFolder, left: bytes) -> None:
    run(study, 0.7)
    with (study.path / "journal.log").open("ab") as journal:
        journal.write(left)
    other = StudyFolder(study.path)
    assert [outcome.state for outcome in outcomes(other)] == ["finished"]
    run(other, 0.8)
    for seen in (StudyFolder(study.path), study):
        assert [outcome.values for outcome in outcomes(seen)] == [[0.7], [0.8]]


def test_a_damaged_storage_is_one_line(made: Plan, tmp_path: Path) -> None:
    for name, storage, file in (("journal", "journal", "journal.log"), ("sqlite", None, "study.db")):
        (tmp_path / name).mkdir()
        study = StudyFolder.create(tmp_path / name, changed(made, storage=storage))
        run(study, 0.7)
        path = study.path / file
        content = path.read_bytes()
        path.write_bytes(b"\x00damage\n" * 100 + content[900:])
        with pytest.raises(InputError, match="should have a storage that can be used") as refused:
            outcomes(StudyFolder(study.path))
        assert "\n" not in str(refused.value)


def test_a_study_of_an_earlier_version_is_refused(study: StudyFolder) -> None:
    path = study.path / "study.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 1}))
    with pytest.raises(InputError, match="Begin a new study"):
        StudyFolder(study.path)


def test_the_best_comes_first_and_a_tie_goes_to_the_earlier(study: StudyFolder) -> None:
    run(study, 0.7, 0.6, 0.7, 0.71)
    assert [outcome.number for outcome in ranked(study, outcomes(study))] == [3, 0, 2, 1]


def test_the_pareto_set_holds_what_nothing_beats(made: Plan, tmp_path: Path) -> None:
    plan = changed(made, objectives={"auc_is_click": "max", "log_loss_is_like": "min"})
    study = StudyFolder.create(tmp_path, plan)
    for values in ([0.7, 0.3], [0.8, 0.4], [0.6, 0.35], [0.7, 0.3]):
        study.run_next(lambda trial, drawn, values=values: values)
    assert study.best_numbers == [0, 1, 3]
    assert ranked(study, outcomes(study))[-1].number == 2


def test_importance_is_found_where_more_is_better_and_where_less_is(made: Plan, tmp_path: Path) -> None:
    for direction, sign in (("max", 1), ("min", -1)):
        (tmp_path / direction).mkdir()
        plan = changed(made, trials=40, sampler="random", objectives={"auc_macro": direction})
        study = StudyFolder.create(tmp_path / direction, plan)

        def objective(trial: Any, values: dict[str, Any], sign: int = sign) -> list[float]:
            return [sign * (0.7 - abs(values.get(RATE, 0.001) - 0.0005))]

        while study.run_next(objective):
            pass
        found = importance(study)["auc_macro"]
        assert found[RATE] > 0.8
        assert sum(found.values()) == pytest.approx(1, abs=0.001)


def test_the_trials_are_written_for_readers_without_optuna(study: StudyFolder) -> None:
    run(study, 0.7)
    run(study, 0.7, ended=fail)
    stop(study)
    write_trials(study)
    told = json.loads((study.path / "trials.json").read_text())
    assert [trial["state"] for trial in told["trials"]] == ["finished", "failed", "running"]
    assert told["trials"][1]["reason"] == "it diverged"
    assert told["objectives"] == {"auc_macro": "max"}
    assert told["importance"] == {}
