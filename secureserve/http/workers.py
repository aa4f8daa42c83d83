"""Worker threads: who polls, who runs, and what happens when all are busy.

Theory of operation
-------------------
Handing a request from one thread to another costs several times what parsing it and TLS cost together, so it is not
done: the thread whose poll brought a request runs it, all the way, and then polls again. What remains to decide is how
many threads poll.

* **Tokens.** A thread polls only while it holds a token, and gives it back the moment the poll has brought something.
  At first there is one. A thread that has finished and finds no token *parks*: another is polling already, and two would
  only fight over the interpreter lock. An application that answers at once is served by one thread that never waits for
  another.
* **The monitor** looks every millisecond while there is work. If nobody is polling, and some thread is still with what
  it had at the last look, the application is waiting for something: one parked thread is unparked, and one more token
  is made, since as many threads will have to poll as the application keeps waiting. Tokens for which there was no need
  for a while are taken back. Nothing else wakes anybody. Handshakes are computed without the interpreter lock, so two
  looks that both find threads shaking hands unpark another one as well.
* **All busy.** When no thread is parked, the pool grows up to its maximum. When it cannot, the monitor polls itself and
  takes the Front's steps, so that accepting, handshakes, heads and deadlines go on; requests that become ready are
  queued. A thread that finishes looks at the queue before it polls. A request that the queue has no room for gets 503
  (Service Unavailable) when it has waited for ``accepted_queue_timeout``.
* **Quiet.** When threads have been waiting in a poll for a while, the monitor sleeps until the next deadline, or until
  a poll brings something.
"""

from __future__ import annotations

import threading
from collections import deque
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
SURPLUS_AFTER: Final = 50
"""Looks without need of another poller, after which a token is taken back."""
ARRIVALS_SECONDS: Final = 0.001
"""How long a thread that began with an arrival goes on with arrivals. All of them are one event among those of the
connections being served, so this is their share, and what they may delay a request that is ready."""
PARKED_AT_MOST: Final = 30.0
"""Seconds after which a thread that nobody needed ends, if the pool has grown."""
STEPS_AT_ONCE: Final = 64
"""Front steps that the monitor takes between two looks at the deadlines."""


class Worker:
    """One worker thread, as the others see it."""

    __slots__ = ("connection", "gate", "requests", "seen", "serial", "thread")

    def __init__(self) -> None:
        self.gate = threading.Lock()
        self.gate.acquire()
        self.serial = 0
        """How many events it has taken."""
        self.seen = -1
        """Its serial at the monitor's last look."""
        self.requests = 0
        self.connection: Connection | None = None
        """What it is busy with; None while it polls or is parked."""
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
        self._workers: list[Worker] = []
        self._parked: deque[Worker] = deque()
        self._queue: deque[Connection] = deque()
        self._tokens: deque[None] = deque()
        self._token_count = 0
        self._surplus = 0
        self._numbered = 0
        self._retired_requests = 0
        self._stopping = False
        self._dozing = False
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
        self._stopping = self._dozing = False
        self._retired_requests = self.requests
        self._workers = []
        self._parked, self._queue, self._tokens = deque(), deque(), deque([None])
        self._token_count, self._surplus = 1, 0
        self._alarm = threading.Lock()
        self._alarm.acquire()
        front.on_earlier_deadline = self._wake_monitor
        for _ in range(max(self.min, 1)):
            self._add_worker()
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
            pass
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

    def _add_worker(self) -> None:
        worker = Worker()
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
        front, tokens, queue = self._front, self._tokens, self._queue
        while not self._stopping:
            connection = self._dequeue() if queue else None
            if connection is None:
                try:
                    tokens.pop()
                except IndexError:
                    if self._park(worker):
                        continue
                    return
                connection = front.poll(None)
                self._give_back()
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

    def _give_back(self) -> None:
        if self._surplus:
            with self._lock:
                if self._surplus:
                    self._surplus -= 1
                    self._token_count -= 1
                    return
        self._tokens.append(None)

    def _park(self, worker: Worker) -> bool:
        """Rest until there is need of this thread; False when there was none for long, and it is to end."""
        self._parked.append(worker)
        if self._tokens or self._queue or self._stopping:
            # A token came back, or a request was queued, between the look and the parking.
            try:
                self._parked.remove(worker)
            except ValueError:
                worker.gate.acquire()
            return True
        if worker.gate.acquire(timeout=PARKED_AT_MOST):
            return True
        with self._lock:
            retire = len(self._workers) > max(self.min, 1)
            try:
                self._parked.remove(worker)
            except ValueError:
                worker.gate.acquire()
                return True
            if retire:
                self._workers.remove(worker)
                self._retired_requests += worker.requests
        return not retire

    def _unpark(self) -> bool:
        try:
            worker = self._parked.pop()
        except IndexError:
            return False
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
        quiet = unneeded = 0
        while not self._stopping:
            front = self._front
            if front.next_deadline() <= self._clock.monotonic():
                front.expire()
            self._refuse_overdue()
            if self._is_polled():
                if self._queue:
                    self._rouse()
                quiet += 1
                unneeded += 1
                if unneeded > SURPLUS_AFTER and self._token_count - self._surplus > 1:
                    unneeded = 0
                    self._take_token_back()
            elif self._is_stuck():
                quiet = unneeded = 0
                self._relieve()
            else:
                quiet = 0
                unneeded += 1
            if quiet > QUIET_AFTER and not self._queue:
                quiet = 0
                self._doze()
            else:
                self._alarm.acquire(timeout=TICK)

    def _rouse(self) -> None:
        """Make a thread look at the queue, which was filled while it went to poll or to park."""
        if not self._unpark():
            self._front.wake()
            self._front.rest()

    def _is_polled(self) -> bool:
        return len(self._tokens) < self._token_count

    def _is_stuck(self) -> bool:
        """Return whether some thread has been busy with one event, or with handshakes, since the last look."""
        stuck = False
        for worker in self._workers:
            connection = worker.connection
            if connection is not None and (
                worker.seen == worker.serial or (worker.seen >= 0 and connection.state is State.HANDSHAKE)
            ):
                stuck = True
            worker.seen = worker.serial
        return stuck

    def _relieve(self) -> None:
        """Get somebody to poll: a parked thread, a new one, or the monitor itself."""
        if not self._parked and self.size < max(self.min, self.max):
            self._add_worker()
        elif self._parked:
            self._add_token()
            self._unpark()
        else:
            self._stand_in()

    def _add_token(self) -> None:
        with self._lock:
            if self._surplus:
                self._surplus -= 1
            elif self._token_count < len(self._workers):
                self._token_count += 1
                self._tokens.append(None)

    def _take_token_back(self) -> None:
        with self._lock:
            try:
                self._tokens.pop()
            except IndexError:
                self._surplus += 1
            else:
                self._token_count -= 1

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
        if self._stopping or not self._is_polled():
            self._dozing = False
            return
        if wait == NEVER:
            self._alarm.acquire()
        else:
            self._alarm.acquire(timeout=max(wait, 0.0))
        self._dozing = False
