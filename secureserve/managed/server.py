"""The managed server: every option is an attribute, and from them one HTTP server is built, started and stopped."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

from secureserve.errors import ConfigurationErrors, LifecycleError, SecureServeError
from secureserve.events import Events, ServerReady, ServerStopped
from secureserve.managed.acme import Answers
from secureserve.managed.building import (
    application_of,
    change_httpserver,
    check_tls,
    given_server,
    is_recipe,
    make_httpserver,
    unix_owner_of,
)
from secureserve.managed.contradictions import contradictions, refuse_contradictions
from secureserve.managed.engine import Engine, State
from secureserve.managed.handover import adopted
from secureserve.managed.importing import resolve
from secureserve.managed.older import OlderSpellings, deprecated
from secureserve.managed.settings import SETTINGS
from secureserve.managed.side_listeners import SideListeners
from secureserve.managed.switch_interval import SwitchInterval
from secureserve.managed.urls import url_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, MutableMapping, Sequence
    from types import TracebackType

    from secureserve.certificates.credential import Credential
    from secureserve.certificates.manager import CertificatesView
    from secureserve.certificates.rotation import Outcome
    from secureserve.front.listener import Listener
    from secureserve.managed.acme_layer import ACMELayer
    from secureserve.managed.subscriber import Subscription
    from secureserve.managed.tls import TLSLayer

__all__ = ["Server"]

GRACEFUL_PRIORITY: Final = 25

OBTAIN_PRIORITY: Final = 78
"""After privileges have been dropped: what is obtained is written by, and belongs to, the user who serves."""


class Server(OlderSpellings):
    """A managed HTTPS server: not itself an HTTP server, but what configures, builds, starts and stops one.

    ```
    with Server(app, socket_port=0, ssl_certificate="chain.pem", ssl_private_key="key.pem") as server:
        print(server.base())
    ```

    Args:
        application: The WSGI callable, or its name as module:attribute.
        engine: The engine to start and stop with; None makes one of its own.
        settings: Any attribute.

    Attributes:
        events: Where rotations, refused handshakes and the rest of `secureserve.events` are published.

    Raises:
        ConfigurationError: A setting that there is not, or that cannot have this value.

    Threads: as `ServerAdapter`.
    """

    def __init__(self, application: Any = None, *, engine: Engine | None = None, **settings: Any) -> None:
        self._owns_engine = engine is None
        super().__init__(Engine() if engine is None else engine)
        self.events = Events()
        self._answers = Answers()
        self._tls: TLSLayer | None = None
        self._side_listeners = SideListeners(self)
        self._built = False
        self._switch_interval = SwitchInterval()
        if application is not None:
            settings["application"] = application
        self.set(settings)

    def __enter__(self) -> Server:  # noqa: PYI034 - Self comes with Python 3.11
        """Start the server; within the block it answers."""
        if self._owns_engine:
            self.subscribe()
            try:
                self.engine.start()
            except BaseException:
                self.unsubscribe()
                raise
        else:
            self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop it; after the block its port is free. What broke the server meanwhile is raised."""
        if not self._owns_engine:
            self.stop()
            return
        try:
            self.engine.exit()
        finally:
            self.unsubscribe()
        if error is None and self.engine.failure is not None:
            raise self.engine.failure

    @property
    def certificates(self) -> CertificatesView:
        """What certificates are served, and what was refused; empty while the server does not run TLS."""
        from secureserve.certificates.manager import CertificatesView

        return CertificatesView((), (), None, emergency=False) if self._tls is None else self._tls.manager.certificates

    @property
    def acme_challenges(self) -> MutableMapping[str, str]:
        """Proofs by token, for http-01 challenges that arrive at `redirect_port`."""
        return self._answers.http

    @property
    def alpn_challenges(self) -> MutableMapping[str, Credential]:
        """Credentials by server name, for tls-alpn-01 challenges that arrive at the TLS port."""
        return self._answers.tls

    @property
    def acme(self) -> ACMELayer | None:
        """What obtains its certificates from an ACME authority; None unless it runs, with `acme_domain` set."""
        return None if self._tls is None else self._tls.acme

    def base(self) -> str:
        """Return the URL that the server is reached at, or the path of its unix socket."""
        address = self.bound_addr
        return address if isinstance(address, str) else url_of(address, secure=self._speaks_tls())

    def problems(self) -> tuple[SecureServeError, ...]:
        """Return everything that would keep it from starting, as far as that shows without binding or starting."""
        found: list[SecureServeError] = list(contradictions(self.values()))
        for look in (application_of, check_tls, unix_owner_of, given_server):
            try:
                look(self)
            except ConfigurationErrors as error:
                found.extend(error.problems)
            except SecureServeError as error:
                found.append(error)
        return tuple(dict.fromkeys(found))

    def quickstart(self, application: Any = None) -> None:
        """Build the HTTP server and start it; return when it is ready.

        Args:
            application: What it serves; None leaves the attribute as it is.

        Raises:
            ConfigurationError: Settings that cannot be honoured.
            CredentialError: A certificate that cannot be served.
            StartFailed: It did not become ready.
        """
        if application is not None:
            self.application = application
        self.blocking = False
        self.subscribe()
        self.start()

    def start(self, init_only: bool | None = None) -> None:  # noqa: FBT001 - as published
        """Build the HTTP server from the attributes, start it, and return when it is ready. Harmless while it runs.

        Args:
            init_only: Older spelling: True is `quickstart`, False starts and blocks as `secureserve.serve` does.

        Raises:
            ConfigurationError: Settings that cannot be honoured.
            CredentialError: A certificate that cannot be served.
            StartFailed: It did not become ready.
        """
        if init_only is not None:
            newer = "server.quickstart()" if init_only else "secureserve.serve()"
            deprecated(f"server.start(init_only={init_only})", newer)
            self._start_as_of_old(init_only=init_only)
            return
        with self._lifecycle:
            if self.running:
                super().start()
                return
            with contextlib.ExitStack() as handed_over:
                try:
                    self._build(handed_over)
                    self._switch_interval.set(self.thread_switch_interval)
                    super().start()
                    self._start_companions()
                except BaseException:
                    self._release()
                    raise
            if self.engine.state is not State.STARTING or self._obtain not in self.engine.listeners("start"):
                self._obtain_or_stop()
        self.events.publish(ServerReady(self.base()))

    def stop(self) -> None:
        """Stop the HTTP server, and return when its threads have ended and its port is free. Harmless when it has.

        Raises:
            StopTimedOut: It did not stop within `shutdown_timeout` and a few seconds.
        """
        with self._lifecycle:
            if not self.running:
                return
            base = self.base()
            try:
                if self.acme is not None:
                    self.acme.stop()
                self._side_listeners.stop_redirector()
            finally:
                try:
                    super().stop()
                finally:
                    self._release()
        self.events.publish(ServerStopped(base))

    def hand_over(self) -> None:
        """Put the listening sockets, the redirecting port's too, into the engine's environment for a restart."""
        super().hand_over()
        self._side_listeners.hand_over()

    def graceful(self) -> None:
        """Reload the certificates, as the engine's ``graceful`` asks.

        Raises:
            LifecycleError: New ones were refused; those served before still are.
        """
        if not self.running or self._tls is None:
            return
        outcome = self.reload_certificates("graceful")
        if not outcome.ok:
            reasons = "; ".join(refused.message for refused in self.certificates.refused)
            message = f"{self.base()} keeps the certificates it has: {reasons}"
            raise LifecycleError(message)

    def reload_certificates(
        self, reason: str = "api", *, force: bool = False, revoke_sessions: bool = False
    ) -> Outcome:
        """Look at the certificates' sources now. When this returns, what is new and good is served to new handshakes.

        Args:
            reason: What made us look, for logs and events.
            force: Serve it even if it covers fewer names than what it replaces, or was issued before it.
            revoke_sessions: Let no TLS session from before be resumed: after a key was stolen.

        Raises:
            LifecycleError: It runs no TLS.
        """
        if self._tls is None:
            message = f"{self.base()} serves no certificates: start it, with ssl_certificate set."
            raise LifecycleError(message)
        return self._tls.manager.reload(reason, force=force, revoke_sessions=revoke_sessions)

    def give_control_to(self, user: int, group: int) -> None:
        """Give the control socket, where there is one, to the user that this process is about to become.

        Args:
            user: The user's id.
            group: The group's id.

        Raises:
            OSError: It is not ours to give.
        """
        self._side_listeners.give_control_to(user, group)

    def change(self, values: Mapping[str, Any]) -> tuple[str, ...]:
        """Set attributes of a running server, all or none; those that can be are in force at once.

        Args:
            values: Names and values.

        Returns:
            The names of those that wait for the next start.

        Raises:
            ConfigurationError: One of them is impossible; nothing has changed.
        """
        before = self.values()
        wanted = self.require_possible(values)
        changed = {name: value for name, value in wanted.items() if before[name] != value}
        self.set(wanted)
        if self.running and self._built:
            self._put_into_force(changed)
        return tuple(name for name in changed if self.running and not self._can_change(name))

    def httpserver_from_self(self, httpserver: Any = None) -> tuple[Any, Any]:
        """Return the HTTP server that the attributes describe, and its address.

        Args:
            httpserver: One to use instead of `instance`: an object, a class, or the dotted name of either.

        Raises:
            ConfigurationError: Settings that cannot be honoured.
            CredentialError: A certificate that cannot be served.
        """
        given = given_server(self) if httpserver is None else resolve("instance", httpserver)
        if given is None:
            return self._make_httpserver(()), self.bind_addr
        return (given(self) if is_recipe(given) else given), self.bind_addr

    def _subscriptions(self) -> Iterable[Subscription]:
        yield from super()._subscriptions()
        yield "graceful", self.graceful, GRACEFUL_PRIORITY
        yield "start", self._obtain, OBTAIN_PRIORITY

    def _asked_for(self) -> Any:
        """Return where the server is to listen: its own word, where it was given ready-made."""
        own = None if self._built else getattr(self.httpserver, "bind_addr", None)
        return self.bind_addr if own is None else own

    def _speaks_tls(self) -> bool:
        from secureserve.managed.tls import is_wanted

        if self.httpserver is not None and self.running:
            return getattr(self.httpserver, "ssl_adapter", None) is not None
        return is_wanted(self.values())

    def _build(self, handed_over: contextlib.ExitStack) -> None:
        """Make the HTTP server; the stack is to be unwound when it has what the program before this one left for it."""
        if self.httpserver is not None and not self._built:
            return
        given = given_server(self)
        if given is None:
            refuse_contradictions(self.values())
            listeners = handed_over.enter_context(adopted(self.bind_addr))
            self.httpserver, self._built = self._make_httpserver(listeners), True
        else:
            self._built = is_recipe(given)
            self.httpserver = given(self) if self._built else given

    def _make_httpserver(self, listeners: Sequence[Listener]) -> Any:
        return make_httpserver(
            self, self.bind_addr, make_tls=self._make_tls, listeners=listeners, publish=self.events.publish
        )

    def _make_tls(self) -> TLSLayer | None:
        from secureserve.managed import tls

        values = self.values()
        self._tls = tls.build(values, self.events.publish, self._answers) if tls.is_wanted(values) else None
        return self._tls

    def _start_companions(self) -> None:
        """Start what belongs to a running server: the watch over its certificates, its control socket, its redirect."""
        tls = self._tls
        try:
            if tls is not None:
                tls.start()
            self._side_listeners.start_control()
            if self._built:
                self._side_listeners.start_redirector(lambda host: tls is not None and tls.serves(host))
        except BaseException:
            super().stop()
            raise

    def _obtain(self) -> None:
        """Have certificates be obtained from now on, and wait for the first ones where that is asked for."""
        if self.acme is None or not self.running:
            return
        self.acme.start()
        if self.acme_wait:
            self.acme.wait_until_covered(self.acme_wait, give_up=lambda: self.engine.exit_wanted)

    def _obtain_or_stop(self) -> None:
        try:
            self._obtain()
        except BaseException:
            self.stop()
            raise

    def _release(self) -> None:
        """Let go of what belongs to a server that no longer runs."""
        self._switch_interval.restore()
        tls, self._tls = self._tls, None
        self._side_listeners.release()
        if tls is not None:
            tls.close()
        if self._built:
            self.httpserver = None
            self._built = False

    def _can_change(self, name: str) -> bool:
        """Return whether a setting of a running server can be changed."""
        return SETTINGS[name].reloadable and (name != "acme_domain" or self.acme is not None)

    def _put_into_force(self, changed: Mapping[str, Any]) -> None:
        if "acme_domain" in changed and self.acme is not None:
            self.acme.steward.set_orders(changed["acme_domain"])
        change_httpserver(self.httpserver, changed)
        self._side_listeners.change(changed)
