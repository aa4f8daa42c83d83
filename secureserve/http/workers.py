"""Worker threads: who polls, who runs, and what happens when all are busy.

Theory of operation
-------------------
Handing a request from one thread to another costs several times what parsing it and TLS cost together, so it is not
done: the thread whose poll brought a request runs it, all the way, and then polls again. What remains to decide is how
many threads do so, and how many are *parked*.

* **One thread is enough** for an application that answers at once. A second one would only fight with it over the
  interpreter lock, so at first all threads but one are parked.
* **The monitor** looks every millisecond while there is work. If every thread that is not parked is busy, they got
  through fewer events than they are, and the process hardly computes, then the application is waiting for something,
  and one more thread is unparked. It stays: whoever finishes polls again at once, so that an application that waits is
  served by as many threads as it keeps waiting. If nothing at all was got through, one is unparked in any case, so that
  a long computation does not keep quick requests out. Handshakes are computed without the interpreter lock, so looks
  that find every thread shaking hands unpark another one too, up to the number of processors.
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

import os
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from secureserve.errors import Overloaded
from secureserve.front.connection import State
from secureserve.front.deadlines import NEVER

if TYPE_CHECKING:
    from collections.abc import Callable

    from secureserve.clock import Clock
    from secureserve.front.accounting import Accounting
    from secureserve.front.connection import Connection
    from secureserve.front.loop import Front

__all__ = ["Workers"]

TICK: Final = 0.001
"""Seconds between the monitor's looks while there is work: what a request may have to wait behind a blocked one."""
QUIET_AFTER: Final = 50
"""Looks that find a thread polling, after which the monitor sleeps."""
UNNEEDED_AFTER: Final = 50
"""Looks in a row at which nobody was missed, after which one thread may park."""
MANY_EVENTS: Final = 4
"""Events of each thread between two looks that show that fewer threads would do."""
ARRIVALS_SECONDS: Final = 0.001
"""How long a thread that began with an arrival goes on with arrivals. All of them are one event among those of the
connections being served, so this is their share, and what they may delay a request that is ready."""
PARKED_AT_MOST: Final = 30.0
"""Seconds after which a thread that nobody needed ends, if the pool has grown."""
COMPUTING: Final = 0.6
"""Processors in use from which on threads that get nowhere are held up by each other, and not by what they wait for."""
COMPUTING_COUNTS: Final = 5
"""How much more a look counts towards parking a thread if all of them are busy and nobody was missed."""
PROCESSORS: Final = os.cpu_count() or 1
STEPS_AT_ONCE: Final = 64
"""Front steps that the monitor takes between two looks at the deadlines."""


class Worker:
    """One worker thread, as the others see it."""

    __slots__ = ("connection", "gate", "is_parked", "requests", "seen", "serial", "thread")

    def __init__(self) -> None:
        self.gate = threading.Lock()
        self.gate.acquire()
        self.serial = 0
        """How many events it has taken."""
        self.seen = 0
        """Its serial at the monitor's last look."""
        self.requests = 0
        self.connection: Connection | None = None
        """What it is busy with; None while it polls or is parked."""
        self.is_parked = False
        self.thread: threading.Thread


@dataclass(frozen=True, slots=True)
class Look:
    """What the monitor saw.

    Attributes:
        active: Threads that are not parked.
        busy: Those of them that do not wait in a poll.
        events: What they have got through since the last look.
        shaking: Those that shake hands.
        load: Processors that the process has used since the last look.
    """

    active: int
    busy: int
    events: int
    shaking: int
    load: float

    @property
    def is_polled(self) -> bool:
        """Whether a thread waits for whatever comes next."""
        return self.busy < self.active

    def misses_somebody(self) -> bool:
        """Return whether one more thread would have something to do: all are busy, and not with computing."""
        if self.is_polled:
            return False
        if self.shaking == self.active < PROCESSORS:
            return True
        return self.events == 0 or (self.events < self.active and self.load < COMPUTING)

    def has_too_many(self) -> bool:
        """Return whether so much is done that fewer threads would do it with less fighting over the interpreter."""
        return self.events >= MANY_EVENTS * self.active


