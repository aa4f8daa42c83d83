"""The part of the table of settings that is about TLS and certificates."""

from __future__ import annotations

from typing import Final

from secureserve.managed.settings import kinds
from secureserve.managed.settings.kinds import FLAG, choice, integer, list_of, optional, seconds
from secureserve.managed.settings.setting import Section, Setting

__all__ = ["TLS_SETTINGS"]

TLS_SETTINGS: Final = (
    Setting(
        "ssl_certificate",
        optional(kinds.PATH),
        None,
        "The path of the certificate with its chain (PEM, or PKCS#12 with its key).",
        Section.TLS,
    ),
    Setting(
        "ssl_private_key",
        optional(kinds.PATH),
        None,
        "The path of the certificate's private key; None: it is in the certificate's file.",
        Section.TLS,
    ),
    Setting(
        "ssl_certificate_chain",
        optional(kinds.PATH),
        None,
        "The path of the intermediate certificates, where ssl_certificate holds the leaf alone.",
        Section.TLS,
    ),
    Setting(
        "ssl_private_key_password",
        optional(kinds.PASSWORD),
        None,
        "The password of the private key, or a callable that returns it.",
        Section.TLS,
        on_command_line=False,
        secret=True,
    ),
    Setting(
        "ssl_private_key_password_file",
        optional(kinds.PATH),
        None,
        "The path of a file whose first line is the password of the private key.",
        Section.TLS,
    ),
    Setting(
        "ssl_certificate_directory",
        optional(kinds.PATH),
        None,
        "A directory of certificates with their keys, one of which is chosen for each client by the name it asks for.",
        Section.TLS,
    ),
    Setting(
        "certificate_sources",
        kinds.OBJECT,
        (),
        "Further certificates: a list of credentials and of sources that give some.",
        Section.TLS,
        on_command_line=False,
    ),
    Setting(
        "certificate_watch",
        FLAG,
        True,
        "Whether replaced certificate files are noticed and taken into use.",
        Section.TLS,
    ),
    Setting(
        "certificate_polling_interval",
        seconds(),
        0,
        "The seconds between looks at the certificate files where the system tells no changes (NFS); 0: it tells.",
        Section.TLS,
    ),
    Setting(
        "sni_strict",
        FLAG,
        False,
        "Refuse clients that ask for a name no certificate covers, instead of presenting the default one.",
        Section.TLS,
    ),
    Setting(
        "start_with_emergency_certificate",
        FLAG,
        False,
        "Serve a self-signed certificate, loudly, where the configured one cannot be loaded at the start.",
        Section.TLS,
    ),
    Setting(
        "control_socket",
        optional(kinds.PATH),
        None,
        "The path of a unix socket through which `secureserve certs` reaches the running server; None: there is none.",
        Section.TLS,
    ),
    Setting(
        "ssl_module",
        choice("pyopenssl", "builtin"),
        "pyopenssl",
        "The TLS engine: pyopenssl brings its own OpenSSL, builtin is the standard library's.",
        Section.TLS,
    ),
    Setting(
        "tls_policy",
        kinds.TLS_POLICY,
        "intermediate",
        "The TLS policy: intermediate is TLS 1.2 and 1.3, modern is TLS 1.3 alone; in Python also a TLSPolicy.",
        Section.TLS,
    ),
    Setting(
        "tls_minimum_version",
        optional(choice("TLSv1.2", "TLSv1.3")),
        None,
        "The oldest TLS version that is spoken; None: the policy's.",
        Section.TLS,
    ),
    Setting(
        "tls_maximum_version",
        optional(choice("TLSv1.2", "TLSv1.3")),
        None,
        "The newest TLS version that is spoken; None: the policy's.",
        Section.TLS,
    ),
    Setting(
        "tls_groups",
        optional(list_of(kinds.TEXT, "groups", separators=",:")),
        None,
        "The key exchange groups to allow, best first; None: the policy's.",
        Section.TLS,
    ),
    Setting(
        "tls_session_tickets",
        FLAG,
        True,
        "Whether sessions may be resumed; where clients are verified they never are.",
        Section.TLS,
    ),
    Setting(
        "tls_session_ticket_lifetime",
        seconds(minimum=1, maximum=604_800),
        7200.0,
        "The seconds for which a session can be resumed.",
        Section.TLS,
    ),
    Setting(
        "tls_ocsp_staple",
        optional(kinds.TEXT),
        None,
        "The path of an OCSP response to staple, or 'fetch' to ask the certificate's own responder.",
        Section.TLS,
    ),
    Setting(
        "tls_keylog_file",
        optional(kinds.PATH),
        None,
        "The path of a file to write every connection's secrets to, for debugging: who reads it can read the traffic.",
        Section.TLS,
    ),
    Setting(
        "ssl_ciphers",
        optional(list_of(kinds.TEXT, "TLS 1.2 cipher suites", separators=",:")),
        None,
        "The TLS 1.2 cipher suites to allow, best first, separated by commas or colons; None: the policy's.",
        Section.TLS,
    ),
    Setting(
        "ssl_ciphersuites",
        optional(list_of(kinds.TEXT, "TLS 1.3 cipher suites", separators=",:")),
        None,
        "The TLS 1.3 cipher suites to allow, best first, separated by commas or colons; None: the policy's.",
        Section.TLS,
    ),
    Setting(
        "ssl_client_ca",
        optional(kinds.PATH),
        None,
        "The path of the CA certificates that client certificates are verified against.",
        Section.TLS,
    ),
    Setting(
        "ssl_client_verify",
        choice("none", "optional", "required"),
        "none",
        "Whether clients are asked for a certificate, and whether they must have one.",
        Section.TLS,
    ),
    Setting(
        "ssl_client_verify_depth",
        integer(minimum=0, maximum=100),
        3,
        "How many intermediate authorities may stand between a client's certificate and one of ssl_client_ca.",
        Section.TLS,
    ),
    Setting(
        "ssl_client_crl",
        optional(kinds.PATH),
        None,
        "The path of revocation lists that client certificates are checked against.",
        Section.TLS,
    ),
    Setting(
        "ssl_client_crl_expired",
        choice("refuse", "accept"),
        "refuse",
        "What happens to client certificates while their issuer's revocation list is out of date.",
        Section.TLS,
    ),
    Setting(
        "ssl_client_allow",
        optional(list_of(kinds.TEXT, "rules", separators=",")),
        None,
        "Rules of which a client's certificate has to match one, such as email:*@example.test, or the answer is 403.",
        Section.TLS,
    ),
    Setting(
        "ssl_client_remote_user",
        optional(kinds.TEXT),
        None,
        "The variable that REMOTE_USER is set from for verified clients, such as SSL_CLIENT_S_DN_CN.",
        Section.TLS,
    ),
)
"""In the order of the reference page."""
