"""Proving that names are ours: for each authorization of an order an answer is put up, found, and taken away again."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from secureserve.acme.challenges import Challenge
from secureserve.acme.problems import problem_error
from secureserve.errors import IssuanceError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from secureserve.acme.client import Client
    from secureserve.acme.protocol import messages
    from secureserve.acme.solvers import Solver
    from secureserve.acme.waiting import Patience

__all__ = ["ProofFailed", "Prover"]


_ANSWERABLE: Final = frozenset({"pending", "processing"})
"""The states in which a challenge may yet prove something (RFC 8555, 7.1.6)."""


class ProofFailed(IssuanceError):
    """The authority was not convinced that a name is ours.

    Attributes:
        failed: Name, whether it is its wildcard, and challenge type of each proof that failed.
        may_try_otherwise: Whether each of them can be proved by another type of challenge.
    """

    failed: frozenset[tuple[str, bool, str]] = frozenset()
    may_try_otherwise: bool = False


@dataclass(slots=True)
class _Pending:
    """An authorization that waits for its proof."""

    authorization: messages.AuthorizationResource
    name: str
    wildcard: bool
    candidates: list[tuple[Solver, messages.ChallengeBody]]
    challenge: Challenge | None = None
    solver: Solver | None = field(default=None, repr=False)
    body: messages.ChallengeBody | None = field(default=None, repr=False)

    @property
    def shown(self) -> str:
        return f"*.{self.name}" if self.wildcard else self.name

    def withdraw(self) -> None:
        """Take the answer away, if there is one."""
        solver, challenge, self.solver = self.solver, self.challenge, None
        if solver is not None and challenge is not None:
            solver.withdraw(challenge)


class Prover:
    """Proves the names of one order.

    Args:
        client: Speaks to the authority.
        names: What was ordered.
        solvers: What can answer, the most promising first.
        patience: How long the authority is waited for, once all answers are up.
        failed: Name, whether it is its wildcard, and challenge type of proofs that failed before and are not repeated.
        progress: Told what is going on.
    """

    def __init__(
        self,
        client: Client,
        names: Sequence[str],
        solvers: Sequence[Solver],
        patience: Patience,
        *,
        failed: frozenset[tuple[str, bool, str]] = frozenset(),
        progress: Callable[[str], None],
    ) -> None:
        self._client = client
        self._names = frozenset(names)
        self._solvers = solvers
        self._patience = patience
        self._failed = failed
        self._progress = progress
        self.worked: list[str] = []

    def prove(self, urls: Sequence[str]) -> None:
        """See that every authorization is valid.

        Args:
            urls: The authorizations of an order.

        Raises:
            ProofFailed: The authority was not convinced.
            IssuanceError: It does not answer, takes too long, or it was called off.
        """
        waiting: list[_Pending] = []
        try:
            waiting += (one for url in urls if (one := self._pending(url)) is not None)
            self._prove_all(waiting)
        except ProofFailed:
            self._give_up(waiting)
            raise
        finally:
            for one in waiting:
                one.withdraw()

    def _prove_all(self, waiting: Sequence[_Pending]) -> None:
        # All answers are up before the first is looked at: a name and its wildcard share one place in the DNS.
        problems = [(one, problem) for one in waiting if (problem := self._present(one)) is not None]
        if not problems:
            self._let_spread(waiting)
            self._patience.renew()
            for one in waiting:
                self._answer(one)
            problems = [(one, problem) for one in waiting if (problem := self._outcome(one)) is not None]
        if problems:
            raise self._failure(problems)

    def _pending(self, url: str) -> _Pending | None:
        """Return an authorization that has to be proved; None for one that is valid."""
        authorization, _ = self._client.authorization(url)
        body = authorization.body
        name, wildcard = str(body.identifier.value), bool(body.wildcard)
        if not {name, f"*.{name}"} & self._names:
            raise IssuanceError(f"{self._client.authority} wants {name!r} proved, which was not ordered.")
        status = body.status.name
        if status == "valid":
            return None
        if status != "pending":
            raise self._failure([(_Pending(authorization, name, wildcard, []), self._problem(authorization))])
        able = [one for one in self._solvers if one.can_solve(name, wildcard=wildcard)]
        # The library gives a type of challenge that it does not know no name.
        offered = {str(one.chall.to_partial_json().get("type")): one for one in body.challenges}
        candidates = [
            (solver, offered[solver.challenge_type])
            for solver in able
            if solver.challenge_type in offered
            and offered[solver.challenge_type].status.name in _ANSWERABLE
            and (name, wildcard, solver.challenge_type) not in self._failed
        ]
        # What was answered before a restart is what the authority may be looking for at this moment.
        candidates.sort(key=lambda one: one[1].status.name != "processing")
        if not candidates:
            raise self._no_way(name, sorted(offered), able, wildcard=wildcard)
        return _Pending(authorization, name, wildcard, candidates)

    def _present(self, one: _Pending) -> IssuanceError | None:
        """Put an answer up by the first way that works; return why none did."""
        problem: IssuanceError | None = None
        for solver, body in one.candidates:
            self._patience.require(f"proving {one.shown}")
            token = str(body.chall.encode("token"))
            proof = str(body.chall.key_authorization(self._client.key))
            self._progress(f"putting up the answer to {solver.challenge_type} for {one.shown}")
            one.challenge = Challenge(solver.challenge_type, one.name, token, proof, one.wildcard)
            one.solver, one.body = solver, body
            try:
                solver.present(one.challenge)
            except IssuanceError as error:
                problem = error
                one.withdraw()
            else:
                return None
        return problem

    def _let_spread(self, waiting: Sequence[_Pending]) -> None:
        """Wait until the answers are found everywhere: once for all of them, as they spread side by side."""
        seconds = max((one.solver.propagation for one in waiting if one.solver is not None), default=0.0)
        if seconds > 0:
            doing = f"waiting {seconds:g} s for the answers to spread"
            self._progress(doing)
            self._patience.let_pass(seconds, doing)

    def _answer(self, one: _Pending) -> None:
        if one.body is not None and one.body.status.name == "pending":
            self._progress(f"asking {self._client.authority} to look at {one.shown}")
            self._client.answer(one.body, one.shown)

    def _outcome(self, one: _Pending) -> IssuanceError | None:
        """Wait for what the authority says of a proof; return what it found wrong."""
        doing = f"waiting for {self._client.authority} to look at {one.shown}"
        while True:
            one.authorization, wait = self._client.authorization(one.authorization.uri)
            status = one.authorization.body.status.name
            if status != "pending":
                break
            if not self._patience.pause(doing, wait):
                raise self._too_late(one)
        one.withdraw()
        if status != "valid":
            return self._problem(one.authorization)
        if one.challenge is not None:
            self.worked.append(one.challenge.type)
        return None

    def _too_late(self, one: _Pending) -> IssuanceError:
        remedy = "The order stays, and is gone on with at the next attempt."
        return IssuanceError(
            f"{self._client.authority} took too long to look at {one.shown}. {remedy}", remedy=remedy, is_passing=True
        )

    def _problem(self, authorization: messages.AuthorizationResource) -> IssuanceError:
        """Return what an authority found wrong with a proof."""
        body = authorization.body
        name = str(body.identifier.value)
        found = next((one.error for one in body.challenges or () if one.error is not None), None)
        document: dict[str, Any] = {"type": "about:blank", "detail": f"the authorization is {body.status.name}"}
        if found is not None:
            document = found.to_json()
        return problem_error(self._client.authority, f"proving {name}", document)

    def _failure(self, problems: Sequence[tuple[_Pending, IssuanceError]]) -> ProofFailed:
        """Return what failed as one error, with a sub-problem for each name."""
        subproblems = tuple(
            {
                "type": error.problem_type or "about:blank",
                "detail": error.detail or str(error),
                "identifier": {"type": one.authorization.body.identifier.typ.name, "value": one.name},
            }
            for one, error in problems
        )
        first = problems[0][1]
        made = ProofFailed(
            " ".join(str(error) for _, error in problems),
            problem_type=first.problem_type,
            detail=first.detail,
            subproblems=subproblems,
            remedy=first.remedy,
            retry_after=first.retry_after,
        )
        tried = [(one, kind) for one, _ in problems for kind in _tried(one)]
        made.failed = frozenset((one.name, one.wildcard, kind) for one, kind in tried)
        made.may_try_otherwise = all(len(one.candidates) > len(_tried(one)) for one, _ in problems)
        return made

    def _no_way(self, name: str, offered: list[str], able: Sequence[Solver], *, wildcard: bool) -> IssuanceError:
        shown = f"*.{name}" if wildcard else name
        ours = ", ".join(sorted(solver.challenge_type for solver in able)) or "nothing"
        if wildcard or "dns-01" in offered:
            remedy = "Set acme_dns_hook, so that dns-01 can be answered."
        else:
            remedy = "Have the port for plain HTTP (redirect_port) or that for TLS open for it."
        if self._failed:
            remedy = "Nothing is left to try."
        return IssuanceError(
            f"{self._client.authority} wants {' or '.join(offered) or 'nothing'} for {shown}, "
            f"of which this server can answer {ours}. {remedy}",
            remedy=remedy,
        )

    def _give_up(self, waiting: Sequence[_Pending]) -> None:
        """Give up what is pending beside what failed: authorities limit how much of that there may be."""
        for one in waiting:
            if one.authorization.body.status.name == "pending":
                with contextlib.suppress(IssuanceError):
                    self._client.deactivate_authorization(one.authorization)


def _tried(one: _Pending) -> tuple[str, ...]:
    """Return the types of challenges that were tried for an authorization."""
    if one.challenge is None:
        return ()
    kinds = [solver.challenge_type for solver, _ in one.candidates]
    return tuple(kinds[: kinds.index(one.challenge.type) + 1])
