"""Every exception of the package, in one tree that says first whose fault it was.

`ConfigurationError` and `LifecycleError` are the caller's, `CredentialError` is in the files, `PeerError` came over the
wire, `IssuanceError` from a certificate authority. Each names the thing, the value and what to do about it. No message
and no attribute holds key material, a password or a token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from datetime import datetime

__all__ = [
    "AlreadyStarted",
    "BadRequest",
    "BodyTooLarge",
    "BodyTruncated",
    "ChainBroken",
    "ConfigurationError",
    "ConfigurationErrors",
    "CredentialError",
    "Expired",
    "HandshakeFailed",
    "HeadTooLarge",
    "IssuanceError",
    "KeyMismatch",
    "LifecycleError",
    "NameNotCovered",
    "NoCredential",
    "NotYetValid",
    "OlderThanServed",
    "Overloaded",
    "PeerError",
    "PeerTimeout",
    "PlainHTTPOnTLSPort",
    "ProxyHeaderError",
    "SecureServeError",
    "StartFailed",
    "StopTimedOut",
    "StorageError",
    "UnreadableCertificate",
    "UnreadableKey",
    "UsageNotAllowed",
    "WeakKey",
]


class SecureServeError(Exception):
    """The base of every error that this package raises on purpose."""


class ConfigurationError(SecureServeError, ValueError):
    """A setting that cannot be honoured. It is a ValueError as well, which is what CherryPy raises for one.

    Args:
        key: The setting's one name, such as ``socket_port``.
        value: What it was set to. Never pass a secret: pass ``None`` and describe it in `problem`.
        problem: What is wrong with it, as a clause (``is not a port``).
        remedy: What to write instead, as a sentence.
        file: The configuration file it came from.
        line: Its line in that file, counted from 1.
    """

    def __init__(
        self,
        key: str,
        value: object,
        problem: str,
        remedy: str = "",
        *,
        file: str | os.PathLike[str] | None = None,
        line: int | None = None,
    ) -> None:
        self.key = key
        self.value = value
        self.problem = problem
        self.remedy = remedy
        self.file = file
        self.line = line
        place = "" if file is None else f"{file}: " if line is None else f"{file}:{line}: "
        shown = "" if value is None else f" = {value!r}"
        super().__init__(f"{place}{key}{shown} {problem}." + (f" {remedy}" if remedy else ""))


class ConfigurationErrors(ConfigurationError):
    """Everything that is wrong with a configuration, at once.

    Args:
        problems: What is wrong, at least one thing. The first gives this error its key, value and place.
    """

    def __init__(self, problems: Sequence[ConfigurationError]) -> None:
        first = problems[0]
        super().__init__(first.key, first.value, first.problem, first.remedy, file=first.file, line=first.line)
        self.problems = tuple(problems)
        self.args = ("\n".join(str(problem) for problem in self.problems),)


class CredentialError(SecureServeError):
    """A certificate chain or private key that must not be served.

    Args:
        message: What is wrong and what to do, naming the file where there is one.
        path: The file that it was found in.
    """

    def __init__(self, message: str, *, path: str | os.PathLike[str] | None = None) -> None:
        self.path = path
        super().__init__(message)


class UnreadableCertificate(CredentialError):
    """The certificate file is missing, not permitted, or holds no certificate."""


class UnreadableKey(CredentialError):
    """The private key is missing, not permitted, not a key, or its password does not open it."""


class KeyMismatch(CredentialError):
    """The private key does not belong to the leaf certificate."""


class ChainBroken(CredentialError):
    """The chain is out of order, or a link was not signed by the next."""


class Expired(CredentialError):
    """A certificate's notAfter has passed."""


class NotYetValid(CredentialError):
    """A certificate's notBefore is still to come.

    Args:
        message: Which, and what this machine's clock says.
        path: The file that it was found in.
        not_before: When it will be valid.
    """

    def __init__(
        self, message: str, *, path: str | os.PathLike[str] | None = None, not_before: datetime | None = None
    ) -> None:
        self.not_before = not_before
        super().__init__(message, path=path)


class NameNotCovered(CredentialError):
    """The leaf certificate does not cover a name that it has to."""


class OlderThanServed(CredentialError):
    """A certificate that would replace another was issued before it."""


class NoCredential(CredentialError):
    """There is nothing to serve: no source gave a credential."""


class UsageNotAllowed(CredentialError):
    """The leaf's key usage or extended key usage does not allow TLS server authentication (RFC 5280, 4.2.1.12)."""


class WeakKey(CredentialError):
    """The leaf's key or a signature in the chain is weaker than any client should accept."""


class PeerError(SecureServeError):
    """Something a peer did or failed to do. Counted, logged at INFO or below, and answered where that helps.

    Attributes:
        status_hint: The HTTP status to answer with, or None where nothing can be answered.
        reason: The word under which it is counted.
    """

    status_hint: int | None = None
    reason: str = "peer_error"