class Workers:
    """The pool of worker threads, and the monitor.

    Args:
        name: The server, for the threads' names.
        minimum: Threads that are always there.
        maximum: Threads to which the pool may grow; no more than `minimum` where this is less.
        accepted_queue_size: Requests that may wait for a thread without a time limit; negative for any number.
        accepted_queue_timeout: Seconds that a request beyond those waits before it is refused.
        clock: Tells the time.
        accounting: Counts what waited.
        on_failure: Is given what an application raised to end the process, and what no thread should have raised.

    Threads: `start` and `stop` by whoever runs the server; everything else is read by any.
    """

    def __init__(
        self,
        name: str,
        *,
        minimum: int,
        maximum: int,
        accepted_queue_size: int,
        accepted_queue_timeout: float,
        clock: Clock,
        accounting: Accounting,
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self.min = minimum
        self.max = maximum
        self.accepted_queue_size = accepted_queue_size
        self.accepted_queue_timeout = accepted_queue_timeout
        self._name = name
        self._clock = clock
        self._accounting = accounting
        self._on_failure = on_failure
        self._front: Front
        self._lock = threading.Lock()
        self._workers: list[Worker] = []
        self._parked: deque[Worker] = deque()
        self._queue: deque[Connection] = deque()
        # Has an item while one thread is asked to park; to take it is atomic, so that no more than one does.
        self._excess: deque[None] = deque()
        self._numbered = 0
        self._retired_requests = 0
        self._stopping = False
        self._dozing = False
        self._has_woken = False
        self._looked = 0.0
        self._computed = 0.0
        self._alarm = threading.Lock()
        self._monitor_thread: threading.Thread | None = None

    @property
    def idle(self) -> int:
        """How many threads have nothing to run."""
        return sum(worker.connection is None for worker in list(self._workers))

    @property
    def qsize(self) -> int:
        """How many requests wait for a thread."""
        return len(self._queue)

    @property
    def size(self) -> int:
        """How many threads there are."""
        return len(self._workers)

    @property
    def requests(self) -> int:
        """How many requests have run."""
        return self._retired_requests + sum(worker.requests for worker in list(self._workers))

    def owns(self, thread: threading.Thread) -> bool:
        """Return whether `thread` is one of the pool's."""
        return thread is self._monitor_thread or any(worker.thread is thread for worker in list(self._workers))

    def start(self, front: Front) -> None:
        """Start the threads; they serve `front`."""
        self._front = front
        self._stopping = self._dozing = self._has_woken = False
        self._retired_requests = self.requests
        self._workers = []
        self._parked, self._queue, self._excess = deque(), deque(), deque()
        self._alarm = threading.Lock()
        self._alarm.acquire()
        front.on_earlier_deadline = self._wake_monitor
        for number in range(max(self.min, 1)):
            self._add_worker(parked=number > 0)
        self._monitor_thread = threading.Thread(
            target=self._keep, args=(self._watch,), name=f"{self._name} monitor", daemon=True
        )
        self._monitor_thread.start()

    def stop(self, deadline: float) -> list[str]:
        """End the threads, waiting for them until `deadline` (monotonic).

        Returns:
            The names of those that did not end, and are left to themselves.
        """
        self._stopping = True
        self._front.wake()
        self._wake_monitor()
        while self._unpark():
            continue
        current = threading.current_thread()
        threads = [worker.thread for worker in list(self._workers)]
        if self._monitor_thread is not None:
            threads.append(self._monitor_thread)
        left = []
        for thread in threads:
            if thread is current:
                continue
            thread.join(max(deadline - self._clock.monotonic(), 0.01))
            if thread.is_alive():
                left.append(thread.name)
        return left

    # The worker threads.

    def _add_worker(self, *, parked: bool = False) -> None:
        worker = Worker()
        worker.is_parked = parked
        with self._lock:
            self._numbered += 1
            number = self._numbered
            self._workers.append(worker)
        worker.thread = threading.Thread(
            target=self._keep, args=(self._serve, worker), name=f"{self._name} worker {number}", daemon=True
        )
        worker.thread.start()

    def _keep(self, target: Callable[..., None], *args: object) -> None:
        """Run a thread of the pool; the server must not lose one without notice."""
        try:
            target(*args)
        except BaseException as error:  # noqa: BLE001 - handed on to the thread that serves
            self._on_failure(error)

    def _serve(self, worker: Worker) -> None:
        try:
            self._work(worker)
        finally:
            connection, worker.connection = worker.connection, None
            if connection is not None:
                self._front.end(connection, "error")

    def _work(self, worker: Worker) -> None:
        front, excess = self._front, self._excess
        if worker.is_parked and not self._park(worker):
            return
        while not self._stopping:
            connection = self._dequeue() if self._queue else None
            if connection is None:
                if excess and self._is_excess() and not self._park(worker):
                    return
                connection = front.poll(None)
                if self._dozing:
                    self._wake_monitor()
                if connection is None:
                    continue
                connection = self._advance(worker, connection)
                if connection is None:
                    worker.connection = None
                    continue
            worker.serial += 1
            worker.connection = connection
            worker.requests += 1
            while front.run(connection):
                worker.serial += 1
                worker.requests += 1
            worker.connection = connection = None

    def _advance(self, worker: Worker, connection: Connection) -> Connection | None:
        """Take the connection's steps, and after an arrival those of others; return one whose request is ready."""
        front = self._front
        worker.serial += 1
        worker.connection = connection
        arrives = not connection.admitted
        if front.advance(connection):
            return connection
        if arrives:
            until = self._clock.monotonic() + ARRIVALS_SECONDS
            while self._clock.monotonic() < until:
                arrival = front.poll_arrival()
                if arrival is None:
                    break
                worker.serial += 1
                worker.connection = arrival
                if front.advance(arrival):
                    return arrival
        return None

    def _is_excess(self) -> bool:
        try:
            self._excess.pop()
        except IndexError:
            return False
        return True

    def _park(self, worker: Worker) -> bool:
        """Rest until there is need of this thread; False when there was none for long, and it is to end."""
        worker.is_parked = True
        self._parked.append(worker)
        if self._stopping:
            self._unpark()
        if not worker.gate.acquire(timeout=PARKED_AT_MOST) and not self._is_retired(worker):
            # Unparked at this very moment, or one of those that stay.
            worker.gate.acquire()
        worker.is_parked = False
        return worker in self._workers

    def _is_retired(self, worker: Worker) -> bool:
        with self._lock:
            if len(self._workers) <= max(self.min, 1):
                return False
            try:
                self._parked.remove(worker)
            except ValueError:
                return False
            self._workers.remove(worker)
            self._retired_requests += worker.requests
            return True

    def _unpark(self) -> bool:
        try:
            worker = self._parked.pop()
        except IndexError:
            return False
        self._excess.clear()
        worker.gate.release()
        return True

    def _dequeue(self) -> Connection | None:
        try:
            connection = self._queue.popleft()
        except IndexError:
            return None
        self._accounting.queued(self._clock.monotonic() - connection.queued_at)
        return connection

    # The monitor.

    def _wake_monitor(self) -> None:
        if self._dozing:
            self._dozing = False
            try:
                self._alarm.release()
            except RuntimeError:
                # Another thread was quicker.
                return

    def _watch(self) -> None:
        front = self._front
        quiet = unneeded = 0
        while not self._stopping:
            if front.next_deadline() <= self._clock.monotonic():
                front.expire()
            look = self._look()
            self._see_to_the_queue(is_polled=look.is_polled)
            if look.misses_somebody():
                quiet = unneeded = 0
                self._relieve(is_stuck=look.events == 0)
            else:
                unneeded += 1 if look.is_polled else COMPUTING_COUNTS
                quiet = quiet + 1 if look.is_polled else 0
            if look.active > 1 and not look.shaking and (look.has_too_many() or unneeded > UNNEEDED_AFTER):
                unneeded = 0
                self._ask_to_park(is_polled=look.is_polled)
            if quiet > QUIET_AFTER and look.active <= 1 and not self._queue:
                quiet = 0
                self._doze()
            else:
                self._alarm.acquire(timeout=TICK)

    def _see_to_the_queue(self, *, is_polled: bool) -> None:
        """Refuse what is overdue, and have a thread look at the queue that was filled while it went to poll or park."""
        if self._has_woken:
            self._front.rest()
            self._has_woken = False
        if self._queue:
            self._refuse_overdue()
            if self._queue and not self._unpark() and is_polled:
                self._wake_pollers()

    def _ask_to_park(self, *, is_polled: bool) -> None:
        """Let one thread park when it has finished; one that waits in its poll would not notice by itself."""
        if not self._excess:
            self._excess.append(None)
        if is_polled:
            self._wake_pollers()

    def _wake_pollers(self) -> None:
        """End every poll, until the next look."""
        self._front.wake()
        self._has_woken = True

    def _look(self) -> Look:
        active = busy = events = shaking = 0
        for worker in self._workers:
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
        load = (computed - self._computed) / max(now - self._looked, 1e-6)
        self._looked, self._computed = now, computed
        return Look(active, busy, events, shaking, load)

    def _relieve(self, *, is_stuck: bool) -> None:
        """Get somebody to poll: a parked thread, or if nothing goes on at all a new one, or the monitor itself."""
        if self._unpark() or not is_stuck:
            return
        if self.size < max(self.min, self.max):
            self._add_worker()
        else:
            self._stand_in()

    def _stand_in(self) -> None:
        """Take the Front's steps while every thread runs the application; queue what becomes ready."""
        front = self._front
        connection = front.poll(TICK)
        for _ in range(STEPS_AT_ONCE):
            if connection is None:
                return
            if front.advance(connection):
                connection.move(State.QUEUED)
                connection.queued_at = self._clock.monotonic()
                self._queue.append(connection)
            connection = front.poll(0)

    def _refuse_overdue(self) -> None:
        """Refuse what the queue has no room for, and has waited for its time."""
        queue, room = self._queue, self.accepted_queue_size
        if room < 0 or len(queue) <= room:
            return
        now = self._clock.monotonic()
        while len(queue) > room:
            try:
                connection = queue.pop()
            except IndexError:
                return
            if now - connection.queued_at < self.accepted_queue_timeout:
                queue.append(connection)
                return
            message = "The server has more requests than it can serve; try again in a moment."
            self._front.refuse(connection, Overloaded(message))

    def _doze(self) -> None:
        """Sleep until the next deadline, or until a poll brings something."""
        self._dozing = True
        wait = self._front.next_deadline() - self._clock.monotonic()
        if self._stopping or not self._look().is_polled:
            self._dozing = False
            return
        if wait == NEVER:
            self._alarm.acquire()
        else:
            self._alarm.acquire(timeout=max(wait, 0.0))
        self._dozing = False
