"""What a running server listens at besides its own address: its control socket, and the port that redirects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from secureserve.errors import StartFailed
from secureserve.managed.adapter import ServerAdapter
from secureserve.managed.building import change_httpserver, make_redirector
from secureserve.managed.handover import adopted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from secureserve.managed.control import ControlSocket
    from secureserve.managed.server import Server

__all__ = ["SideListeners"]

_SHARED: Final = frozenset({"max_request_header_size", "shutdown_timeout"})
"""Reloadable attributes of the server that hold for the redirecting port as well."""


class SideListeners:
    """The side listeners of one server, as its attributes ask for them.

    Args:
        server: The server.

    Threads: whoever starts or stops the server.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._control: ControlSocket | None = None
        self._redirector: ServerAdapter | None = None

    def start_control(self) -> None:
        """Listen at the control socket, if there is to be one.

        Raises:
            ConfigurationError: The path cannot be one of a socket.
            StartFailed: Another server listens there, or the directory does not permit it.
        """
        if self._server.control_socket is None:
            return
        from secureserve.managed.control import ControlSocket, commands_of

        control = ControlSocket(self._server.control_socket, commands_of(self._server))
        control.start()
        self._control = control

    def give_control_to(self, user: int, group: int) -> None:
        """Give the control socket, where there is one, to the user that this process is about to become.

        Args:
            user: The user's id.
            group: The group's id.

        Raises:
            OSError: It is not ours to give.
        """
        if self._control is not None:
            self._control.give_to(user, group)

    def start_redirector(self, serves: Callable[[str], bool]) -> None:
        """Listen at the redirecting port, if there is to be one.

        Args:
            serves: Tells whether a host is served over https.

        Raises:
            StartFailed: The port cannot be had.
        """
        server = self._server
        if server.redirect_port is None:
            return
        address = (server.socket_host, server.redirect_port)
        with adopted(address) as handed_over:
            httpserver = make_redirector(
                server, address, server.bound_addr[1], serves, challenges=server.acme_challenges, listeners=handed_over
            )
            redirector = ServerAdapter(server.engine, httpserver, address, start_timeout=server.start_timeout)
            try:
                redirector.start()
            except StartFailed as error:
                # To who binds it, every port is the socket_port.
                raise StartFailed(str(error).replace("socket_port", "redirect_port")) from error
        self._redirector = redirector

    def change(self, changed: Mapping[str, Any]) -> None:
        """Have the redirecting port do what reloadable attributes say now.

        Args:
            changed: The new values by the attribute's name.
        """
        if self._redirector is not None:
            ours = {name: value for name, value in changed.items() if name in _SHARED}
            change_httpserver(self._redirector.httpserver, ours)

    def hand_over(self) -> None:
        """Put the redirecting port's sockets into the engine's environment for a restart."""
        if self._redirector is not None:
            self._redirector.hand_over()

    def stop_redirector(self) -> None:
        """Redirect no more.

        Raises:
            StopTimedOut: It did not stop in time.
        """
        if self._redirector is not None:
            self._redirector.stop()

    def release(self) -> None:
        """Let go of the control socket, and of the redirecting server, which has been stopped."""
        control, self._control = self._control, None
        self._redirector = None
        if control is not None:
            control.stop()
