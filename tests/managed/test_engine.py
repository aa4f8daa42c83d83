"""The engine: states, channels, failures, and waiting without looking again and again."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from secureserve.errors import AlreadyStarted, StartFailed
from secureserve.managed.channels import ChannelFailures
from secureserve.managed.engine import TRANSITIONS, Engine, State, Step

DEADLINE = 20.0


def test_every_state_can_be_reached_and_left() -> None:
    """From STOPPED every state can be reached by the table, and none is a dead end."""
    reached, frontier = {State.STOPPED}, [State.STOPPED]
    while frontier:
        for target in TRANSITIONS[frontier.pop()].values():
            if target not in reached:
                reached.add(target)
                frontier.append(target)
    assert reached == set(State)
    assert all(TRANSITIONS[state] for state in State)
    assert {step for steps in TRANSITIONS.values() for step in steps} == set(Step)


def test_a_life_passes_through_the_published_states() -> None:
    """Listeners see STARTING, STOPPING and EXITING; between them the engine is STARTED and STOPPED."""
    engine = Engine()
    seen = []
    for channel in ("start", "stop", "exit"):
        engine.subscribe(channel, lambda channel=channel: seen.append((channel, engine.state)))
    engine.start()
    assert engine.state is engine.states.STARTED
    engine.stop()
    assert engine.state is State.STOPPED
    engine.exit()
    assert engine.state is State.EXITING
    assert seen == [("start", State.STARTING), ("stop", State.STOPPING), ("exit", State.EXITING)]


def test_listeners_run_by_priority_then_by_subscription() -> None:
    """Low priorities run first; equal ones in the order they were subscribed; 50 is the default."""
    engine = Engine()
    order: list[str] = []

    def with_own_priority() -> None:
        order.append("own 10")

    with_own_priority.priority = 10  # type: ignore[attr-defined]
    engine.subscribe("start", lambda: order.append("75"), priority=75)
    engine.subscribe("start", lambda: order.append("first 50"))

    @engine.subscribe("start")  # type: ignore[untyped-decorator]
    def second() -> None:
        order.append("second 50")

    engine.subscribe("start", with_own_priority)
    engine.subscribe("start", with_own_priority)
    engine.publish("start")
    assert order == ["own 10", "first 50", "second 50", "75"]


def test_a_channel_nobody_listens_to_is_silent() -> None:
    """Publishing to an unknown channel returns nothing; unsubscribing what was not subscribed does nothing."""
    engine = Engine()
    engine.unsubscribe("nowhere", print)
    assert engine.publish("nowhere", 1, key=2) == []
    engine.subscribe("sum", lambda left, right: left + right)
    assert engine.publish("sum", 1, right=2) == [3]


def test_publish_runs_everybody_and_raises_all_failures_together() -> None:
    """Two listeners that fail do not keep the third from running, and both failures are in the one error."""
    engine = Engine()
    ran = []

    def fail(message: str) -> None:
        raise ValueError(message)

    engine.subscribe("start", lambda: fail("one"), priority=1)
    engine.subscribe("start", lambda: fail("two"), priority=2)
    engine.subscribe("start", lambda: ran.append(True), priority=3)
    with pytest.raises(ChannelFailures, match=r"2 listeners failed: one; two") as caught:
        engine.publish("start")
    assert [str(error) for error in caught.value.exceptions] == ["one", "two"]
    assert caught.value.get_instances() == list(caught.value.exceptions)
    assert ran == [True]


def test_an_interrupt_passes_at_once() -> None:
    """KeyboardInterrupt in a listener keeps the ones after it from running."""
    engine = Engine()
    ran = []

    def interrupt() -> None:
        raise KeyboardInterrupt

    engine.subscribe("custom", interrupt, priority=1)
    engine.subscribe("custom", lambda: ran.append(True), priority=2)
    with pytest.raises(KeyboardInterrupt):
        engine.publish("custom")
    assert ran == []


def test_a_clean_exit_after_a_failure_is_not_clean() -> None:
    """SystemExit(0) becomes 1 where a listener failed before."""
    engine = Engine()

    def fail() -> None:
        message = "broken"
        raise ValueError(message)

    engine.subscribe("custom", fail, priority=1)
    engine.subscribe("custom", lambda: sys.exit(0), priority=2)
    with pytest.raises(SystemExit) as caught:
        engine.publish("custom")
    assert caught.value.code == 1


def test_a_failing_start_stops_what_had_started_and_raises_the_original() -> None:
    """What one listener of start raised comes out as it is, after stop and exit were published."""
    engine = Engine()
    seen = []
    original = ValueError("no database")

    def fail() -> None:
        raise original

    engine.subscribe("start", fail)
    engine.subscribe("stop", lambda: seen.append("stop"))
    engine.subscribe("exit", lambda: seen.append("exit"))
    with pytest.raises(ValueError, match="no database") as caught:
        engine.start()
    assert caught.value is original
    assert seen == ["stop", "exit"]
    assert engine.state is State.EXITING


def test_stopping_lets_go_of_everything_even_when_interrupted() -> None:
    """KeyboardInterrupt out of one stop listener is raised only after the others have run."""
    engine = Engine()
    seen = []

    def interrupt() -> None:
        raise KeyboardInterrupt

    engine.subscribe("stop", interrupt, priority=1)
    engine.subscribe("stop", lambda: seen.append("stop"), priority=2)
    engine.start()
    with pytest.raises(KeyboardInterrupt):
        engine.stop()
    assert seen == ["stop"]
    assert engine.state is State.STOPPED


def test_starting_twice_is_refused_and_stopping_twice_is_harmless() -> None:
    """Start on a started engine is AlreadyStarted; stop and exit may be repeated, each published once."""
    engine = Engine()
    stops = []
    engine.subscribe("stop", lambda: stops.append(1))
    engine.start()
    with pytest.raises(AlreadyStarted):
        engine.start()
    engine.stop()
    engine.stop()
    engine.exit()
    engine.exit()
    assert stops == [1]


def test_an_engine_can_live_again() -> None:
    """After exit an engine starts anew, as a test suite does."""
    engine = Engine()
    for _ in range(3):
        engine.start()
        engine.exit()
    assert engine.state is State.EXITING


def test_exit_from_another_thread_ends_a_start_in_progress() -> None:
    """Exit while a start listener waits wakes the listener, and start raises instead of killing the process."""
    engine = Engine()
    waiting = threading.Event()
    later = []

    def wait_for_exit() -> None:
        woken = threading.Event()
        with engine.woken_by_exit(woken.set):
            waiting.set()
            assert woken.wait(DEADLINE)

    engine.subscribe("start", wait_for_exit, priority=1)
    engine.subscribe("start", lambda: later.append(True), priority=2)

    def leave() -> None:
        waiting.wait(DEADLINE)
        engine.exit()

    leaver = threading.Thread(target=leave)
    leaver.start()
    with pytest.raises(StartFailed, match="told to exit"):
        engine.start()
    leaver.join(DEADLINE)
    assert not leaver.is_alive()
    assert later == []
    assert engine.state is State.EXITING


def test_exit_from_a_listener_of_start_takes_effect_after_it() -> None:
    """A start listener may ask for exit; start then stops everything and raises."""
    engine = Engine()
    engine.subscribe("start", engine.exit)
    with pytest.raises(StartFailed):
        engine.start()
    assert engine.state is State.EXITING


def test_exit_from_a_listener_of_stop_ends_in_exit() -> None:
    """A stop listener that asks for exit turns the stop into one."""
    engine = Engine()
    engine.subscribe("stop", engine.exit)
    engine.start()
    engine.stop()
    assert engine.state is State.EXITING


def test_waiting_ends_with_the_state_and_with_the_time() -> None:
    """Wait returns True once the state is reached from another thread, False when the time is up."""
    engine = Engine()
    assert engine.wait(State.STARTED, timeout=0.01) is False
    starter = threading.Thread(target=engine.start)
    starter.start()
    assert engine.wait([State.STARTED, State.EXITING], timeout=DEADLINE) is True
    starter.join(DEADLINE)
    engine.exit()


def test_block_returns_when_another_thread_exits_and_publishes_main_meanwhile() -> None:
    """Block calls the main listeners in its own thread until the engine has exited."""
    engine = Engine()
    threads = []

    def main() -> None:
        threads.append(threading.current_thread())
        if len(threads) == 2:
            threading.Thread(target=engine.exit).start()

    engine.subscribe("main", main)
    engine.start()
    engine.block(interval=0.001)
    assert set(threads) == {threading.current_thread()}
    assert engine.state is State.EXITING


def test_block_waits_for_its_own_threads_only() -> None:
    """A thread of somebody else's does not keep block from returning."""
    engine = Engine()
    release = threading.Event()
    stranger = threading.Thread(target=release.wait, args=(DEADLINE,))
    stranger.start()
    engine.start()
    engine.exit()
    engine.block()
    assert stranger.is_alive()
    release.set()
    stranger.join(DEADLINE)


