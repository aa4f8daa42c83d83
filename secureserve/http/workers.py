"""Worker threads: each polls, runs what its poll brought, all the way, and polls again.

How many of them do so at a time, and how many are parked, is the monitor's business: see `secureserve.http.monitor`.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Final

from secureserve.errors import Overloaded
from secureserve.front.connection import State
from secureserve.http.monitor import Monitor

if TYPE_CHECKING:
    from collections.abc import Callable

    from secureserve.clock import Clock
    from secureserve.front.accounting import Accounting
    from secureserve.front.connection import Connection
    from secureserve.front.loop import Front

__all__ = ["Workers"]

TURN_SECONDS: Final = 0.003
"""How often a thread that is busy all the time turns to arrivals."""
ARRIVALS_SECONDS: Final = 0.001
"""How long it then goes on with them, if there are as many: their share of a turn, and what a request that is ready
may be delayed by them. All of them are one event among those of the connections being served, so that without a turn of
their own they would get less the more connections are served."""
PARKED_AT_MOST: Final = 30.0
"""Seconds after which a thread that nobody needed ends, if the pool has grown."""


class Worker:
    """One worker thread, as the others see it."""

    __slots__ = (
        "awaits_arrivals",
        "connection",
        "gate",
        "is_parked",
        "requests",
        "seen",
        "serial",
        "thread",
        "turn_began",
    )

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
        self.turn_began = 0.0
        self.awaits_arrivals = False
        """Whether, in this turn, no look has found that there are no arrivals."""
        self.thread: threading.Thread


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
        self.threads: list[Worker] = []
        self._parked: deque[Worker] = deque()
        self._queue: deque[Connection] = deque()
        # Has an item while one thread is asked to park; to take it is atomic, so that no more than one does.
        self._excess: deque[None] = deque()
        self._numbered = 0
        self._retired_requests = 0
        self._stopping = False
        self._monitor: Monitor
        self._monitor_thread: threading.Thread | None = None

    @property
    def idle(self) -> int:
        """How many threads have nothing to run."""
        return sum(worker.connection is None for worker in list(self.threads))

    @property
    def qsize(self) -> int:
        """How many requests wait for a thread."""
        return len(self._queue)

    @property
    def size(self) -> int:
        """How many threads there are."""
        return len(self.threads)

    @property
    def requests(self) -> int:
        """How many requests have run."""
        return self._retired_requests + sum(worker.requests for worker in list(self.threads))

    def owns(self, thread: threading.Thread) -> bool:
        """Return whether `thread` is one of the pool's."""
        return thread is self._monitor_thread or any(worker.thread is thread for worker in list(self.threads))

    def start(self, front: Front) -> None:
        """Start the threads; they serve `front`."""
        self._front = front
        self._stopping = False
        self._retired_requests = self.requests
        self.threads = []
        self._parked, self._queue, self._excess = deque(), deque(), deque()
        self._monitor = Monitor(self, front, self._clock)
        front.registry.on_earlier_deadline = self._monitor.wake
        for number in range(max(self.min, 1)):
            self._add_worker(parked=number > 0)
        self._monitor_thread = threading.Thread(
            target=self._keep, args=(self._monitor.run,), name=f"{self._name} monitor", daemon=True
        )
        self._monitor_thread.start()

    def stop(self, deadline: float) -> list[str]:
        """End the threads, waiting for them until `deadline` (monotonic).

        Returns:
            The names of those that did not end, and are left to themselves.
        """
        self._stopping = True
        self._front.wake_one()
        self._monitor.stop()
        while self.unpark():
            continue
        current = threading.current_thread()
        threads = [worker.thread for worker in list(self.threads)]
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

    # What the monitor does with the threads.

    def grow(self) -> bool:
        """Add a thread, if there may be one more; return whether there was room."""
        if self.size >= max(self.min, self.max):
            return False
        self._add_worker()
        return True

    def ask_to_park(self) -> None:
        """Have one thread rest as soon as it has finished, or its poll is ended."""
        if not self._excess:
            self._excess.append(None)

    def enqueue(self, connection: Connection) -> None:
        """Let a request wait for a thread."""
        connection.move(State.QUEUED)
        connection.queued_at = self._clock.monotonic()
        with self._lock:
            self._queue.append(connection)

    def wake_for_queue(self) -> None:
        """Wake a thread that went to poll while its next request was queued."""
        # A thread looks at the queue after it has let go of its connection: either it sees the request, or is seen.
        if self._queue and any(worker.connection is None and not worker.is_parked for worker in self.threads):
            self._front.wake_one()

    def refuse_overdue(self) -> None:
        """Refuse what the queue has no room for, and has waited for its time."""
        room = self.accepted_queue_size
        if room < 0:
            return
        since = self._clock.monotonic() - self.accepted_queue_timeout
        overdue = []
        with self._lock:
            while len(self._queue) > room and self._queue[room].queued_at <= since:
                overdue.append(self._queue[room])
                del self._queue[room]
        for connection in overdue:
            message = "The server has more requests than it can serve; try again in a moment."
            self._front.refuse(connection, Overloaded(message))

    # The worker threads.

    def _add_worker(self, *, parked: bool = False) -> None:
        worker = Worker()
        worker.is_parked = parked
        with self._lock:
            self._numbered += 1
            number = self._numbered
            self.threads.append(worker)
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
            if self._stopping:
                # The next one, which does the same.
                self._front.wake_one()
            connection, worker.connection = worker.connection, None
            if connection is not None:
                self._front.end(connection, "error")

    def _work(self, worker: Worker) -> None:
        front, monitor, excess = self._front, self._monitor, self._excess
        if worker.is_parked and not self._park(worker):
            return
        while not self._stopping:
            connection = self._dequeue() if self._queue else None
            if connection is None:
                if excess and self._is_excess() and not self._park(worker):
                    return
                connection = self._next_arrival(worker) or front.poll(None)
                if monitor.is_dozing:
                    monitor.wake()
                if connection is None:
                    continue
                worker.serial += 1
                worker.connection = connection
                if not front.advance(connection):
                    worker.connection = connection = None
                    continue
            worker.serial += 1
            worker.connection = connection
            worker.requests += 1
            while front.run(connection):
                worker.serial += 1
                worker.requests += 1
            worker.connection = connection = None

    def _next_arrival(self, worker: Worker) -> Connection | None:
        """Claim an arrival while it is their turn; None if it is not, or there is none that is ready."""
        elapsed = self._clock.monotonic() - worker.turn_began
        if elapsed >= TURN_SECONDS:
            worker.turn_began += elapsed
            worker.awaits_arrivals = True
        elif not worker.awaits_arrivals or elapsed >= ARRIVALS_SECONDS:
            return None
        arrival = self._front.poll_arrival()
        worker.awaits_arrivals = arrival is not None
        return arrival

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
            self.unpark()
        if not worker.gate.acquire(timeout=PARKED_AT_MOST) and not self._is_retired(worker):
            # Unparked at this very moment, or one of those that stay.
            worker.gate.acquire()
        worker.is_parked = False
        return worker in self.threads

    def _is_retired(self, worker: Worker) -> bool:
        with self._lock:
            if len(self.threads) <= max(self.min, 1):
                return False
            try:
                self._parked.remove(worker)
            except ValueError:
                return False
            self.threads.remove(worker)
            self._retired_requests += worker.requests
            return True

    def unpark(self) -> bool:
        """Have one more thread poll; return whether there was one that rested."""
        try:
            worker = self._parked.pop()
        except IndexError:
            return False
        self._excess.clear()
        worker.gate.release()
        return True

    def _dequeue(self) -> Connection | None:
        with self._lock:
            if not self._queue:
                return None
            connection = self._queue.popleft()
        self._accounting.queued(self._clock.monotonic() - connection.queued_at)
        return connection
