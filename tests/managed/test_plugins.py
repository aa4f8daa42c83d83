"""What a daemon needs around its servers: pid file, privileges, periodic tasks, autoreload, notifications."""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from secureserve.errors import ConfigurationError, LifecycleError, StartFailed
from secureserve.managed.autoreload import Autoreloader
from secureserve.managed.channels import ChannelFailures
from secureserve.managed.engine import Engine, State
from secureserve.managed.logfiles import open_logs
from secureserve.managed.notify import SystemdNotifier, notify
from secureserve.managed.periodic import PeriodicTask, ThreadManager
from secureserve.managed.pid_file import PIDFile
from secureserve.managed.privileges import DropPrivileges
from secureserve.managed.signals import SignalHandler
from tests.managed.clients import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def bus() -> Iterator[Engine]:
    """An engine that has exited at the end."""
    engine = Engine()
    yield engine
    engine.exit()


def test_the_pid_file_is_there_while_the_engine_runs(bus: Engine, tmp_path: Path) -> None:
    """It holds the process number and is removed at the exit; nothing else is left beside it."""
    path = tmp_path / "app.pid"
    PIDFile(bus, path).subscribe()
    bus.start()
    assert path.read_text() == f"{os.getpid()}\n"
    assert list(tmp_path.iterdir()) == [path]
    bus.exit()
    assert list(tmp_path.iterdir()) == []


def test_a_pid_file_of_a_living_process_is_refused(bus: Engine, tmp_path: Path) -> None:
    """Where another holds the lock, the start fails and names its number; the file stays as it is."""
    path = tmp_path / "app.pid"
    other = Engine("other")
    PIDFile(other, path).subscribe()
    other.start()
    PIDFile(bus, path).subscribe()
    with pytest.raises(StartFailed, match=rf"app.pid is held by {os.getpid()}"):
        bus.start()
    assert path.read_text() == f"{os.getpid()}\n"
    other.exit()
    assert not path.exists()


