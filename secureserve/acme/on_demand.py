"""`OnDemandSource`: a certificate is obtained when somebody first asks for its name, if a function allows it.

Whoever connects can ask for any name, and authorities limit what they issue. So there is no obtaining on demand without
a function that knows which names are ours; what it allows is limited in rate and in number as well.
"""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final

from secureserve.acme import renewal
from secureserve.certificates import names as server_names
from secureserve.certificates.on_demand import CallableSource
from secureserve.clock import SYSTEM_CLOCK
from secureserve.errors import CredentialError
from secureserve.rate_limit import RateLimitedLogger

if TYPE_CHECKING:
    from collections.abc import Callable

    from secureserve.acme.steward import Steward
    from secureserve.acme.stored import StoredCertificate
    from secureserve.certificates.credential import Credential
    from secureserve.clock import Clock

__all__ = ["OnDemandSource"]

_ACME_PROTOCOL: Final = "acme-tls/1"
"""What an authority offers when it looks at a proof (RFC 8737, 4): it must not wait for what waits for it."""

_INTEREST: Final = 30 * renewal.DAY
"""Seconds within which somebody must have asked for a name for its certificate to be renewed."""
_HOPE: Final = renewal.DAY
"""The same, for a name that no certificate could be obtained for yet."""


class OnDemandSource(CallableSource):
    """Obtains certificates in the handshake. Combine it with a source of the default.

    A handshake for a name that has a certificate waits for nothing. One for a new name that `decide` allows waits until
    the certificate is there, and when that takes longer than `timeout`, gets what the store has; obtaining goes on.

    Args:
        steward: Obtains and renews; its source serves what was obtained.
        decide: Is given a host name, normalised, and returns whether a certificate for it may be obtained. It may take
            its time, and is asked again before each renewal.
        timeout: Seconds after which a handshake waits no more.
        threads: How many handshakes for new names may be worked on at once.
        max_waiting: How many handshakes for new names may wait; the store decides for those beyond.
        max_names: For how many names there may be certificates.
        max_new_names: How many names may be new within `period`.
        period: Seconds.
        is_served: Returns whether there is a certificate for a name already, from another source. Must be quick.
        clock: What measures the rate.

    Raises:
        TypeError: `decide` is no function.

    Threads: any.
    """

    def __init__(
        self,
        steward: Steward,
        decide: Callable[[str], bool],
        *,
        timeout: float = 30.0,
        threads: int = 4,
        max_waiting: int = 256,
        max_names: int = 1000,
        max_new_names: int = 10,
        period: float = 600.0,
        is_served: Callable[[str], bool] | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if not callable(decide):
            raise TypeError("on demand, certificates are obtained only for names that a function allows; give one")
        super().__init__(self._obtain, timeout=timeout, threads=threads, max_waiting=max_waiting)
        self._steward = steward
        self._decide = decide
        self._max_names = max_names
        self._is_served = is_served or (lambda _name: False)
        self._clock = clock
        self._names_lock = threading.Lock()
        self._asked: dict[str, float] = {}
        self._allowance = _Allowance(max_new_names, period, clock)
        self._logger = RateLimitedLogger(logging.getLogger("secureserve.error"), rate=1 / 60, burst=5)

    def __str__(self) -> str:
        return f"certificates on demand, as {getattr(self._decide, '__qualname__', 'a function')} allows"

    def ask(self, client_hello: Any) -> Future[Credential | None]:
        """Return at once what the answer will be in; None stands for the store, which has all that was obtained."""
        name = self._name_in_question(client_hello)
        if name is not None:
            return super().ask(client_hello)
        answer: Future[Credential | None] = Future()
        answer.set_result(None)
        return answer

    def _name_in_question(self, client_hello: Any) -> str | None:
        """Return the name that a certificate might have to be obtained for; None where the store decides."""
        if client_hello.server_name is None or _ACME_PROTOCOL in client_hello.alpn_protocols:
            return None
        try:
            name = server_names.normalise(client_hello.server_name)
        except ValueError:
            return None
        if name.startswith("*.") or server_names.address(name) is not None or "." not in name:
            return None
        with self._names_lock:
            is_known = name in self._asked
            if is_known:
                self._asked[name] = self._clock.monotonic()
        covers = self._steward.source.covers(name)
        if is_known:
            is_idle = self._steward.is_covered([name]) or (covers and self._steward.is_settled([name]))
        else:
            is_idle = covers or self._is_served(name)
        return None if is_idle else name

    def _obtain(self, client_hello: Any) -> Credential | None:
        """Have a certificate obtained, and wait for it."""
        name = server_names.normalise(client_hello.server_name)
        if not self._steward.source.covers(name) and not self._admit(name):
            return None
        self._steward.add_order([name], is_wanted=lambda: self._is_wanted(name))
        self._steward.wait_until_settled(self.timeout, [name])
        stored = self._stored(name)
        return None if stored is None or not self._steward.is_covered([name]) else stored.credential

    def _admit(self, name: str) -> bool:
        """Return whether a name that nobody looks after may have a certificate; count it if it is new."""
        if not self._allows(name, otherwise=False):
            self._logger.log(logging.DEBUG, "not allowed", "no certificate on demand for %s: it is not allowed", name)
            return False
        is_stored = self._stored(name) is not None
        with self._names_lock:
            if name in self._asked:
                return True
            if len(self._asked) >= self._max_names:
                message = "no certificate on demand for %s: there are %d already, as many as there may be"
                self._logger.log(logging.WARNING, "too many names", message, name, self._max_names)
                return False
            if not is_stored and not self._allowance.take():
                message = "no certificate on demand for %s: too many names are new at once; it may be asked for later"
                self._logger.log(logging.WARNING, "too many new names", message, name)
                return False
            self._asked[name] = self._clock.monotonic()
            return True

    def _is_wanted(self, name: str) -> bool:
        """Return whether a name is still asked for and allowed; forget it if not."""
        patience = _HOPE if self._stored(name) is None else _INTEREST
        with self._names_lock:
            asked = self._asked.get(name)
        is_asked_for = asked is not None and self._clock.monotonic() - asked <= patience
        # A database that is down for a moment must not cost anybody a certificate.
        if is_asked_for and self._allows(name, otherwise=True):
            return True
        with self._names_lock:
            self._asked.pop(name, None)
        return False

    def _allows(self, name: str, *, otherwise: bool) -> bool:
        """Return what the function decides; `otherwise` when it fails."""
        try:
            return self._decide(name)
        except Exception as error:
            message = "the function that decides on certificates on demand failed for %s"
            self._logger.log(logging.ERROR, "decision failed", message, name, exc_info=error)
            return otherwise

    def _stored(self, name: str) -> StoredCertificate | None:
        try:
            return self._steward.source.certificates.best([name])
        except CredentialError:
            return None


class _Allowance:
    """A bucket of tokens: so many at once, and so many within a period in the long run.

    Threads: one at a time.
    """

    def __init__(self, size: int, period: float, clock: Clock) -> None:
        self._size = size
        self._rate = size / period
        self._clock = clock
        self._tokens = float(size)
        self._updated = clock.monotonic()

    def take(self) -> bool:
        """Take one, if there is one."""
        now = self._clock.monotonic()
        self._tokens = min(self._size, self._tokens + (now - self._updated) * self._rate)
        self._updated = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
