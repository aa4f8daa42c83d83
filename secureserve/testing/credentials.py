"""A credential as an authority of a test issued it, in memory and in files."""

from __future__ import annotations

import os
import ssl
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.serialization import pkcs12
from trustme import Blob

if TYPE_CHECKING:
    from collections.abc import Sequence

    from secureserve.certificates.credential import Credential
    from secureserve.testing.keys import PrivateKey
    from secureserve.testing.layouts import Files, Layout
    from secureserve.testing.template import Issuer

__all__ = ["IssuedCredential", "write_private"]


class IssuedCredential:
    """A certificate chain and its private key, with files that are written when a path is first asked for.

    The PEM attributes carry the names of trustme's ``LeafCert``.

    Args:
        chain: The certificates, the leaf first, without the root.
        private_key: The leaf's key.
        issuer: Who signed the leaf.
        parent_directory: Below which a directory is made for its files.
        password: What the key is encrypted with in every file and PEM.
        directory: Where its files go instead.
    """

    def __init__(
        self,
        chain: Sequence[x509.Certificate],
        private_key: PrivateKey,
        *,
        issuer: Issuer,
        parent_directory: Path,
        password: str | None = None,
        directory: Path | None = None,
    ) -> None:
        self.chain = tuple(chain)
        self.private_key = private_key
        self.issuer = issuer
        self.password = password
        self.parent_directory = parent_directory
        self._directory = directory

    def __repr__(self) -> str:
        """Say whose it is and until when, never the key."""
        return f"IssuedCredential({', '.join(self.identities) or 'no names'}, until {self.leaf.not_valid_after_utc})"

    @property
    def leaf(self) -> x509.Certificate:
        """The certificate that names the server or client."""
        return self.chain[0]

    @property
    def identities(self) -> tuple[str, ...]:
        """What the leaf's subject alternative name holds, as text."""
        try:
            extension = self.leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        except x509.ExtensionNotFound:
            return ()
        return tuple(str(name.value) for name in extension.value)

    @property
    def intended_for(self) -> tuple[str, ...]:
        """Whom it is for; of a bad credential, whom it would be for if it were good."""
        return self.identities

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the leaf, in lower-case hexadecimal."""
        return self.leaf.fingerprint(hashes.SHA256()).hex()

    @property
    def credential(self) -> Credential:
        """It as `secureserve.certificates.credential.Credential`, which a `CertificateStore` serves."""
        from secureserve.certificates.credential import Credential

        return Credential(chain=self.chain, private_key=self.private_key, origin="secureserve.testing")

    @property
    def cert_chain_pems(self) -> list[Blob]:
        """Each certificate of the chain in PEM, the leaf first."""
        return [Blob(_pem(certificate)) for certificate in self.chain]

    @property
    def private_key_pem(self) -> Blob:
        """The key in PEM (PKCS#8), encrypted if there is a password."""
        protection: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if self.password is not None:
            protection = serialization.BestAvailableEncryption(self.password.encode())
        return Blob(
            self.private_key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)
        )

    @property
    def private_key_and_cert_chain_pem(self) -> Blob:
        """The key and the whole chain in one PEM."""
        return Blob(self.private_key_pem.bytes() + self.cert_chain_pem.bytes())

    @property
    def cert_chain_pem(self) -> Blob:
        """The whole chain in one PEM, the leaf first."""
        return Blob(b"".join(_pem(certificate) for certificate in self.chain))

    @property
    def pkcs12(self) -> bytes:
        """Key and chain as PKCS#12, encrypted if there is a password.

        Raises:
            ValueError: The key is not the leaf's, which a store cannot express.
        """
        protection: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if self.password is not None:
            protection = serialization.BestAvailableEncryption(self.password.encode())
        return pkcs12.serialize_key_and_certificates(
            b"secureserve", self.private_key, self.leaf, self.chain[1:], protection
        )

    @property
    def directory(self) -> Path:
        """Where its files are, made with mode 0700 when first asked for."""
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="credential-", dir=self.parent_directory))
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._directory

    @property
    def certificate_path(self) -> Path:
        """A PEM file of the whole chain, the leaf first: what ``ssl_certificate`` wants."""
        return self._file("fullchain.pem", self.cert_chain_pem.bytes)

    @property
    def private_key_path(self) -> Path:
        """A PEM file of the key, mode 0600."""
        return self._file("key.pem", self.private_key_pem.bytes)

    @property
    def leaf_path(self) -> Path:
        """A PEM file of the leaf alone."""
        return self._file("leaf.pem", self.cert_chain_pems[0].bytes)

    @property
    def chain_path(self) -> Path:
        """A PEM file of the intermediates, without the leaf; empty where there are none."""
        return self._file("chain.pem", lambda: b"".join(_pem(certificate) for certificate in self.chain[1:]))

    @property
    def pem_path(self) -> Path:
        """A PEM file with the key and the whole chain."""
        return self._file("combined.pem", self.private_key_and_cert_chain_pem.bytes)

    @property
    def pkcs12_path(self) -> Path:
        """A PKCS#12 file with the key and the whole chain."""
        return self._file("credential.p12", lambda: self.pkcs12)

    def write(
        self, directory: str | os.PathLike[str], layout: Layout | str = "pair", *, name: str = "example.test"
    ) -> Files:
        """Write it as one of the tools does that hand out certificates.

        Args:
            directory: The tool's directory, made if missing. What is there already is replaced as the tool replaces it.
            layout: One of `Layout`, or its value.
            name: The name under which the tool keeps it.

        Returns:
            Where the parts are.

        Raises:
            ValueError: There is no such layout; the message names those that there are.
        """
        from secureserve.testing.layouts import Parts, write

        return write(Parts.of(self), Path(directory), layout, name=name)

    def configure_cert(self, context: Any) -> None:
        """Make a context present it.

        Args:
            context: An `ssl.SSLContext` or an ``OpenSSL.SSL.Context``.

        Raises:
            TypeError: It is neither.
        """
        if isinstance(context, ssl.SSLContext):
            context.load_cert_chain(self.certificate_path, self.private_key_path, self.password)
        elif type(context).__module__.startswith("OpenSSL"):
            context.use_certificate(self.leaf)
            context.use_privatekey(self.private_key)
            for certificate in self.chain[1:]:
                context.add_extra_chain_cert(certificate)
        else:
            raise TypeError(
                f"configure_cert() takes an ssl.SSLContext or an OpenSSL.SSL.Context, not {type(context).__name__}; "
                f"give other clients .certificate_path and .private_key_path."
            )

    def server_context(self) -> ssl.SSLContext:
        """Return a new server context that presents it, however bad it is: for servers other than this package's."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # OpenSSL's security level would keep a server from presenting what its client is to refuse.
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        self.configure_cert(context)
        return context

    def _file(self, name: str, content: Any) -> Path:
        path = self.directory / name
        if not path.exists():
            write_private(path, content())
        return path


def write_private(path: Path, content: bytes) -> Path:
    """Write a new file, or replace one, in one step and with mode 0600, and return its path."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    Path(temporary).replace(path)
    return path


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
