"""Answering an authority's challenges at a server's ports while the server itself does not run."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from secureserve.errors import StartFailed
from secureserve.managed.acme import Answers, challenge_types, solvers_from
from secureserve.managed.adapter import ServerAdapter
from secureserve.managed.building import make_redirector
from secureserve.managed.server import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from secureserve.acme.solvers import Solver

__all__ = ["standing_in"]

_SETTINGS = (
    "socket_host",
    "socket_port",
    "socket_file",
    "socket_mode",
    "socket_owner",
    "socket_queue_size",
    "socket_timeout",
    "ssl_module",
    "proxy_protocol",
    "proxy_allow_ips",
)
"""What a listener that takes the server's place has in common with it."""


@contextlib.contextmanager
def standing_in(values: Mapping[str, Any]) -> Iterator[list[Solver]]:
    """Listen where a server would, serve nothing but answers to challenges, and yield what answers them.

    Where only one of the two ports can be had, its kind of challenge is answered alone.

    Args:
        values: Every setting of the server.

    Raises:
        StartFailed: No challenge that the settings allow can be answered.
    """
    from secureserve.certificates.development import self_signed_credential

    wanted = challenge_types(values)
    types = [kind for kind in wanted if kind == "dns-01"]
    failures: list[StartFailed] = []
    server = Server(
        _nothing,
        certificate_sources=[self_signed_credential()],
        thread_pool=1,
        **{name: values[name] for name in _SETTINGS},
    )
    with contextlib.ExitStack() as stack:
        if "tls-alpn-01" in wanted and _listening(stack, server, failures):
            types.append("tls-alpn-01")
        if "http-01" in wanted and _listening(stack, _plain(server, values), failures):
            types.append("http-01")
        if not types:
            reasons = " ".join(str(failure) for failure in failures)
            message = (
                f"No challenge can be answered: {reasons} If a server of ours runs there, reach it by "
                "--control-socket; otherwise stop what listens there, or prove the names by --acme-dns-hook."
            )
            raise StartFailed(message)
        yield solvers_from(values, Answers(server.acme_challenges, server.alpn_challenges), types)


def _listening(stack: contextlib.ExitStack, adapter: ServerAdapter, failures: list[StartFailed]) -> bool:
    """Have a server run until the stack is unwound; return whether it does."""
    try:
        adapter.start()
    except StartFailed as error:
        failures.append(error)
        return False
    stack.callback(adapter.stop)
    return True


def _plain(server: Server, values: Mapping[str, Any]) -> ServerAdapter:
    """Return what answers http-01 beside `server`."""
    address = (values["socket_host"], values["redirect_port"])
    httpserver = make_redirector(
        server, address, server.socket_port, lambda _host: False, challenges=server.acme_challenges, listeners=()
    )
    return ServerAdapter(server.engine, httpserver, address)


def _nothing(_environ: object, start_response: Callable[..., object]) -> Iterable[bytes]:
    """Be an application that has nothing."""
    start_response("503 Service Unavailable", [("Content-Length", "0")])
    return []
