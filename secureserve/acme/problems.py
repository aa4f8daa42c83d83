"""What can go wrong with an authority, as `IssuanceError`: its problem documents, its silence, and its nonsense.

An error of this module says who would not do what, in the authority's own words, and what its reader can do about it.
The words are another machine's: they are bounded, and end no line of a log.
"""

from __future__ import annotations

import contextlib
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from secureserve.acme.protocol import JOSEError, errors, messages, requests
from secureserve.errors import IssuanceError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence

    from secureserve.clock import Clock

__all__ = ["REMEDIES", "problem_error", "response_error", "retry_after_seconds", "translated"]

PREFIX: Final = "urn:ietf:params:acme:error:"
MAX_TEXT_LENGTH: Final = 1000
"""Characters of an authority's words that are kept."""
MAX_SUBPROBLEMS: Final = 100
"""As many as an order of most authorities has names."""
MAX_RETRY_AFTER: Final = 30 * 86400.0
"""Seconds. No authority's limit lasts longer, and what says so is a mistake that would stop renewal for good."""

REMEDIES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "accountDoesNotExist": "The authority does not know this account any more: a new one is made with the next "
        "certificate, where acme_accept_terms is set.",
        "alreadyReplaced": "Another order has replaced that certificate already: order again without replacing it.",
        "alreadyRevoked": "The certificate is revoked already; nothing more is to be done.",
        "badCSR": "The authority does not certify such a key or such names: try another acme_key_type.",
        "badNonce": "The authority refused every nonce, its own: try again later.",
        "badPublicKey": "The authority does not take the key of this account: change the account's key.",
        "badRevocationReason": "The authority does not take that reason: give none.",
        "badSignatureAlgorithm": "The authority does not take signatures of this kind: change the account's key.",
        "caa": "A CAA record of the domain forbids this authority: add one that allows it, or use another authority.",
        "compound": "Each name says what is wrong with it.",
        "conflict": "Another account has that key already: use a new one.",
        "connection": "The authority could not connect to this server: check the DNS records of the name, the "
        "firewall, and that port 443 (tls-alpn-01) or 80 (http-01) leads here.",
        "dns": "The authority could not look the name up: check its DNS records, and that they have spread.",
        "dnssec": "The DNSSEC signatures of the domain are broken: mend them, or turn DNSSEC off.",
        "externalAccountRequired": "Get a key identifier and an HMAC key at the authority's web site and give them as "
        "acme_eab_key_id and acme_eab_hmac_key_file.",
        "incorrectResponse": "Something else answered for the name: check that its DNS records lead to this server, "
        "and that no proxy in front of it answers instead.",
        "invalidContact": "The authority does not take that address: change acme_email.",
        "invalidProfile": "The authority has no such profile: change acme_profile.",
        "malformed": "The authority did not understand the request: if it goes on, report it with this message.",
        "onionCAARequired": "The onion service has to hand over its CAA records: this client does not.",
        "orderNotReady": "The order was not ready yet: try again.",
        "rateLimited": "Wait as long as the authority says, and try things out with its staging twin.",
        "rejectedIdentifier": "The authority issues for no such name: take it out of the order, or use another "
        "authority.",
        "serverInternal": "The fault is the authority's: try again later.",
        "tls": "The authority met a TLS error at this server: check that port 443 leads here, with nothing in between "
        "that ends TLS.",
        "unauthorized": "The authority found no proof of what was asked: check that the DNS records of the name, also "
        "those for IPv6, lead to this server, and that the account is still valid.",
        "unknownDelegation": "The authority does not know that delegation.",
        "unsupportedContact": "The authority takes e-mail addresses alone as contact.",
        "unsupportedIdentifier": "The authority does not issue for names of this kind: for an IP address use one that "
        "does, and the profile that it wants.",
        "userActionRequired": "The authority wants the account's owner to act, most often to agree to changed terms of "
        "service: do so at its web site.",
    }
)
"""What to do about each problem, by the last part of its type: RFC 8555 (6.7) and 9773 (7.4), profiles, RFC 9799."""

_USER_ACTION: Final = "userActionRequired"

_CERTIFICATE_NOT_YET_VALID: Final = 9
_CERTIFICATE_EXPIRED: Final = 10
"""X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED of OpenSSL's x509_vfy.h."""

_LIBRARIES_OF_FILES: Final = frozenset({"X509", "PEM"})
"""The parts of OpenSSL that read files of certificates; those of a handshake are others."""

_MAX_CAUSES: Final = 20
_CLIENT_ERRORS: Final = range(400, 500)