def test_block_turns_an_interrupt_into_an_exit() -> None:
    """KeyboardInterrupt while blocking stops everything and returns; SystemExit is raised again."""
    engine = Engine()

    def interrupt() -> None:
        raise KeyboardInterrupt

    engine.subscribe("main", interrupt)
    engine.start()
    engine.block(interval=0.001)
    assert engine.state is State.EXITING
    engine.unsubscribe("main", interrupt)
    engine.subscribe("main", lambda: sys.exit(3))
    engine.start()
    with pytest.raises(SystemExit) as caught:
        engine.block(interval=0.001)
    assert caught.value.code == 3


def test_what_broke_while_it_ran_comes_out_of_block() -> None:
    """Exit with a failure makes block raise it, so that the process ends with an error."""
    engine = Engine()
    engine.start()
    threading.Thread(target=engine.exit, args=(ValueError("gone"),)).start()
    with pytest.raises(ValueError, match="gone"):
        engine.block()


def test_a_callback_runs_once_starting_is_done() -> None:
    """start_with_callback runs the function in its own thread with the engine started, and not where starting fails."""
    engine = Engine()
    seen: list[object] = []
    thread = engine.start_with_callback(lambda word, end: seen.append((word, end, engine.state)), ("a",), {"end": "b"})
    thread.join(DEADLINE)
    assert seen == [("a", "b", State.STARTED)]
    engine.exit()

    def fail() -> None:
        message = "no"
        raise ValueError(message)

    engine.subscribe("start", fail)
    with pytest.raises(ValueError, match="no"):
        engine.start_with_callback(lambda: seen.append("ran"))
    for left in engine.threads:
        left.join(DEADLINE)
    assert "ran" not in seen


