"""`CertificateManager`: sources, store, rotator, watcher and expiry warnings as one thing that starts and stops."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from secureserve.certificates.development import DEFAULT_NAMES, self_signed_credential
from secureserve.certificates.expiry import ExpiryWatch, in_words
from secureserve.certificates.on_demand import CallableSource
from secureserve.certificates.rotation import Outcome, Rotator
from secureserve.certificates.sources import MemorySource
from secureserve.certificates.store import CertificateStore
from secureserve.certificates.trust import Acceptor, TrustKeeper
from secureserve.certificates.verdict import EMERGENCY
from secureserve.certificates.view import CertificatesView
from secureserve.certificates.watch import FileWatcher
from secureserve.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from secureserve.certificates.sources import CredentialSource
    from secureserve.clock import Clock

__all__ = ["Acceptor", "CertificateManager", "CertificatesView"]

_LOGGER: Final = logging.getLogger("secureserve.error")

SETTLE_TIMEOUT: Final = 3.0
"""Seconds that files which do not fit together are given to be completed, before that is called an error."""

_LONGEST_NAP: Final = 3600.0
"""Seconds after which dates are looked at again whatever was computed: wall clocks are set, and machines suspended."""


class CertificateManager:
    """Looks after the certificates of one server.

    Args:
        sources: Where they come from; the first one's first is the default. One `CallableSource` may be among them.
        store: Where they are published; None makes one.
        sni_strict: For a store that is made here: refuse names that no certificate covers.
        clock: What tells the time that certificates are judged by.
        publish_event: Told of rotations, refusals and coming ends.
        watch: Whether to notice changed files.
        polling_interval: Seconds between looks at the files' content, where notifications do not reach (NFS);
            0: notifications.
        settle_timeout: Seconds that files which do not fit together are given to be completed.
        emergency: Serve a self-signed certificate when what is configured cannot be loaded at the start.
        emergency_names: What that one is for.

    Threads: any. `start` makes two daemon threads (one where nothing is watched), and `stop` ends them.
    """

    def __init__(
        self,
        sources: Sequence[CredentialSource],
        *,
        store: CertificateStore | None = None,
        sni_strict: bool = False,
        clock: Clock = SYSTEM_CLOCK,
        publish_event: Callable[[object], None] | None = None,
        watch: bool = True,
        polling_interval: float = 0.0,
        settle_timeout: float = SETTLE_TIMEOUT,
        emergency: bool = False,
        emergency_names: Sequence[str] = DEFAULT_NAMES,
    ) -> None:
        self.store = CertificateStore(sni_strict=sni_strict, clock=clock) if store is None else store
        self._asked_first = next((source for source in sources if isinstance(source, CallableSource)), None)
        self.store.asked_first = self._asked_first
        self.rotator = Rotator(self.store, sources, clock=clock, publish_event=publish_event)
        self._clock = clock
        self._publish_event = publish_event
        self._settle_timeout = settle_timeout
        self._emergency = emergency
        self._emergency_names = emergency_names
        self._loaded = False
        self._trust = TrustKeeper(clock, publish_event)
        self._expiry = ExpiryWatch()
        self._mark = _EmergencyMark()
        self._watcher = FileWatcher(self._paths, self._files_changed, polling_interval=polling_interval)
        self._watching = watch
        self._wake = threading.Condition()
        self._changed = False
        self._nudged = False
        self._stopping = False
        self._thread: threading.Thread | None = None

    @property
    def certificates(self) -> CertificatesView:
        """What is served and what was refused."""
        served, refusals = self.rotator.status()
        refusals = (*refusals, *self._trust.refusals())
        return CertificatesView.of(served, refusals, self.store.snapshot.default, self._clock.now())

    @property
    def in_emergency(self) -> bool:
        """Whether a self-signed certificate is served because the configured one could not be."""
        return any(served.place == EMERGENCY for served in self.rotator.served())

    def load(self) -> None:
        """Load everything for the first time, so that what is wrong is known before a port is opened.

        Raises:
            CredentialError: What the sources hold cannot be served.
        """
        if self._loaded:
            return
        self.rotator.load(emergency=self._make_emergency_credential if self._emergency else None)
        self._loaded = True
        self._mark_log()
        if self.in_emergency:
            for refusal in self.rotator.refusals():
                _LOGGER.critical(
                    "serving a self-signed certificate, because the configured one cannot be: %s",
                    refusal.error,
                )

    def start(self) -> None:
        """Load, where that has not been done, and begin to notice changes and approaching ends. Harmless when started.

        Raises:
            CredentialError: What the sources hold cannot be served.
        """
        self.load()
        with self._wake:
            if self._thread is not None:
                return
            self._stopping = False
            self._thread = threading.Thread(target=self._run, name="secureserve-certificates", daemon=True)
            self._thread.start()
        if self._asked_first is not None:
            self._asked_first.start()
        for source in self.rotator.sources:
            if isinstance(source, MemorySource):
                source.subscribe(self._memory_changed)
        if self._watching and self._paths():
            self._watcher.start()

    def stop(self) -> None:
        """End the threads; when this returns they have ended. What is in the store stays. Harmless when stopped."""
        for source in self.rotator.sources:
            if isinstance(source, MemorySource):
                source.unsubscribe(self._memory_changed)
        if self._asked_first is not None:
            self._asked_first.stop()
        self._watcher.stop()
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
            thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        _LOGGER.removeFilter(self._mark)

    def reload(self, reason: str = "api", *, force: bool = False, revoke_sessions: bool = False) -> Outcome:
        """Look at the sources now. When this returns, what is new and good is served to new handshakes.

        Args:
            reason: What made us look, for logs and events.
            force: Serve it even if it covers fewer names than what it replaces, or was issued before it.
            revoke_sessions: Let no TLS session from before be resumed: after a key was stolen.
        """
        outcome = self.rotator.reload(reason, force=force)
        self._mark_log()
        refused = self._trust.reload(reason)
        if revoke_sessions:
            for acceptor in self._trust.acceptors:
                acceptor.forget_sessions(reason)
        self._nudge()
        return replace(outcome, refused=outcome.refused + refused)

    def add_acceptor(self, acceptor: Acceptor, *, trust_paths: Sequence[Path] = ()) -> None:
        """Look after an acceptor's session keys and client trust as well.

        Args:
            acceptor: Whose store is this manager's.
            trust_paths: The files of client authorities and revocation lists, to be watched with the certificates.
        """
        self._trust.add(acceptor, trust_paths)

    def _paths(self) -> list[Path]:
        of_sources = [path for source in self.rotator.sources for path in source.paths()]
        return of_sources + self._trust.paths()

    def _make_emergency_credential(self) -> Any:
        _LOGGER.addFilter(self._mark)
        return self_signed_credential(self._emergency_names, now=self._clock.now())

    def _memory_changed(self) -> None:
        self.rotator.reload("memory")
        self._mark_log()
        self._nudge()

    def _mark_log(self) -> None:
        """Have every line of the log say so while an emergency certificate is served."""
        if self.in_emergency:
            _LOGGER.addFilter(self._mark)
        else:
            _LOGGER.removeFilter(self._mark)

    def _files_changed(self) -> None:
        with self._wake:
            self._changed = True
            self._wake.notify_all()

    def _nudge(self) -> None:
        """Have the thread look at the dates again: they are others now."""
        with self._wake:
            self._nudged = True
            self._wake.notify_all()

    def _run(self) -> None:
        settle_by: float | None = None
        while True:
            self._warn_of_ends()
            with self._wake:
                if not (self._changed or self._nudged or self._stopping):
                    self._wake.wait(self._nap(settle_by))
                if self._stopping:
                    return
                changed, self._changed, self._nudged = self._changed, False, False
            try:
                settle_by = self._look(settle_by, changed=changed)
                self._mark_log()
            except Exception:
                # A source of the program's own may raise anything. The next change is another chance.
                _LOGGER.exception("looking for new certificates failed; what was served still is")
                settle_by = None

    def _look(self, settle_by: float | None, *, changed: bool) -> float | None:
        """Reload if that is called for, and return until when what is incomplete may complete itself."""
        now = self._clock.monotonic()
        if settle_by is not None and now >= settle_by:
            self._trust.reload_changed()
            self.rotator.reload("watch")
            return None
        if changed:
            pending = self._trust.reload_changed(tentative=True)
            if not self.rotator.reload("watch", tentative=True).pending and not pending:
                return None
            return now + self._settle_timeout if settle_by is None else settle_by
        retry_at = self.rotator.retry_at()
        if retry_at is not None and retry_at <= self._clock.now():
            self.rotator.reload("clock")
        return settle_by

    def _nap(self, settle_by: float | None) -> float:
        """Return for how many seconds there is nothing to do."""
        now = self._clock.now()
        served = [(one.place, one.credential) for one in self.rotator.served()]
        moments = (self._expiry.next_due(served, now), self.rotator.retry_at())
        naps = [(moment - now).total_seconds() for moment in moments if moment is not None]
        if settle_by is not None:
            naps.append(settle_by - self._clock.monotonic())
        return max(0.0, min([*naps, _LONGEST_NAP]))

    def _warn_of_ends(self) -> None:
        served = [(one.place, one.credential) for one in self.rotator.served()]
        for warning in self._expiry.due(served, self._clock.now()):
            names = ", ".join(warning.names) or "no name"
            if warning.remaining <= 0:
                _LOGGER.error("the certificate of %s for %s HAS EXPIRED and is still served", warning.place, names)
            else:
                left = in_words(warning.remaining)
                _LOGGER.warning("the certificate of %s for %s expires in %s", warning.place, names, left)
            if self._publish_event is not None:
                self._publish_event(warning)


class _EmergencyMark(logging.Filter):
    """Puts the emergency in front of each line."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg = f"EMERGENCY CERTIFICATE: {record.msg}"
        return True
