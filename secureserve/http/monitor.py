"""The monitor: how many worker threads poll, and what happens when all are busy.

Theory of operation
-------------------
Handing a request from one thread to another costs several times what parsing it and TLS cost together, so it is not
done: the thread whose poll brought a request runs it, all the way, and then polls again. What remains to decide is how
many threads do so, and how many are *parked*.

* **One thread is enough** for an application that answers at once. A second one would only fight with it over the
  interpreter lock, so at first all threads but one are parked.
* **The monitor** looks every millisecond while there is work, and less often while nobody is missed or can be. If every
  thread that is not parked is busy, they get through fewer events in a millisecond than they are, and the process
  hardly computes, then the application is waiting for something, and one more thread is unparked. It stays: whoever
  finishes polls again at once, so that an application that waits is served by as many threads as it keeps waiting. If
  nothing at all was got through, one is unparked in any case, so that a long computation does not keep quick requests
  out. Handshakes are computed without the interpreter lock, so looks that find every thread shaking hands unpark
  another one too, up to the number of processors. Otherwise nobody is missed while a thread shakes hands: it does not
  wait for the application.
* **Back to fewer.** Threads that together get through many events between two looks are too many: one is asked to park
  when it finishes. So is one after a while in which nobody was missed. Nothing but the monitor parks or unparks.
* **All busy.** When no thread is parked, the pool grows up to its maximum. When it cannot, the monitor polls itself and
  takes the Front's steps, so that accepting, handshakes, heads and deadlines go on; requests that become ready are
  queued. A thread that finishes looks at the queue before it polls. A request that the queue has no room for gets 503
  (Service Unavailable) when it has waited for ``accepted_queue_timeout``.
* **Quiet.** When a thread has been waiting in its poll for a while, the monitor sleeps until the next deadline, or
  until a poll brings something.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from secureserve.front.connection import State
from secureserve.front.deadlines import NEVER

if TYPE_CHECKING:
    from secureserve.clock import Clock
    from secureserve.front.loop import Front
    from secureserve.http.workers import Workers

__all__ = ["Look", "Monitor"]

TICK: Final = 0.001
"""Seconds between the monitor's looks while there is work: what a request may have to wait behind a blocked one."""
CALM_TICK: Final = 0.004
"""Seconds between two looks while nobody is missed: each look takes the interpreter lock from those who work."""
CALM_AFTER: Final = 20
"""Looks in a row at which nobody was missed, after which they come less often."""
QUIET_AFTER: Final = 50
"""Looks that find a thread polling, after which the monitor sleeps."""
UNNEEDED_AFTER: Final = 50
"""Looks in a row at which nobody was missed, after which one thread may park."""
MANY_EVENTS: Final = 4
"""Events of each thread between two looks that show that fewer threads would do."""
COMPUTING: Final = 0.6
"""Processors in use from which on threads that get nowhere are held up by each other, and not by what they wait for."""
COMPUTING_COUNTS: Final = 5
"""How much more a look counts towards parking a thread if all of them are busy and nobody was missed."""
PROCESSORS: Final = os.cpu_count() or 1
STEPS_AT_ONCE: Final = 64
"""Front steps that the monitor takes between two looks at the deadlines."""


class Look(NamedTuple):
    """What the monitor saw.

    Attributes:
        active: Threads that are not parked.
        busy: Those of them that do not wait in a poll.
        events: What they have got through since the last look.
        shaking: Those that shake hands.
        ticks: How long ago the last look was, in ticks.
        load: Processors that the process has used since then.
    """

    active: int
    busy: int
    events: int
    shaking: int
    ticks: float
    load: float

    @property
    def is_polled(self) -> bool:
        """Whether a thread waits for whatever comes next."""
        return self.busy < self.active

    def misses_somebody(self) -> bool:
        """Return whether one more thread would have something to do: all are busy, and not with computing."""
        if self.is_polled:
            return False
        if self.shaking:
            # Who shakes hands waits for nothing but a processor, and polls again in a moment.
            return self.shaking == self.active < PROCESSORS
        return self.events == 0 or (self.events < self.active * self.ticks and self.load < COMPUTING)

    def has_too_many(self) -> bool:
        """Return whether so much is done that fewer threads would do it with less fighting over the interpreter."""
        return self.events >= MANY_EVENTS * self.active * self.ticks