def test_two_engines_share_nothing() -> None:
    """What one engine publishes and does, another does not notice."""
    first, second = Engine("first"), Engine("second")
    seen = []
    second.subscribe("start", lambda: seen.append("second"))
    first.start()
    assert seen == []
    assert second.state is State.STOPPED
    first.exit()


def test_the_log_goes_to_the_error_logger_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """Log reaches logging's secureserve.error with its level, and adds the traceback on request."""
    engine = Engine()
    try:
        int("inner")
    except ValueError:
        engine.log("outer", 40, True)
    (record,) = [each for each in caplog.records if each.name == "secureserve.error"]
    assert record.levelno == 40
    assert "outer" in record.getMessage()
    assert "ValueError: invalid literal" in record.getMessage()


def test_a_failing_main_listener_shuts_down_and_is_raised() -> None:
    """What a listener of main raises ends the block, after everything was stopped."""
    engine = Engine()
    stopped = []

    def fail() -> None:
        message = "main failed"
        raise ValueError(message)

    engine.subscribe("main", fail)
    engine.subscribe("stop", lambda: stopped.append(True))
    engine.start()
    with pytest.raises(ChannelFailures, match="main failed"):
        engine.block(interval=0.001)
    assert stopped == [True]
    assert engine.state is State.EXITING


def test_what_fails_while_stopping_is_raised_by_block() -> None:
    """A stop listener that fails makes exit raise, in whichever thread, and block too."""
    engine = Engine()

    def fail() -> None:
        message = "stop failed"
        raise ValueError(message)

    def interrupt() -> None:
        raise KeyboardInterrupt

    engine.subscribe("stop", fail)
    engine.subscribe("main", interrupt)
    engine.start()
    with pytest.raises(ChannelFailures, match="stop failed"):
        engine.block(interval=0.001)


LEAVES_IT_RUNNING = """
import sys
from secureserve.managed.engine import Engine
engine = Engine()
engine.subscribe("exit", lambda: print("exited", flush=True))
for _ in range(3):
    engine.start(); engine.exit()
engine.start()
if "clean" in sys.argv:
    engine.exit()
"""


@pytest.mark.parametrize(("argument", "warnings"), [("clean", 0), ("dirty", 1)])
def test_leaving_the_interpreter_without_stopping_warns_once(argument: str, warnings: int) -> None:
    """A program that ends with its engine running is told so once, however often it was started; a clean one is not."""
    outcome = subprocess.run(
        [sys.executable, "-c", LEAVES_IT_RUNNING, argument], capture_output=True, text=True, timeout=60, check=True
    )
    assert outcome.stdout.count("exited") == 4
    assert outcome.stderr.count("RuntimeWarning") == warnings
