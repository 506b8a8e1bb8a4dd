"""Signals while a run lives: the first lets training finish what is half done, the second stops it."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from funrec.utils.signals import SAME_REQUEST, SIGNALS, Interrupted, Interruption


def press(number: signal.Signals = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", SIGNALS)
def test_outside_of_training_the_first_signal_stops(number: signal.Signals) -> None:
    with Interruption(), pytest.raises(KeyboardInterrupt):
        press(number)


@pytest.mark.parametrize("number", SIGNALS)
def test_in_training_the_first_signal_asks_and_the_second_stops(number: signal.Signals) -> None:
    with Interruption() as interruption, pytest.raises(KeyboardInterrupt), interruption.deferred():
        press(number)
        assert interruption.is_requested
        press(number)
        pytest.fail("the second did nothing")


def test_training_that_ends_before_it_looks_stops_then() -> None:
    with Interruption() as interruption, pytest.raises(KeyboardInterrupt), interruption.deferred():
        press()


def test_an_error_of_the_training_is_not_hidden_by_a_signal() -> None:
    with Interruption() as interruption, pytest.raises(ZeroDivisionError), interruption.deferred():
        press()
        raise ZeroDivisionError


def test_a_launcher_that_passes_ctrl_c_on_as_another_signal_asks_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("funrec.utils.signals.time.monotonic", lambda: now[0])
    with Interruption() as interruption, pytest.raises(KeyboardInterrupt), interruption.deferred():
        press(signal.SIGINT)
        press(signal.SIGTERM)
        now[0] += SAME_REQUEST
        press(signal.SIGTERM)
        pytest.fail("a signal of its own did nothing")


def test_handlers_are_given_back() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(KeyboardInterrupt), Interruption():
        assert [signal.getsignal(number) for number in SIGNALS] != before
        press()
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interruption():
            press()
            assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_another_thread_takes_no_signals() -> None:
    seen: list[object] = []

    def enter() -> None:
        with Interruption():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]


def test_what_to_type_is_quoted_for_the_shell() -> None:
    assert str(Interrupted(Path("it's"))).endswith("""funrec resume 'it'"'"'s'""")
