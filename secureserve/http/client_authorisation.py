"""Rules about verified clients, in front of an application: 403 to who may not, ``REMOTE_USER`` for who may."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from secureserve.tls.authorisation import ClientAuthorisation, remote_user

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from secureserve.tls.authorisation import Rule

__all__ = ["AuthoriseClients"]

_ANSWER = b"Your certificate does not allow this.\n"


class AuthoriseClients:
    """A WSGI application that lets only some verified clients through to another.

    It looks at ``environ["secureserve.tls"]``, which every server and adapter of this package sets, and which no header
    of a client can become.

    Args:
        application: The application behind.
        allow: The rules, for everything or by path, as `ClientAuthorisation` takes them; None lets everybody through.
        remote_user_field: The variable from which ``REMOTE_USER`` is set, such as ``SSL_CLIENT_S_DN_CN``; with it,
            ``REMOTE_USER`` is there for verified clients only. None leaves it alone.

    Raises:
        ConfigurationError: A rule that is none.

    Threads: any, all at once.
    """

    def __init__(
        self,
        application: Callable[..., Iterable[bytes]],
        allow: Iterable[Rule] | Mapping[str, Iterable[Rule]] | None = None,
        *,
        remote_user_field: str | None = None,
    ) -> None:
        self._application = application
        self._authorisation = None if allow is None else ClientAuthorisation(allow)
        self._remote_user_field = remote_user_field

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer 403, or let the application answer."""
        info = environ.get("secureserve.tls")
        path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
        if self._authorisation is not None and not self._authorisation.allows(info, path):
            headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(_ANSWER)))]
            start_response("403 Forbidden", headers)
            return [_ANSWER]
        if self._remote_user_field is not None:
            environ.pop("REMOTE_USER", None)
            user = remote_user(info, self._remote_user_field)
            if user is not None:
                environ["REMOTE_USER"] = user
        return self._application(environ, start_response)