class HandshakeFailed(PeerError):
    """The TLS handshake did not succeed.

    Args:
        message: What happened, in the engine's words.
        alert: The TLS alert sent or received (RFC 8446, 6.2), such as ``unrecognized_name``, where known.
        alert_sent_by_peer: Whether it was the peer who sent it.
    """

    reason = "handshake_failed"

    def __init__(self, message: str, *, alert: str | None = None, alert_sent_by_peer: bool = False) -> None:
        self.alert = alert
        self.alert_sent_by_peer = alert_sent_by_peer
        super().__init__(message)


class PlainHTTPOnTLSPort(PeerError):
    """The first bytes were a plain HTTP request where TLS is spoken."""

    status_hint = 400
    reason = "plain_http"


class ProxyHeaderError(PeerError):
    """The connection did not begin with a well-formed PROXY protocol header where one is required."""

    reason = "proxy_header"


class PeerTimeout(PeerError):
    """The peer did not finish a phase within its deadline."""

    status_hint = 408
    reason = "timeout"


class BadRequest(PeerError):
    """The request breaks a rule of RFC 9110 or RFC 9112, or asks for what this server does not do.

    Args:
        message: Which rule, in one line that may be shown to the peer.
        status: The status to answer with.
    """

    reason = "bad_request"

    def __init__(self, message: str, *, status: int = 400) -> None:
        self.status_hint = status
        super().__init__(message)


class HeadTooLarge(BadRequest):
    """The request head, its target or one of its fields is larger than allowed."""

    reason = "head_too_large"

    def __init__(self, message: str, *, status: int = 413) -> None:
        super().__init__(message, status=status)


class BodyTooLarge(BadRequest):
    """The request body is larger than ``max_request_body_size``."""

    reason = "body_too_large"

    def __init__(self, message: str, *, status: int = 413) -> None:
        super().__init__(message, status=status)


class Overloaded(PeerError):
    """There were more requests than there is room for; not the peer's fault, but its to hear."""

    status_hint = 503
    reason = "overload"


class BodyTruncated(PeerError, OSError):
    """The request body ended early, came too slowly, or was malformed; what was read of it must not be trusted.

    It is an OSError as well, so that frameworks which expect one from ``wsgi.input`` treat it as a disconnect.
    """

    status_hint: int | None = 400
    reason = "body_truncated"


class IssuanceError(SecureServeError):
    """A certificate authority did not issue.

    Args:
        message: What happened and what to do.
        problem_type: The ``type`` of the RFC 8555 problem document (section 6.7); None where the authority sent none.
        detail: Its ``detail``.
        subproblems: Its ``subproblems``, each with an ``identifier``.
        remedy: The part of the message that says what to do, as a sentence.
        retry_after: Seconds that the authority asks us to wait (RFC 8555, 6.6); None where it does not say.
        is_passing: Whether the same may well succeed later though nobody has changed anything; None goes by the others.
    """

    def __init__(
        self,
        message: str,
        *,
        problem_type: str | None = None,
        detail: str | None = None,
        subproblems: Sequence[dict[str, Any]] = (),
        remedy: str = "",
        retry_after: float | None = None,
        is_passing: bool | None = None,
    ) -> None:
        self.problem_type = problem_type
        self.detail = detail
        self.subproblems = tuple(subproblems)
        self.remedy = remedy
        self.retry_after = retry_after
        passes = retry_after is not None or self.problem_name in {"rateLimited", "serverInternal", "badNonce"}
        self.is_passing = passes if is_passing is None else is_passing
        super().__init__(message)

    @property
    def problem_name(self) -> str | None:
        """The last part of `problem_type`, such as ``rateLimited``; None where the authority sent no problem."""
        return None if self.problem_type is None else self.problem_type.rpartition(":")[2]

    @property
    def problems_by_name(self) -> dict[str, dict[str, Any]]:
        """The sub-problems by the host name or IP address that each is about; the first, where a name has several."""
        found: dict[str, dict[str, Any]] = {}
        for problem in self.subproblems:
            identifier = problem.get("identifier")
            if isinstance(identifier, dict):
                found.setdefault(str(identifier.get("value")), problem)
        return found


class StorageError(SecureServeError):
    """What keeps accounts and certificates could not be read or written; nothing that it kept is lost.

    Args:
        message: What went wrong and what to do.
        path: The file or directory.
    """

    def __init__(self, message: str, *, path: str | os.PathLike[str] | None = None) -> None:
        self.path = path
        super().__init__(message)


class LifecycleError(SecureServeError):
    """A step of a server's life that was not possible then."""


class AlreadyStarted(LifecycleError):
    """Asked to start what is running."""


class StartFailed(LifecycleError, OSError):
    """A server did not become ready.

    It is an OSError as well, which is what cheroot raises where an address cannot be listened at.
    """


class StopTimedOut(LifecycleError):
    """A server did not stop within its bound; the message names the threads that are left."""
