"""`CallableSource`: the program decides, handshake by handshake, what is presented.

The function may look into a database or ask another machine. It runs on threads of its own, and no handshake waits for
it longer than its deadline; after that, or when it returns None or fails, the store decides as if there were no
function.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections import deque
from concurrent.futures import Future, InvalidStateError
from typing import TYPE_CHECKING, Any, Final

from secureserve.certificates.credential import Credential
from secureserve.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from secureserve.certificates.sources import Entry

__all__ = ["CallableSource"]

_LOGGER: Final = logging.getLogger("secureserve.error")

STOP_TIMEOUT: Final = 1.0
"""Seconds that a call in progress is waited for when the source is stopped. Its thread is a daemon."""


class CallableSource:
    """A function that is asked first, for every handshake. Combine it with a source of the default.

    Args:
        get_certificate: Takes the ClientHello (its ``server_name``, ``alpn_protocols``, ``signature_schemes``) and
            returns the `Credential` to present, or None to leave it to the store. It is called on several threads at
            once.
        timeout: Seconds after which a handshake waits for it no more.
        threads: How many calls may run at once.
        max_waiting: How many handshakes may wait for a call; the store decides for those beyond.

    Threads: any.
    """

    def __init__(
        self,
        get_certificate: Callable[[Any], Credential | None],
        *,
        timeout: float = 2.0,
        threads: int = 4,
        max_waiting: int = 1024,
    ) -> None:
        self.timeout = timeout
        self._get_certificate = get_certificate
        self._thread_count = threads
        self._max_waiting = max_waiting
        self._lock = threading.Condition()
        self._questions: queue.SimpleQueue[tuple[Any, Future[Credential | None]] | None] = queue.SimpleQueue()
        self._waiting: deque[tuple[float, Future[Credential | None]]] = deque()
        self._threads: list[threading.Thread] = []
        self._running = False

    def __str__(self) -> str:
        return f"the function {getattr(self._get_certificate, '__qualname__', 'given')}"

    def load(self) -> Sequence[Credential]:
        """Return nothing: what it has is known only when it is asked."""
        return ()

    def entries(self) -> Sequence[Entry]:
        """Return nothing, as `load`."""
        return ()

    def paths(self) -> Sequence[Path]:
        """Return nothing: there is no file to watch."""
        return ()

    def ask(self, client_hello: Any) -> Future[Credential | None]:
        """Have the function called, and return at once what its answer will be in; None stands for the store.

        The answer is there within `timeout`, whatever the function does.
        """
        answer: Future[Credential | None] = Future()
        with self._lock:
            while self._waiting and self._waiting[0][1].done():
                self._waiting.popleft()
            if not self._running or len(self._waiting) >= self._max_waiting:
                answer.set_result(None)
                return answer
            self._waiting.append((SYSTEM_CLOCK.monotonic() + self.timeout, answer))
            self._lock.notify_all()
        self._questions.put((client_hello, answer))
        return answer

    def start(self) -> None:
        """Make its threads, all daemons. Harmless when started."""
        with self._lock:
            if self._running:
                return
            self._running = True
            names = [f"secureserve-get-certificate-{number}" for number in range(self._thread_count)]
            self._threads = [threading.Thread(target=self._answer, name=name, daemon=True) for name in names]
            self._threads.append(
                threading.Thread(target=self._give_up, name="secureserve-get-certificate", daemon=True)
            )
            for thread in self._threads:
                thread.start()

    def stop(self) -> None:
        """Answer nobody any more. Threads end with the calls that they are in, and are waited for a second at most."""
        with self._lock:
            if not self._running:
                return
            self._running = False
            for _deadline, answer in self._waiting:
                _settle(answer, None)
            self._waiting.clear()
            self._lock.notify_all()
            threads, self._threads = self._threads, []
        for _ in threads:
            self._questions.put(None)
        deadline = SYSTEM_CLOCK.monotonic() + STOP_TIMEOUT
        for thread in threads:
            thread.join(max(0.0, deadline - SYSTEM_CLOCK.monotonic()))

    def _answer(self) -> None:
        while (question := self._questions.get()) is not None:
            client_hello, answer = question
            if answer.done():
                continue
            found: Any = None
            try:
                found = self._get_certificate(client_hello)
            except Exception:
                _LOGGER.exception("%s failed; the store decides what is presented", self)
            if found is not None and not isinstance(found, Credential):
                _LOGGER.error("%s returned a %s, which is no Credential", self, type(found).__name__)
                found = None
            _settle(answer, found)

    def _give_up(self) -> None:
        """Answer for the function when it takes too long. Deadlines come in the order of the questions."""
        with self._lock:
            while self._running:
                if not self._waiting:
                    self._lock.wait()
                    continue
                deadline, answer = self._waiting[0]
                remaining = deadline - SYSTEM_CLOCK.monotonic()
                if answer.done() or remaining <= 0:
                    self._waiting.popleft()
                    if _settle(answer, None):
                        _LOGGER.warning("%s took more than %g s; the store decided", self, self.timeout)
                else:
                    self._lock.wait(remaining)


def _settle(answer: Future[Credential | None], value: Credential | None) -> bool:
    """Give an answer, unless somebody else was first. Return whether this was it."""
    with contextlib.suppress(InvalidStateError):
        answer.set_result(value)
        return True
    return False
