"""A certificate authority for tests, built on trustme.

The root and the intermediates are trustme's, so whatever takes a trustme CA takes `Authority.trustme`. What trustme
does not issue (lifetimes, usages, key types, URIs, revocation) comes from templates.
"""

from __future__ import annotations

import ssl
import tempfile
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from secureserve.testing import revocation
from secureserve.testing.credentials import IssuedCredential, write_private
from secureserve.testing.keys import KeyRing, KeyType
from secureserve.testing.template import DEFAULT_LIFETIME, USAGES, Issuer, Template

if TYPE_CHECKING:
    import os
    from collections.abc import Generator, Mapping
    from datetime import datetime

    from trustme import Blob

    from secureserve.testing.keys import PrivateKey

__all__ = ["LOOPBACK_IDENTITIES", "Authority", "temporary_authority"]

LOOPBACK_IDENTITIES: Final = ("localhost", "127.0.0.1", "::1")
"""What a certificate is for when nobody says: every name under which this machine reaches itself."""

MAX_CHAIN_DEPTH: Final = 8
"""How many intermediates there may be: trustme's root allows nine authorities below it, one kept for bad ones."""


class Authority:
    """A certificate authority that a test's clients trust and nobody else does.

    Args:
        directory: Where files go that it and its credentials write; made with mode 0700 if missing.
        keys: Where private keys come from, to share expensive ones with another authority.
        key_type: The root's key, ``ecdsa`` or ``rsa``.

    Threads: any thread may issue.
    """

    def __init__(
        self, directory: str | os.PathLike[str], *, keys: KeyRing | None = None, key_type: KeyType = "ecdsa"
    ) -> None:
        self.directory = Path(directory)
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.keys = keys or KeyRing()
        self.trustme = trustme.CA(organization_name="secureserve testing", key_type=_TRUSTME_KEYS[key_type])
        self.revocations = revocation.Revocations()
        self._authorities: list[tuple[trustme.CA, Issuer]] = [(self.trustme, _issuer(self.trustme, None))]

    def __repr__(self) -> str:
        """Name the root, never its key."""
        return f"Authority({self.certificate.subject.rfc4514_string()!r})"

    @property
    def root(self) -> Issuer:
        """The root, as an issuer."""
        return self._authorities[0][1]

    @property
    def certificate(self) -> x509.Certificate:
        """The root's certificate."""
        return self.root.certificate

    @property
    def cert_pem(self) -> Blob:
        """The root's certificate in PEM, as trustme's: ``.bytes()``, ``.write_to_path()``, ``.tempfile()``."""
        return self.trustme.cert_pem

    @property
    def cert_path(self) -> Path:
        """A PEM file of the root's certificate, for clients that take a path: ``curl --cacert``, ``verify=``."""
        path = self.directory / "root.pem"
        if not path.exists():
            write_private(path, self.cert_pem.bytes())
        return path

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables by which other processes are told to trust it: OpenSSL's, curl's, requests' and Node's."""
        path = str(self.cert_path)
        variables = ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "GIT_SSL_CAINFO", "NODE_EXTRA_CA_CERTS")
        return dict.fromkeys(variables, path)

    def client_context(self) -> ssl.SSLContext:
        """Return a new client context that verifies as the standard library does, and trusts this authority alone."""
        return ssl.create_default_context(cadata=self.cert_pem.bytes().decode("ascii"))

    def configure_trust(self, client: Any) -> None:
        """Make a client trust this authority.

        Args:
            client: An `ssl.SSLContext`, an ``OpenSSL.SSL.Context``, a ``requests.Session``, or a
                ``urllib3.PoolManager``.

        Raises:
            TypeError: It is something else; the message says how that client is told.
        """
        kind = f"{type(client).__module__}.{type(client).__qualname__}"
        bases = {f"{base.__module__.partition('.')[0]}.{base.__name__}" for base in type(client).__mro__}
        if isinstance(client, ssl.SSLContext) or "OpenSSL.Context" in bases:
            self.trustme.configure_trust(client)
        elif "requests.Session" in bases:
            client.verify = str(self.cert_path)
            # The environment would otherwise win over the session (requests' merge_environment_settings).
            client.trust_env = False
        elif "urllib3.PoolManager" in bases:
            client.connection_pool_kw.update(ca_certs=str(self.cert_path), cert_reqs="CERT_REQUIRED")
            client.clear()
        else:
            remedy = next((text for name, text in _TOLD_WHEN_MADE.items() if name in bases), _TOLD_SOMEHOW)
            raise TypeError(f"configure_trust() cannot reach into {kind}; {remedy}")

    def intermediate(self, depth: int = 1) -> Issuer:
        """Return the intermediate authority that stands `depth` below the root (0 is the root), made once.

        Raises:
            ValueError: `depth` is negative or larger than `MAX_CHAIN_DEPTH`.
        """
        if not 0 <= depth <= MAX_CHAIN_DEPTH:
            raise ValueError(f"chain_depth={depth!r}: write how many intermediates, from 0 to {MAX_CHAIN_DEPTH}.")
        while len(self._authorities) <= depth:
            above, issuer = self._authorities[-1]
            below = above.create_child_ca()
            self._authorities.append((below, _issuer(below, issuer)))
        return self._authorities[depth][1]

    def issue(
        self,
        *identities: str,
        common_name: str | None = None,
        key_type: KeyType = "ecdsa",
        fresh_key: bool = False,
        lifetime: timedelta = DEFAULT_LIFETIME,
        not_before: datetime | None = None,
        not_after: datetime | None = None,
        usage: str = "server",
        chain_depth: int = 0,
        must_staple: bool = False,
        crl_url: str | None = None,
        ocsp_url: str | None = None,
        password: str | None = None,
        directory: str | os.PathLike[str] | None = None,
    ) -> IssuedCredential:
        """Issue a good certificate with its key and chain.

        Args:
            identities: DNS names, IP addresses, e-mail addresses, URIs; `LOOPBACK_IDENTITIES` when none is given.
            common_name: The subject's common name; by default the first identity.
            key_type: ``ecdsa`` (P-256), ``ecdsa-p384``, ``ecdsa-p521``, ``rsa`` (2048 bits), ``rsa-3072``,
                ``rsa-4096``, ``ed25519`` or ``ed448``.
            fresh_key: Do not share an RSA key with other credentials of the session.
            lifetime: How long it lasts where the two dates do not say.
            not_before: When it starts; an hour ago by default.
            not_after: When it ends.
            usage: A word of `USAGES`: ``server``, ``client``, ``both``, ``code_signing``, ``none``.
            chain_depth: How many intermediates stand between it and the root; they are part of its chain.
            must_staple: Whether it demands a stapled OCSP response.
            crl_url: Where its revocation list is said to be.
            ocsp_url: Where its OCSP responder is said to be.
            password: Encrypt the key in every file with this password.
            directory: Where its files go, by default a new directory below this authority's.

        Raises:
            ValueError: An argument is none of the choices; the message names them.
        """
        if usage not in USAGES:
            raise ValueError(f"usage={usage!r} is not a usage; write one of {', '.join(USAGES)}.")
        template = Template(
            identities=identities or LOOPBACK_IDENTITIES,
            common_name=common_name or (identities or LOOPBACK_IDENTITIES)[0][:64] or None,
            not_before=not_before,
            not_after=not_after,
            lifetime=lifetime,
            extended_key_usage=USAGES[usage],
            must_staple=must_staple,
            crl_url=crl_url,
            ocsp_url=ocsp_url,
        )
        issuer = self.intermediate(chain_depth)
        return self.issue_from(
            template, self.keys.take(key_type, fresh=fresh_key), issuer, password=password, directory=directory
        )

    def issue_from(
        self,
        template: Template,
        private_key: PrivateKey,
        issuer: Issuer | None = None,
        *,
        password: str | None = None,
        directory: str | os.PathLike[str] | None = None,
    ) -> IssuedCredential:
        """Issue whatever a template says, right or wrong, by any issuer (by default the root)."""
        issuer = issuer or self.root
        leaf = issuer.sign(template, private_key.public_key())
        return IssuedCredential(
            (leaf, *issuer.chain),
            private_key,
            issuer=issuer,
            parent_directory=self.directory,
            password=password,
            directory=None if directory is None else Path(directory),
        )

    def issue_self_signed(self, template: Template, private_key: PrivateKey) -> IssuedCredential:
        """Issue whatever a template says, signed by nobody but itself; its ``issuer`` signs others."""
        issuer = Issuer.self_signed(template, private_key)
        return IssuedCredential((issuer.certificate,), private_key, issuer=issuer, parent_directory=self.directory)

    def revoke(self, credential: IssuedCredential, reason: x509.ReasonFlags = x509.ReasonFlags.key_compromise) -> None:
        """Revoke a credential: from now on, revocation lists and OCSP responses say so."""
        self.revocations.revoke(credential.leaf, reason)

    def crl(self, credential: IssuedCredential | None = None, *, lifetime: timedelta = timedelta(days=1)) -> bytes:
        """Return the revocation list of whoever issued `credential` (by default the root), in PEM.

        Args:
            credential: Whose issuer's list it is.
            lifetime: When the next list is due; a negative one gives a list that has been out of date that long.
        """
        return self.revocations.crl(self.root if credential is None else credential.issuer, lifetime)

    def crl_path(self, credential: IssuedCredential) -> Path:
        """Return a new PEM file with the lists of all that stand above `credential`, as ``curl --crlfile`` wants it."""
        issuers: list[Issuer] = []
        issuer: Issuer | None = credential.issuer
        while issuer is not None:
            issuers.append(issuer)
            issuer = issuer.parent
        path = Path(tempfile.mkdtemp(prefix="crl-", dir=self.directory)) / "crl.pem"
        lists = (self.revocations.crl(issuer, timedelta(days=1)) for issuer in issuers)
        return write_private(path, b"".join(lists))

    def ocsp_response(self, credential: IssuedCredential, *, lifetime: timedelta = timedelta(days=1)) -> bytes:
        """Return a signed OCSP response on `credential` in DER: good, or revoked if it was.

        Args:
            credential: What it is about.
            lifetime: When the next response is due; a negative one gives a response that has been out of date that
                long.
        """
        return self.revocations.ocsp_response(credential.leaf, credential.issuer, lifetime)


@contextmanager
def temporary_authority() -> Generator[Authority]:
    """Give an `Authority` whose files are removed at the end, for suites without pytest."""
    with tempfile.TemporaryDirectory(prefix="secureserve-testing-") as directory:
        yield Authority(directory)


_TRUSTME_KEYS: Final[Mapping[str, trustme.KeyType]] = {"ecdsa": trustme.KeyType.ECDSA, "rsa": trustme.KeyType.RSA}

_TOLD_WHEN_MADE: Final[Mapping[str, str]] = {
    "httpx.Client": "it is told when it is made: httpx.Client(verify=tls_authority.client_context()).",
    "httpx.AsyncClient": "it is told when it is made: httpx.AsyncClient(verify=tls_authority.client_context()).",
    "aiohttp.TCPConnector": "it is told when it is made: aiohttp.TCPConnector(ssl=tls_authority.client_context()).",
    "aiohttp.ClientSession": (
        "its connector is told: aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls_authority."
        "client_context()))."
    ),
}
"""The clients that take their trust only when they are made, by class, and what to write."""

_TOLD_SOMEHOW: Final = (
    "give it tls_authority.client_context() where it takes an SSL context, or tls_authority.cert_path where it takes a "
    "file of trusted certificates."
)


def _issuer(authority: trustme.CA, parent: Issuer | None) -> Issuer:
    private_key = serialization.load_pem_private_key(authority.private_key_pem.bytes(), None)
    certificate = x509.load_pem_x509_certificate(authority.cert_pem.bytes())
    return Issuer(certificate, private_key, parent)  # type: ignore[arg-type]