def problem_error(
    authority: object,
    doing: str,
    document: Mapping[str, Any],
    *,
    retry_after: float | None = None,
    terms: str | None = None,
) -> IssuanceError:
    """Return what a problem document (RFC 8555, 6.7) says.

    Args:
        authority: Whose it is.
        doing: What was to be done, as a clause (``ordering a certificate for example.org``).
        document: The document, from JSON. Nothing in it is trusted.
        retry_after: Seconds that the authority asks us to wait.
        terms: Where the terms of service are that it speaks of.
    """
    problem_type = _text(document.get("type")) or "about:blank"
    detail = _text(document.get("detail")) or _text(document.get("title"))
    given = document.get("subproblems")
    subproblems = [_subproblem(one) for one in given if isinstance(one, dict)] if isinstance(given, list) else []
    del subproblems[MAX_SUBPROBLEMS:]
    name = _name(problem_type)
    parts = [f"{authority}: {doing}: {name}", detail] if detail else [f"{authority}: {doing}: {name}"]
    message = ": ".join(parts).rstrip(".") + "."
    for problem in subproblems:
        message += f" {_about(problem)}: {_name(problem['type'])}: {problem.get('detail', '').rstrip('.')}."
    remedy = _remedy(name, subproblems)
    if name == _USER_ACTION:
        remedy += _places(document.get("instance"), terms)
    if retry_after is not None:
        message += f" The authority asks to wait {retry_after:.0f} s."
    return IssuanceError(
        f"{message} {remedy}".rstrip(),
        problem_type=problem_type,
        detail=detail or None,
        subproblems=subproblems,
        remedy=remedy,
        retry_after=retry_after,
    )


def response_error(authority: object, doing: str, response: requests.Response, clock: Clock) -> IssuanceError:
    """Return what an answer that is no success says, whether it carries a problem document or not.

    Args:
        authority: Whose it is.
        doing: What was to be done.
        response: The answer.
        clock: What tells how long it is until a date in Retry-After.
    """
    wait = retry_after_seconds(response.headers.get("Retry-After"), clock)
    try:
        document = response.json()
    except ValueError:
        document = None
    if isinstance(document, dict) and isinstance(document.get("type"), str):
        terms = response.links.get("terms-of-service", {}).get("url")
        return problem_error(authority, doing, document, retry_after=wait, terms=terms)
    location = response.headers.get("Location")
    if response.is_redirect and location:
        remedy = "Check acme_directory: requests are not sent on to another place."
        return _plain(f"{authority}: {doing}: it answered that this is at {_text(location)}.", remedy)
    said = f"{authority}: {doing}: it answered {response.status_code} {_text(response.reason)}.".replace(" .", ".")
    if response.status_code in _CLIENT_ERRORS:
        remedy = "Check that acme_directory is the URL of an ACME directory."
    else:
        remedy = "It seems to be down for a while: try again later."
    return _plain(said, remedy, retry_after=wait, is_passing=None if response.status_code in _CLIENT_ERRORS else True)


