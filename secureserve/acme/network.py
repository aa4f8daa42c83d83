"""The library's network, kept within bounds: https alone, a deadline for each request, a size for each answer."""

from __future__ import annotations

import contextlib
import importlib.metadata
import re
from typing import TYPE_CHECKING, Any, Final

from secureserve.acme import problems
from secureserve.acme.protocol import client, errors, requests
from secureserve.acme.waiting import call_within
from secureserve.errors import IssuanceError

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    from secureserve.acme.authorities import Authority
    from secureserve.acme.protocol import JWK, JWASignature
    from secureserve.clock import Clock

__all__ = ["Network", "Session"]

REQUEST_TIMEOUT: Final = 45.0
"""Seconds for a request as a whole, from looking up the host to the last byte of the answer."""
STEP_TIMEOUT: Final = 30
"""Seconds for each step of it."""
MAX_RESPONSE_SIZE: Final = 512 * 1024
"""Bytes. A chain of certificates has some ten thousand, an order of a hundred names as many."""
USER_AGENT: Final = f"secureserve/{importlib.metadata.version('secureserve')} acme/{importlib.metadata.version('acme')}"
"""Who we are, as RFC 8555, 6.1 wants it: with the library that we are built on. It is found out at once, since a server
that has become another user may not be able to read where it is installed."""
NONCE_ATTEMPTS: Final = 16
"""How often a request is sent while nothing but its nonce is refused. Eight were too few for an authority that refuses
two of five, as test authorities do: one order in a hundred failed."""

_NONCE: Final = re.compile(r"[A-Za-z0-9_-]+")
"""RFC 8555, 6.5.1."""


class Network(client.ClientNetwork):
    """The library's network, which repeats a request as often as it takes when nothing but its nonce was refused.

    Args:
        session: What sends its requests.
        key: The account's key; None to sign nothing.
        algorithm: How it signs.
    """

    def __init__(self, session: Session, key: JWK | None, algorithm: JWASignature) -> None:
        super().__init__(key, alg=algorithm, user_agent=USER_AGENT, timeout=STEP_TIMEOUT)
        self.session.close()
        self.session = self._session = session

    def post(self, *args: Any, **kwargs: Any) -> requests.Response:
        """Post a signed request, once more for each nonce that is refused, with the one that came in its place.

        The library would do so once, for errors of its own; the session raises ours before.

        Raises:
            IssuanceError: The authority refuses more than a nonce.
        """
        for _ in range(NONCE_ATTEMPTS - 1):
            try:
                return super().post(*args, **kwargs)
            except IssuanceError as error:
                if error.problem_name != "badNonce":
                    raise
                self._take_nonce()
        return super().post(*args, **kwargs)

    def _take_nonce(self) -> None:
        """Use the nonce that came with the error next (RFC 8555, 6.5); where none did, a new one is fetched."""
        # What else there is is as old as the one that was refused.
        self._nonces.clear()
        refusal = self._session.refusal
        # What is no nonce has to be ignored (6.5.1); the library reads base64url out of anything.
        if _NONCE.fullmatch(refusal.headers.get(self.REPLAY_NONCE_HEADER, "")):
            with contextlib.suppress(errors.NonceError):
                self._add_nonce(refusal)


class Session(requests.Session):
    """A session that speaks https alone, within bounds, and raises what is no success as an `IssuanceError`.

    Args:
        authority: To whom.
        clock: What dates in Retry-After are compared with.
        cancelled: Set when no further request is to be sent.
        timeout: Seconds for each request as a whole.

    Attributes:
        doing: What is being done, as a clause, for errors.
        refusal: The last answer that was no success; an empty one as long as all were.
    """

    def __init__(self, authority: Authority, clock: Clock, cancelled: threading.Event, timeout: float) -> None:
        super().__init__()
        del self.adapters["http://"]
        self.headers["Accept-Encoding"] = "identity"
        self.doing = ""
        self.refusal = requests.Response()
        self._authority = authority
        self._clock = clock
        self._cancelled = cancelled
        self._timeout = timeout

    def request(self, method: Any, url: Any, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request and return the answer, which is there as a whole.

        Raises:
            IssuanceError: The answer is no success, too large, or too late.
            requests.exceptions.RequestException: There is none.
        """
        if self._cancelled.is_set():
            raise IssuanceError(f"{self._authority}: {self.doing} was called off.")
        kwargs |= {"allow_redirects": False, "stream": True, "verify": self._authority.ca_file or True}

        def send() -> requests.Response:
            response = super(Session, self).request(method, url, *args, **kwargs)
            response.raw = _Bounded(response.raw, self._authority, self.doing)
            try:
                # Reading it here has it read before the deadline.
                _ = response.content
            except BaseException:
                response.close()
                raise
            return response

        try:
            response = call_within(self._timeout, send, name="secureserve-acme-request")
        except TimeoutError:
            self.close()
            raise requests.exceptions.Timeout(f"no answer within {self._timeout:g} s") from None
        if not response.ok or response.is_redirect:
            self.refusal = response
            raise problems.response_error(self._authority, self.doing, response, self._clock)
        return response


class _Bounded:
    """The body of an answer, which ends in an error where it is too large."""

    def __init__(self, raw: Any, authority: Authority, doing: str) -> None:
        self._raw = raw
        self._authority = authority
        self._doing = doing

    def stream(self, *args: Any, **kwargs: Any) -> Iterator[bytes]:
        """Give it piece by piece."""
        size = 0
        for piece in self._raw.stream(*args, **kwargs):
            size += len(piece)
            if size > MAX_RESPONSE_SIZE:
                remedy = "Check that acme_directory is the URL of an ACME directory."
                raise IssuanceError(
                    f"{self._authority}: {self._doing}: its answer has more than {MAX_RESPONSE_SIZE} bytes. {remedy}",
                    remedy=remedy,
                )
            yield piece

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)
