"""Every problem document (RFC 8555, 6.7) as the error that a user sees."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from secureserve.acme.issuer import Issuer
from secureserve.acme.problems import REMEDIES
from secureserve.errors import IssuanceError
from secureserve.testing import ACMEAuthority, Problem

if TYPE_CHECKING:
    from secureserve.acme.authorities import Authority
    from secureserve.acme.solvers import DNS01Solver
    from secureserve.acme.storage import FileStorage

RFC_8555 = (
    *("accountDoesNotExist", "alreadyRevoked", "badCSR", "badNonce", "badPublicKey", "badRevocationReason"),
    *("badSignatureAlgorithm", "caa", "compound", "connection", "dns", "externalAccountRequired", "incorrectResponse"),
    *("invalidContact", "malformed", "orderNotReady", "rateLimited", "rejectedIdentifier", "serverInternal", "tls"),
    *("unauthorized", "unsupportedContact", "unsupportedIdentifier", "userActionRequired"),
)

HANDLED = frozenset({"badNonce", "accountDoesNotExist"})
"""What is answered with another attempt instead of an error; tested where that is."""


@pytest.fixture
def issuer(authority: Authority, storage: FileStorage, zone_solver: DNS01Solver) -> Issuer:
    """An issuer at the small authority."""
    return Issuer(authority, storage, [zone_solver], accept_terms=True)


def test_every_type_has_a_remedy() -> None:
    """There is advice for each type that RFC 8555 knows."""
    assert set(RFC_8555) <= set(REMEDIES)


@pytest.mark.parametrize(
    ("kind", "resource"),
    [
        (kind, resource)
        for kind in sorted(set(REMEDIES) - HANDLED)
        for resource in ("newOrder", "finalize")
        # Asked again, which another test sees.
        if (kind, resource) != ("orderNotReady", "finalize")
    ],
)
def test_each_type_where_it_may_come(acme_authority: ACMEAuthority, issuer: Issuer, kind: str, resource: str) -> None:
    """The error has type, detail and what to do, and none of it is lost on the way."""
    acme_authority.fail_next(resource, Problem(kind, "The detail.", status=403))
    with pytest.raises(IssuanceError) as caught:
        issuer.obtain(["www.example.test"])
    error = caught.value
    assert error.problem_type == f"urn:ietf:params:acme:error:{kind}"
    assert (error.problem_name, error.detail, error.retry_after) == (kind, "The detail.", None)
    assert error.remedy.startswith(REMEDIES[kind])
    assert str(error).startswith("testing: ")
    assert all(part in str(error) for part in (kind, "The detail", error.remedy))


@pytest.mark.parametrize("status", [403, 409, 429, 500])
def test_the_status_does_not_hide_the_problem(acme_authority: ACMEAuthority, issuer: Issuer, status: int) -> None:
    """A problem document is read whatever the status is, 409 included."""
    acme_authority.fail_next("newOrder", Problem("rateLimited", "Slow down.", status=status, retry_after=7))
    with pytest.raises(IssuanceError) as caught:
        issuer.obtain(["www.example.test"])
    assert (caught.value.problem_name, caught.value.retry_after) == ("rateLimited", 7)


def test_new_terms_are_for_a_person(acme_authority: ACMEAuthority, issuer: Issuer) -> None:
    """When terms have changed, the error says where the authority wants its user to go (RFC 8555, 7.3.3)."""
    page = f"{acme_authority.base_url}/agree?to=it"
    changed = Problem("userActionRequired", "Terms of service have changed.", status=403, extra={"instance": page})
    acme_authority.fail_next("newOrder", changed)
    with pytest.raises(IssuanceError) as caught:
        issuer.obtain(["www.example.test"])
    error = caught.value
    assert error.remedy == (
        f"{REMEDIES['userActionRequired']} It says how at {page}. The terms are at {acme_authority.base_url}/terms."
    )
    assert error.remedy in str(error)
    acme_authority.fail_next("newOrder", Problem("userActionRequired", "Odd.", extra={"instance": {"x": "\n" * 9}}))
    with pytest.raises(IssuanceError, match="Odd") as caught:
        issuer.obtain(["www.example.test"])
    assert "\n" not in str(caught.value)


def test_subproblems_by_name(acme_authority: ACMEAuthority, issuer: Issuer) -> None:
    """Of an order that is refused for two of three names, each of the two says why, and what to do about it."""
    acme_authority.refused = {
        "bad.example.test": Problem("rejectedIdentifier", "This one is blocked."),
        "caa.example.test": Problem("caa", "CAA says no."),
    }
    acme_authority.fail_next(
        "newOrder",
        Problem(
            "compound",
            "Two names are refused.",
            subproblems=tuple(
                {**problem.document(), "identifier": {"type": "dns", "value": name}}
                for name, problem in acme_authority.refused.items()
            ),
        ),
    )
    with pytest.raises(IssuanceError) as caught:
        issuer.obtain(["good.example.test", "bad.example.test", "caa.example.test"])
    error = caught.value
    assert set(error.problems_by_name) == {"bad.example.test", "caa.example.test"}
    assert error.problems_by_name["caa.example.test"]["detail"] == "CAA says no."
    assert "bad.example.test: rejectedIdentifier: This one is blocked." in str(error)
    assert REMEDIES["caa"] in error.remedy
    assert REMEDIES["rejectedIdentifier"] in error.remedy


def test_a_name_that_the_authority_refuses(acme_authority: ACMEAuthority, issuer: Issuer) -> None:
    """The name is in the error, and nothing has been stored for it."""
    acme_authority.refused["bad.example.test"] = Problem("rejectedIdentifier", "Blocked.", status=403)
    with pytest.raises(IssuanceError, match=r"bad\.example\.test: rejectedIdentifier") as caught:
        issuer.obtain(["good.example.test", "bad.example.test"])
    assert list(caught.value.problems_by_name) == ["bad.example.test"]
    assert not acme_authority.orders


def test_a_problem_of_no_known_type(acme_authority: ACMEAuthority, issuer: Issuer) -> None:
    """A type that nobody has heard of is shown as it is."""
    acme_authority.fail_next("newOrder", Problem("moonPhase", "Not today."))
    with pytest.raises(IssuanceError, match=r"moonPhase: Not today\.") as caught:
        issuer.obtain(["www.example.test"])
    assert caught.value.remedy == ""


def test_what_goes_wrong_after_the_proofs(acme_authority: ACMEAuthority, issuer: Issuer) -> None:
    """An order that becomes invalid while it is issued says why, and the next attempt is a new order."""
    acme_authority.issuance_problem = Problem("caa", "CAA says no.")
    with pytest.raises(IssuanceError, match=r"CAA says no\.") as caught:
        issuer.obtain(["www.example.test"])
    assert caught.value.problem_name == "caa"
    acme_authority.issuance_problem = None
    assert issuer.obtain(["www.example.test"]).names == ("www.example.test",)
    assert len(acme_authority.orders) == 2
