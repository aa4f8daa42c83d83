"""The part of the table of settings that is about certificates from an ACME authority."""

from __future__ import annotations

from typing import Final

from secureserve.managed.settings import acme_kinds, kinds
from secureserve.managed.settings.kinds import FLAG, choice, list_of, optional, seconds
from secureserve.managed.settings.setting import Section, Setting

__all__ = ["ACME_SETTINGS"]

ACME_SETTINGS: Final = (
    Setting(
        "acme_domain",
        acme_kinds.NAMES,
        (),
        "The names to obtain certificates for, one for each; names joined by a comma share one.",
        Section.ACME,
        reloadable=True,
    ),
    Setting(
        "acme_email",
        optional(acme_kinds.EMAIL),
        None,
        "Where the authority may write about the account.",
        Section.ACME,
    ),
    Setting(
        "acme_accept_terms",
        FLAG,
        False,
        "Whether you accept the authority's terms of service; making an account takes it, using one does not.",
        Section.ACME,
    ),
    Setting(
        "acme_directory",
        list_of(kinds.TEXT, "authorities"),
        ("letsencrypt",),
        "The authority: the name of a well-known one, or the URL of its directory; of several, the first that issues.",
        Section.ACME,
    ),
    Setting(
        "acme_ca_file",
        optional(kinds.PATH),
        None,
        "The path of the CA certificates that a private authority's own server is verified against.",
        Section.ACME,
    ),
    Setting(
        "acme_storage",
        optional(acme_kinds.STORAGE),
        None,
        "The directory of accounts, keys and certificates, in Python also a Storage; None: in the user's state folder.",
        Section.ACME,
    ),
    Setting(
        "acme_challenge",
        optional(list_of(choice("tls-alpn-01", "http-01", "dns-01"), "challenges")),
        None,
        "The challenges that may be used; None: tls-alpn-01, http-01 with redirect_port, dns-01 with acme_dns_hook.",
        Section.ACME,
    ),
    Setting(
        "acme_dns_hook",
        optional(acme_kinds.HOOK),
        None,
        "The command that publishes and removes TXT records for dns-01; in Python also a callable.",
        Section.ACME,
    ),
    Setting(
        "acme_dns_hook_timeout",
        seconds(minimum=0.001, maximum=7200),
        120,
        "The seconds that acme_dns_hook may take for one record, beyond which it is killed and the attempt fails.",
        Section.ACME,
    ),
    Setting(
        "acme_dns_propagation",
        seconds(maximum=7200),
        0,
        "The seconds that the servers of the zone take to have a record that acme_dns_hook has published.",
        Section.ACME,
    ),
    Setting(
        "acme_profile",
        optional(kinds.TEXT),
        None,
        "The certificate profile to ask for, such as shortlived; None: the authority's default.",
        Section.ACME,
    ),
    Setting(
        "acme_preferred_chain",
        optional(kinds.TEXT),
        None,
        "The name of the root to prefer where the authority offers several chains; None: its default.",
        Section.ACME,
    ),
    Setting(
        "acme_eab_key_id",
        optional(kinds.TEXT),
        None,
        "The identifier of the external account key that some authorities ask for.",
        Section.ACME,
    ),
    Setting(
        "acme_eab_hmac_key_file",
        optional(kinds.PATH),
        None,
        "The path of a file that holds the external account's HMAC key, in base64url.",
        Section.ACME,
    ),
    Setting(
        "acme_key_type",
        choice("ecdsa", "ecdsa-p384", "rsa", "rsa-3072", "rsa-4096"),
        "ecdsa",
        "The kind of key that certificates are obtained for: ecdsa is on P-256, rsa has 2048 bits.",
        Section.ACME,
    ),
    Setting(
        "acme_wait",
        seconds(maximum=3600),
        0,
        "The seconds that the start may take to obtain what is missing, beyond which it fails; 0: it never waits.",
        Section.ACME,
    ),
    Setting(
        "acme_on_demand",
        optional(kinds.OBJECT),
        None,
        "A function, or its name as module:attribute, that says of a name without a certificate whether to obtain one.",
        Section.ACME,
    ),
)
"""In the order of the reference page."""