class Monitor:
    """Watches the worker threads of one server, and the deadlines of its connections.

    Args:
        workers: The threads.
        front: What they serve.
        clock: Tells the time.

    Threads: `run` is a thread's whole life; `wake` and `stop` by any.
    """

    def __init__(self, workers: Workers, front: Front, clock: Clock) -> None:
        self._workers = workers
        self._front = front
        self._clock = clock
        self.is_dozing = False
        """Whether it sleeps, and whoever gets something to do has to `wake` it."""
        self._is_stopping = False
        self._looked = 0.0
        self._computed = 0.0
        self._alarm = threading.Lock()
        self._alarm.acquire()

    def stop(self) -> None:
        """End `run`."""
        self._is_stopping = True
        self.wake()

    def wake(self) -> None:
        """Have it look again, if it sleeps."""
        if self.is_dozing:
            self.is_dozing = False
            # Another thread may have been quicker.
            with contextlib.suppress(RuntimeError):
                self._alarm.release()

    def run(self) -> None:
        """Watch until `stop`."""
        front = self._front
        quiet = unneeded = calm = 0
        while not self._is_stopping:
            if front.next_deadline() <= self._clock.monotonic():
                front.expire()
            look = self._look()
            self._see_to_the_queue(is_polled=look.is_polled)
            if look.misses_somebody():
                front.polled_by(look.active + 1)
                quiet = unneeded = 0
                calm = 0 if self._relieve(is_stuck=look.events == 0) else calm + 1
            else:
                if front.polled_by(look.active) and look.is_polled:
                    front.wake_one()
                calm += 1
                unneeded += 1 if look.is_polled else COMPUTING_COUNTS
                quiet = quiet + 1 if look.is_polled else 0
            if look.active > 1 and not look.shaking and (look.has_too_many() or unneeded > UNNEEDED_AFTER):
                unneeded = 0
                self._ask_to_park(is_polled=look.is_polled)
            if quiet > QUIET_AFTER and look.active <= 1 and not self._workers.qsize:
                quiet = 0
                self._doze()
            else:
                self._alarm.acquire(timeout=TICK if calm < CALM_AFTER else CALM_TICK)
        # It may have polled itself, and taken what was to wake a thread.
        front.wake_one()

    def _see_to_the_queue(self, *, is_polled: bool) -> None:
        """Refuse what is overdue, and have a thread look at the queue that was filled while it went to poll or park."""
        if self._workers.qsize:
            self._workers.refuse_overdue()
            if self._workers.qsize and not self._workers.unpark() and is_polled:
                self._front.wake_one()

    def _ask_to_park(self, *, is_polled: bool) -> None:
        """Let one thread park when it has finished; one that waits in its poll would not notice by itself."""
        self._workers.ask_to_park()
        if is_polled:
            self._front.wake_one()

    def _look(self) -> Look:
        active = busy = events = shaking = 0
        for worker in self._workers.threads:
            if worker.is_parked:
                continue
            active += 1
            events += worker.serial - worker.seen
            worker.seen = worker.serial
            connection = worker.connection
            if connection is not None:
                busy += 1
                shaking += connection.state is State.HANDSHAKE
        now, computed = self._clock.monotonic(), time.process_time()
        elapsed = max(now - self._looked, TICK)
        load = (computed - self._computed) / elapsed
        self._looked, self._computed = now, computed
        return Look(active, busy, events, shaking, elapsed / TICK, load)

    def _relieve(self, *, is_stuck: bool) -> bool:
        """Get somebody to poll: a parked thread, or if nothing goes on at all a new one, or the monitor itself.

        Returns:
            Whether there was anything to be done: when all work, and get on, there is nobody left to look out for.
        """
        if self._workers.unpark():
            return True
        if is_stuck and not self._workers.grow():
            self._stand_in()
        return is_stuck

    def _stand_in(self) -> None:
        """Take the Front's steps while every thread runs the application; queue what becomes ready."""
        front = self._front
        timeout = TICK
        for _ in range(STEPS_AT_ONCE):
            connection = front.poll(timeout)
            if connection is None:
                break
            if front.advance(connection):
                self._workers.enqueue(connection)
            timeout = 0.0
        # No earlier: the polls here would take what is to wake another.
        self._workers.wake_for_queue()

    def _doze(self) -> None:
        """Sleep until the next deadline, or until a poll brings something."""
        self.is_dozing = True
        wait = self._front.next_deadline() - self._clock.monotonic()
        if self._is_stopping or not self._look().is_polled:
            self.is_dozing = False
            return
        if wait == NEVER:
            self._alarm.acquire()
        else:
            self._alarm.acquire(timeout=max(wait, 0.0))
        self.is_dozing = False