def test_a_stale_pid_file_is_taken_over(bus: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file without a lock, left by a process that was killed, is replaced with a word in the log."""
    path = tmp_path / "app.pid"
    path.write_text("4194304\n")
    PIDFile(bus, path).subscribe()
    bus.start()
    assert path.read_text() == f"{os.getpid()}\n"
    assert "was left by process 4194304" in caplog.text


def test_a_pid_file_that_is_no_longer_ours_is_left_alone(bus: Engine, tmp_path: Path) -> None:
    """A file that somebody put in its place is not removed."""
    path = tmp_path / "app.pid"
    PIDFile(bus, path).subscribe()
    bus.start()
    path.unlink()
    path.write_text("somebody else's\n")
    bus.exit()
    assert path.read_text() == "somebody else's\n"


def test_a_pid_file_is_no_way_through_a_link(bus: Engine, tmp_path: Path) -> None:
    """A symbolic link in its place is not followed, so nothing elsewhere is overwritten."""
    target = tmp_path / "precious"
    target.write_text("data")
    (tmp_path / "app.pid").symlink_to(target)
    PIDFile(bus, tmp_path / "app.pid").subscribe()
    with pytest.raises(ConfigurationError, match=r"pid_file.*cannot be written"):
        bus.start()
    assert target.read_text() == "data"


def test_a_pid_file_without_a_directory_is_refused(bus: Engine, tmp_path: Path) -> None:
    """A directory that is not there is a ConfigurationError naming the file."""
    PIDFile(bus, tmp_path / "nowhere" / "app.pid").subscribe()
    with pytest.raises(ConfigurationError, match=r"pid_file = .*nowhere"):
        bus.start()


def test_the_lock_says_that_it_runs(bus: Engine, tmp_path: Path) -> None:
    """The file is locked as long as the engine runs, and not after."""
    path = tmp_path / "app.pid"
    PIDFile(bus, path).subscribe()
    bus.start()
    with path.open() as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"user": "no-such-user"}, "is no user of this system"),
        ({"group": "no-such-group"}, "is no group of this system"),
    ],
)
def test_an_unknown_account_is_refused(bus: Engine, settings: dict[str, str], match: str) -> None:
    """A user or group that is not there fails the start before anything is dropped."""
    DropPrivileges(bus, **settings).subscribe()  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=match):
        bus.start()


def test_staying_who_one_is_needs_no_privilege(bus: Engine) -> None:
    """One's own user and group are no change."""
    DropPrivileges(bus, os.getuid(), os.getgid()).subscribe()
    bus.start()


BECOMES = """
import os, sys
from secureserve.errors import SecureServeError
from secureserve.managed.channels import ChannelFailures
from secureserve.managed.engine import Engine, State
from secureserve.managed.privileges import DropPrivileges
engine = Engine()
os.setresuid(*[int(sys.argv[1])] * 3)
DropPrivileges(engine, "root").subscribe()
try:
    engine.start()
except SecureServeError as error:
    print(error)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="begins as root")
def test_becoming_somebody_else_without_privilege_is_refused() -> None:
    """A process that may not change its user says so and does not start."""
    outcome = subprocess.run(
        [sys.executable, "-c", BECOMES, "65534"], capture_output=True, text=True, check=True, timeout=DEADLINE * 3
    )
    assert "user = 'root' is not for this process to become. Start as root" in outcome.stdout


def test_the_umask_is_set(bus: Engine) -> None:
    """Files made after the start lack what the umask takes."""
    former = os.umask(0o022)
    try:
        DropPrivileges(bus, umask=0o077).subscribe()
        bus.start()
        assert os.umask(0o022) == 0o077
    finally:
        os.umask(former)


def test_a_periodic_task_runs_until_the_stop_whatever_it_raises(bus: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """It is called again and again in one thread, its errors are logged, and its thread ends with the engine."""
    calls: list[threading.Thread] = []
    enough = threading.Event()

    def task() -> None:
        calls.append(threading.current_thread())
        if len(calls) == 1:
            message = "first"
            raise ValueError(message)
        if len(calls) == 3:
            enough.set()

    periodic = PeriodicTask(bus, task, frequency=0.01, name="mine")
    periodic.subscribe()
    bus.start()
    assert enough.wait(DEADLINE)
    bus.stop()
    assert {thread.name for thread in calls} == {"mine"}
    assert not any(thread.is_alive() for thread in calls)
    assert "Error in periodic task mine" in caplog.text
    assert "ValueError: first" in caplog.text
    periodic.unsubscribe()


def test_graceful_begins_the_period_anew(bus: Engine) -> None:
    """On graceful the task replaces the thread; a long period does not delay the stop."""
    periodic = PeriodicTask(bus, lambda: None, frequency=3600)
    periodic.subscribe()
    bus.start()
    first = periodic.thread
    bus.graceful()
    assert periodic.thread is not first
    assert first is not None
    assert not first.is_alive()


def test_threads_are_told_once_and_numbered(bus: Engine) -> None:
    """start_thread and stop_thread tell each thread's number; numbers that are free are used again."""
    told: list[tuple[str, int]] = []
    bus.subscribe("start_thread", lambda number: told.append(("start", number)))
    bus.subscribe("stop_thread", lambda number: told.append(("stop", number)))
    ThreadManager(bus).subscribe()
    bus.start()

    def work() -> None:
        bus.publish("acquire_thread")
        bus.publish("acquire_thread")
        bus.publish("release_thread")

    bus.publish("acquire_thread")
    for _ in range(2):
        worker = threading.Thread(target=work)
        worker.start()
        worker.join(DEADLINE)
    bus.stop()
    assert told == [("start", 1), ("start", 2), ("stop", 2), ("start", 2), ("stop", 2), ("stop", 1)]


def test_what_matters_to_autoreload(bus: Engine, tmp_path: Path) -> None:
    """Files of modules, named files and everything in named directories matter; others do not."""
    reloader = Autoreloader(bus, [tmp_path / "settings.ini", tmp_path / "templates"])
    module = sys.modules[__name__].__file__
    assert module is not None
    assert reloader.matters(type(tmp_path)(module))
    assert reloader.matters(tmp_path / "settings.ini")
    assert reloader.matters(tmp_path / "templates" / "deep" / "page.html")
    assert not reloader.matters(tmp_path / "data.db")


def test_notify_without_a_manager_does_nothing(tmp_path: Path) -> None:
    """Without NOTIFY_SOCKET, with a strange one, or with nobody there, notify says that nobody was told."""
    assert not notify("READY=1", {})
    assert not notify("READY=1", {"NOTIFY_SOCKET": "vsock:2:1"})
    assert not notify("READY=1", {"NOTIFY_SOCKET": str(tmp_path / "nobody")})


def test_a_restart_is_told_as_a_reload(bus: Engine, tmp_path: Path) -> None:
    """Stopping for a restart is RELOADING to systemd, which would otherwise count the service as stopping."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(DEADLINE)
        SystemdNotifier(bus, {"NOTIFY_SOCKET": str(tmp_path / "notify")}).subscribe()
        bus.start()
        bus.restart()
        messages = [manager.recv(1000).split(b"\n")[0] for _ in range(2)]
    assert messages == [b"READY=1", b"RELOADING=1"]


def test_a_restart_that_would_fail_is_refused(bus: Engine) -> None:
    """A listener of may_restart that raises keeps the engine running."""

    def refuse() -> None:
        message = "A restart would fail."
        raise LifecycleError(message)

    bus.subscribe("may_restart", refuse)
    bus.start()
    with pytest.raises(ChannelFailures, match="would fail"):
        bus.restart()
    assert bus.state is State.STARTED
    assert not bus.execv


def test_a_watchdog_for_another_process_is_not_ours(bus: Engine) -> None:
    """WATCHDOG_PID of another process, or no number, starts no watchdog."""
    for environ in ({"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "0"}):
        SystemdNotifier(bus, environ).subscribe()
    bus.start()
    assert "systemd watchdog" not in {thread.name for thread in threading.enumerate()}


def test_signal_handlers_are_put_back(bus: Engine) -> None:
    """After unsubscribe every signal has the handler that it had before, and none of ours is called."""
    numbers = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2]
    before = [signal.getsignal(number) for number in numbers]
    handler, called = SignalHandler(bus), threading.Event()
    handler.actions["SIGUSR1"] = called.set
    handler.subscribe()
    handler.subscribe()
    assert all(signal.getsignal(number) not in before for number in numbers)
    signal.raise_signal(signal.SIGUSR1)
    assert called.wait(DEADLINE)
    handler.unsubscribe()
    assert [signal.getsignal(number) for number in numbers] == before
    assert bus.listeners("SIGTERM") == []


def test_signals_are_for_the_main_thread(bus: Engine) -> None:
    """Subscribing or restoring handlers elsewhere is refused with a reason."""
    failures = []

    def subscribe() -> None:
        for call in (SignalHandler(bus).subscribe, SignalHandler(bus).unsubscribe):
            try:
                call()
            except LifecycleError as error:
                failures.append(str(error))

    thread = threading.Thread(target=subscribe)
    thread.start()
    thread.join(DEADLINE)
    assert len(failures) == 2
    assert all("main thread" in failure for failure in failures)


@pytest.fixture
def loggers() -> Iterator[None]:
    """Put the package's loggers back as they were."""
    names = ("secureserve", "secureserve.access")
    before = [(logging.getLogger(each), vars(logging.getLogger(each)).copy()) for each in names]
    handlers = [list(logger.handlers) for logger, _ in before]
    yield
    for (logger, former), kept in zip(before, handlers, strict=True):
        logger.handlers[:] = kept
        logger.propagate = former["propagate"]
        logger.setLevel(former["level"])


@pytest.mark.usefixtures("loggers")
def test_a_log_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """A log file in a directory that is not there is a ConfigurationError naming it."""
    with pytest.raises(ConfigurationError, match=r"error_log.*nowhere"):
        open_logs({"error_log": str(tmp_path / "nowhere" / "error.log")}, "combined")