def retry_after_seconds(value: str | None, clock: Clock) -> float | None:
    """Return the seconds that a Retry-After field asks for (RFC 9110, 10.2.3); None where there is none that can be.

    Args:
        value: The field's value.
        clock: What tells how long it is until a date.
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:12]), MAX_RETRY_AFTER)
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return min(max((moment - clock.now()).total_seconds(), 0.0), MAX_RETRY_AFTER)


@contextlib.contextmanager
def translated(authority: object, doing: str, clock: Clock) -> Generator[None]:
    """Raise what the libraries raise as `IssuanceError`.

    Args:
        authority: Whom it is about.
        doing: What is to be done, as a clause.
        clock: What tells this machine's time, for an authority whose own certificate does not fit it.

    Raises:
        IssuanceError: Whatever went wrong inside.
    """
    try:
        yield
    except messages.Error as error:
        raise problem_error(authority, doing, error.to_json()) from error
    except requests.exceptions.SSLError as error:
        raise _tls_error(authority, doing, error, clock.now()) from error
    except requests.exceptions.InvalidSchema as error:
        remedy = "ACME is spoken over https alone: check acme_directory."
        raise _plain(f"{authority}: {doing}: it sent us to a URL that is not https.", remedy) from error
    except requests.exceptions.RequestException as error:
        raise _unreachable(authority, doing, error) from error
    except OSError as error:
        remedy = "Check that acme_ca_file holds the authority's roots in PEM."
        raise _plain(f"{authority}: {doing}: {_root_text(error).rstrip('.')}.", remedy) from error
    except (errors.Error, JOSEError, AttributeError, KeyError, TypeError, ValueError) as error:
        # The libraries take what an authority sends for well-formed, and stumble over what is not.
        raise _nonsense(authority, doing, error) from error


def _plain(
    message: str, remedy: str, *, retry_after: float | None = None, is_passing: bool | None = None
) -> IssuanceError:
    return IssuanceError(f"{message} {remedy}", remedy=remedy, retry_after=retry_after, is_passing=is_passing)


def _unreachable(authority: object, doing: str, error: requests.exceptions.RequestException) -> IssuanceError:
    if isinstance(error, requests.exceptions.Timeout):
        why = "it did not answer in time"
    elif isinstance(error, requests.exceptions.ProxyError):
        why = "the proxy for it cannot be reached"
    else:
        why = _root_text(error)
    remedy = "Check that it is up, that acme_directory is right, and that this machine may connect to it."
    return _plain(f"{authority} cannot be reached ({doing}): {why.rstrip('.')}.", remedy, is_passing=True)


def _nonsense(authority: object, doing: str, error: Exception) -> IssuanceError:
    what = f"{type(error).__name__}: {_text(error)}".rstrip(": ")
    remedy = "Check that acme_directory is the URL of an ACME directory."
    return _plain(f"{authority}: {doing}: its answer cannot be understood ({what}).", remedy)


def _tls_error(authority: object, doing: str, error: Exception, now: datetime) -> IssuanceError:
    code = next((found for one in _causes(error) if (found := getattr(one, "verify_code", None))), None)
    here = f"this machine's clock says {now:%Y-%m-%d %H:%M} UTC"
    if code == _CERTIFICATE_NOT_YET_VALID:
        problem = f"its own certificate is not valid yet, and {here}"
        remedy = "Set the clock."
    elif code == _CERTIFICATE_EXPIRED:
        problem = f"its own certificate has expired, and {here}"
        remedy = "If the clock is right, the authority has to renew its certificate."
    elif code is not None:
        problem = f"its own certificate is not trusted ({_root_text(error)})"
        remedy = "If it is a private authority, give its roots as acme_ca_file."
    elif any(getattr(one, "library", None) in _LIBRARIES_OF_FILES for one in _causes(error)):
        problem = f"the file of its roots holds none ({_root_text(error)})"
        remedy = "Check that acme_ca_file holds the authority's roots in PEM."
    else:
        problem = f"TLS with it failed ({_root_text(error)})"
        remedy = "Check that acme_directory leads to it, and that nothing in between changes the connection."
    return _plain(f"{authority}: {doing}: {problem}.", remedy)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Give an error and what it wraps: each library on the way has its own manner of wrapping."""
    waiting: list[Any] = [error]
    for _ in range(_MAX_CAUSES):
        if not waiting:
            return
        one = waiting.pop(0)
        yield one
        wrapped = (getattr(one, "reason", None), *one.args, one.__cause__, one.__context__)
        waiting += [other for other in wrapped if isinstance(other, BaseException)]


def _root_text(error: BaseException) -> str:
    """Return the words of the innermost error of the system, which are the plainest."""
    inner = [
        one for one in _causes(error) if isinstance(one, OSError) and not one.__class__.__module__.startswith("req")
    ]
    last = inner[-1] if inner else error
    return _text(getattr(last, "verify_message", None) or getattr(last, "strerror", None) or last)


def _subproblem(given: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {"type": _text(given.get("type")) or "about:blank", "detail": _text(given.get("detail"))}
    identifier = given.get("identifier")
    if isinstance(identifier, dict):
        made["identifier"] = {"type": _text(identifier.get("type")), "value": _text(identifier.get("value"))}
    return made


def _about(problem: Mapping[str, Any]) -> str:
    identifier = problem.get("identifier")
    return str(identifier["value"]) if identifier else "also"


def _remedy(name: str, subproblems: Sequence[Mapping[str, Any]]) -> str:
    """Return what to do about a problem, or about its parts where it is only their sum."""
    names = dict.fromkeys([*(_name(one["type"]) for one in subproblems), name] if name == "compound" else [name])
    found = [REMEDIES[one] for one in names if one in REMEDIES and (one != "compound" or len(names) == 1)]
    return " ".join(found)


def _places(instructions: object, terms: str | None) -> str:
    """Return where a person is to act: an authority has to say how to, and what about (RFC 8555, 7.3.3)."""
    how = f" It says how at {_text(instructions)}." if instructions else ""
    what = f" The terms are at {_text(terms)}." if terms else ""
    return how + what


def _name(problem_type: str) -> str:
    return problem_type.removeprefix(PREFIX)


def _text(value: object) -> str:
    """Return somebody else's words in a form that can be shown: bounded, on one line, without control characters."""
    if value is None:
        return ""
    text = str(value)[: 2 * MAX_TEXT_LENGTH]
    line = " ".join("".join(one if one.isprintable() else " " for one in text).split())
    return line if len(line) <= MAX_TEXT_LENGTH else line[: MAX_TEXT_LENGTH - 3] + "..."
