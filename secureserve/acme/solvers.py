"""What answers challenges: the TLS port in its handshakes, the plain HTTP port with a proof, the DNS through a hook.

An answer is there from `present` to `withdraw`, which is as long as its authorization is pending.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import tempfile
from typing import IO, TYPE_CHECKING, Final, Protocol

from secureserve.acme.waiting import call_within
from secureserve.certificates import names
from secureserve.certificates.issuance import challenge_credential
from secureserve.clock import SYSTEM_CLOCK
from secureserve.errors import ConfigurationError, IssuanceError

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping, Sequence

    from secureserve.acme.challenges import Challenge
    from secureserve.certificates.credential import Credential
    from secureserve.clock import Clock

__all__ = ["DNS01Solver", "HTTP01Solver", "Solver", "TLSALPN01Solver"]

_LOGGER: Final = logging.getLogger("secureserve.error")

HOOK_TIMEOUT: Final = 120.0
"""Seconds: a record may take a minute until every server of a zone has it."""
MAX_SHOWN_OUTPUT: Final = 500
"""Bytes of what a hook wrote, from its end."""
KILL_TIMEOUT: Final = 5.0


class Solver(Protocol):
    """Answers challenges of one type.

    Threads: one at a time for each order; several orders may be under way.
    """

    @property
    def challenge_type(self) -> str:
        """Which type."""

    @property
    def propagation(self) -> float:
        """Seconds after `present` until everybody finds the answer; they are waited once for all names of an order."""

    def can_solve(self, name: str, *, wildcard: bool) -> bool:
        """Return whether it can answer for a name.

        Args:
            name: A normalised host name or IP address.
            wildcard: Whether it is the wildcard below the name that is to be proved.
        """

    def present(self, challenge: Challenge) -> None:
        """Put the answer where the authority looks for it. It can be found there `propagation` seconds later.

        Raises:
            IssuanceError: That failed.
        """

    def withdraw(self, challenge: Challenge) -> None:
        """Take the answer away again. Harmless when it is not there."""


class TLSALPN01Solver:
    """Answers tls-alpn-01 in the handshakes of a TLS port (RFC 8737).

    Args:
        mapping: The ``alpn_challenges`` of a `TLSAcceptor`.
        clock: What dates the certificate of the answer.
    """

    challenge_type = "tls-alpn-01"
    propagation = 0.0

    def __init__(self, mapping: MutableMapping[str, Credential], *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._mapping = mapping
        self._clock = clock
        self._presented: dict[str, Credential] = {}

    def can_solve(self, name: str, *, wildcard: bool) -> bool:  # noqa: ARG002 - a Solver's
        """Return whether it can answer: for anything but a wildcard."""
        return not wildcard

    def present(self, challenge: Challenge) -> None:
        """Have handshakes for the name answered."""
        answer = challenge_credential(challenge.name, challenge.key_authorization, now=self._clock.now())
        self._presented[challenge.token] = answer
        self._mapping[challenge.server_name] = answer

    def withdraw(self, challenge: Challenge) -> None:
        """Have them answered as others are, unless another order waits for the same name by now."""
        answer = self._presented.pop(challenge.token, None)
        if answer is not None and self._mapping.get(challenge.server_name) is answer:
            self._mapping.pop(challenge.server_name, None)


class HTTP01Solver:
    """Answers http-01 on the plain HTTP port (RFC 8555, 8.3).

    Args:
        mapping: Where the port's application finds proofs by their tokens, such as ``RedirectApp(challenges=)``.
    """

    challenge_type = "http-01"
    propagation = 0.0

    def __init__(self, mapping: MutableMapping[str, str]) -> None:
        self._mapping = mapping

    def can_solve(self, name: str, *, wildcard: bool) -> bool:  # noqa: ARG002 - a Solver's
        """Return whether it can answer: for anything but a wildcard."""
        return not wildcard

    def present(self, challenge: Challenge) -> None:
        """Have the proof served."""
        self._mapping[challenge.token] = challenge.key_authorization

    def withdraw(self, challenge: Challenge) -> None:
        """Have it served no more."""
        self._mapping.pop(challenge.token, None)


class DNS01Solver:
    """Answers dns-01 through a hook that changes the zone (RFC 8555, 8.4).

    The hook is told ``present`` or ``withdraw``, the record's name and its value. Several values may have to stand
    under one name: ``withdraw`` is for the given one alone. With ``present`` it returns when the record can be looked
    up, or will be in `propagation` seconds; not sooner.

    Args:
        hook: A command as its list of arguments, started without a shell, to which ``present`` or ``withdraw`` is
            added; it finds the rest in ``SECURESERVE_ACME_RECORD_NAME``, ``SECURESERVE_ACME_RECORD_VALUE`` and
            ``SECURESERVE_ACME_NAME`` of its environment, and ends with 0. Or a function of these three: ``present`` or
            ``withdraw``, the record's name, its value.
        timeout: Seconds after which it is given up: a command is killed.
        propagation: Seconds after its return until every server of the zone has the record.

    Raises:
        ConfigurationError: The hook is neither.
    """

    challenge_type = "dns-01"

    def __init__(
        self,
        hook: Sequence[str] | Callable[[str, str, str], object],
        *,
        timeout: float = HOOK_TIMEOUT,
        propagation: float = 0.0,
    ) -> None:
        if not callable(hook) and (isinstance(hook, str) or not hook or not all(isinstance(one, str) for one in hook)):
            raise ConfigurationError(
                "acme_dns_hook",
                hook,
                "is neither a command nor a function",
                "Give a command as the list of its arguments, or a function.",
            )
        self._hook = hook if callable(hook) else tuple(hook)
        self._timeout = timeout
        self.propagation = propagation

    def can_solve(self, name: str, *, wildcard: bool) -> bool:  # noqa: ARG002 - a Solver's
        """Return whether it can answer: for anything but an IP address, which has no zone (RFC 8738, 7)."""
        return names.address(name) is None

    def present(self, challenge: Challenge) -> None:
        """Have the record made.

        Raises:
            IssuanceError: The hook failed or took too long.
        """
        self._call("present", challenge)

    def withdraw(self, challenge: Challenge) -> None:
        """Have the record removed. A hook that fails here is logged."""
        try:
            self._call("withdraw", challenge)
        except IssuanceError as error:
            _LOGGER.warning("%s The record is left behind.", error)

    def _call(self, action: str, challenge: Challenge) -> None:
        if callable(self._hook):
            self._call_function(self._hook, action, challenge)
        else:
            self._run(self._hook, action, challenge)

    def _call_function(self, hook: Callable[[str, str, str], object], action: str, challenge: Challenge) -> None:
        name = getattr(hook, "__qualname__", type(hook).__name__)
        try:
            call_within(
                self._timeout,
                lambda: hook(action, challenge.record_name, challenge.record_value),
                name="secureserve-acme-dns-hook",
            )
        except TimeoutError as error:
            raise self._error(name, action, challenge, str(error) or "it ran into a time-out", is_late=True) from error
        except (Exception, SystemExit) as error:
            raise self._error(name, action, challenge, f"{type(error).__name__}: {error}") from error

    def _run(self, hook: tuple[str, ...], action: str, challenge: Challenge) -> None:
        environ = {
            **os.environ,
            "SECURESERVE_ACME_NAME": challenge.name,
            "SECURESERVE_ACME_RECORD_NAME": challenge.record_name,
            "SECURESERVE_ACME_RECORD_VALUE": challenge.record_value,
        }
        try:
            # Into a file: a program that the hook leaves running must not keep us waiting for the end of a pipe.
            with tempfile.TemporaryFile() as output:
                process = subprocess.Popen(  # noqa: S603 - the operator's own command, without a shell
                    (*hook, action),
                    env=environ,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
                status = _wait(process, self._timeout)
                said = _end_of(output)
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise self._error(hook[0], action, challenge, f"it cannot be run: {why}") from error
        if status is None:
            problem = f"it took more than {self._timeout:g} s and was killed"
        elif status != 0:
            problem = f"it ended with status {status}" if status > 0 else f"signal {-status} ended it"
        else:
            return
        raise self._error(hook[0], action, challenge, f"{problem}{said}", is_late=status is None)

    def _error(self, hook: str, action: str, challenge: Challenge, why: str, *, is_late: bool = False) -> IssuanceError:
        remedy = "Run the hook by hand to see what is wrong with it, or choose another with acme_dns_hook."
        if is_late:
            remedy = "Run the hook by hand to see what it waits for, or give it more time with acme_dns_hook_timeout."
        line = " ".join("".join(one if one.isprintable() else " " for one in why).split()).rstrip(".")
        return IssuanceError(
            f"The DNS hook {hook} could not {action} the record {challenge.record_name}: {line}. {remedy}",
            detail=line,
            remedy=remedy,
        )


def _wait(process: subprocess.Popen[bytes], timeout: float) -> int | None:
    """Return how a command ended; None where it took too long and was killed, with everything that it had started."""
    try:
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(KILL_TIMEOUT)


def _end_of(output: IO[bytes]) -> str:
    """Return the last line that a command wrote, as a clause."""
    size = output.seek(0, os.SEEK_END)
    output.seek(max(0, size - MAX_SHOWN_OUTPUT))
    lines = output.read().decode(errors="replace").strip().splitlines()
    return f" and said {lines[-1].strip()!r}" if lines else ""
