"""What settings ask for that cannot be had together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from secureserve.certificates.names import address
from secureserve.errors import ConfigurationError, ConfigurationErrors
from secureserve.managed.acme import accounts_to_make, challenge_types
from secureserve.managed.settings.acme import ACME_SETTINGS
from secureserve.managed.tls import is_wanted

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["contradictions", "refuse_contradictions"]


def refuse_contradictions(values: Mapping[str, Any]) -> None:
    """See that every setting's value goes with every other's.

    Raises:
        ConfigurationError: Two of them do not.
        ConfigurationErrors: Several do not.
    """
    problems = contradictions(values)
    if problems:
        raise problems[0] if len(problems) == 1 else ConfigurationErrors(problems)


def contradictions(values: Mapping[str, Any]) -> list[ConfigurationError]:
    """Return what settings ask for that cannot be had together."""
    found = []
    secured = is_wanted(values)
    most = values["thread_pool_max"]
    if most != -1 and most < values["thread_pool"]:
        remedy = f"Use at least thread_pool, which is {values['thread_pool']}, or -1."
        found.append(ConfigurationError("thread_pool_max", most, "is less than thread_pool", remedy))
    for name, wanted in (("redirect_port", values["redirect_port"]), ("hsts", values["hsts"])):
        if wanted is not None and not secured:
            remedy = "Set ssl_certificate, or leave it out."
            found.append(ConfigurationError(name, wanted, "has no effect without TLS", remedy))
    for name in ("ssl_client_allow", "ssl_client_remote_user"):
        if values[name] is not None and values["ssl_client_verify"] == "none":
            remedy = "Set ssl_client_verify and ssl_client_ca, or leave it out."
            problem = "has no effect while ssl_client_verify is none"
            found.append(ConfigurationError(name, values[name], problem, remedy))
    if values["peercreds_resolve"] and not values["peercreds"]:
        found.append(ConfigurationError("peercreds_resolve", True, "has no effect without peercreds", "Set both."))
    if values["redirect_to_port"] is not None and values["redirect_port"] is None and values["plain_http"] == "reject":
        problem = "has no effect while nothing redirects"
        remedy = "Set redirect_port, or plain_http = 'redirect'."
        found.append(ConfigurationError("redirect_to_port", values["redirect_to_port"], problem, remedy))
    if values["redirect_port"] is not None and values["socket_file"] is not None:
        remedy = "Leave one of them out."
        found.append(ConfigurationError("redirect_port", values["redirect_port"], "needs a TCP port beside it", remedy))
    return found + _about_acme(values)


def _about_acme(values: Mapping[str, Any]) -> list[ConfigurationError]:
    """Return what the settings about an ACME authority ask for that cannot be had, alone or together."""
    found = []
    if not (values["acme_domain"] or values["acme_on_demand"]):
        remedy = "Set acme_domain, or leave it out."
        for setting in ACME_SETTINGS:
            if values[setting.name] != setting.default:
                problem = "has no effect without acme_domain"
                found.append(ConfigurationError(setting.name, values[setting.name], problem, remedy))
        return found
    # Terms are agreed to when an account is made (RFC 8555, 7.3); whoever has one has agreed.
    if not values["acme_accept_terms"] and (without := accounts_to_make(values)):
        problem = f"is not set, and without it no account can be made at {' and '.join(without)}"
        remedy = "Read the authority's terms of service, and set it if you accept them."
        found.append(ConfigurationError("acme_accept_terms", None, problem, remedy))
    if (values["acme_eab_key_id"] is None) != (values["acme_eab_hmac_key_file"] is None):
        missing = "acme_eab_key_id" if values["acme_eab_key_id"] is None else "acme_eab_hmac_key_file"
        found.append(ConfigurationError(missing, None, "is missing", "The authority gave you both; set both."))
    if values["acme_wait"] and not values["acme_domain"]:
        remedy = "Set acme_domain as well, or leave it out."
        found.append(ConfigurationError("acme_wait", values["acme_wait"], "has no name to wait for", remedy))
    return found + _about_challenges(values)


def _about_challenges(values: Mapping[str, Any]) -> list[ConfigurationError]:
    """Return what no challenge that this server can answer would prove."""
    found = []
    types = challenge_types(values)
    needed = {"http-01": ("redirect_port", "80"), "dns-01": ("acme_dns_hook", "to a command")}
    for kind, (name, example) in needed.items():
        if kind in types and values[name] is None:
            remedy = f"Set {name} {example}, or leave {kind} out."
            found.append(ConfigurationError("acme_challenge", kind, f"needs {name}", remedy))
    if values["acme_dns_hook"] is not None and "dns-01" not in types:
        remedy = "Add dns-01 to acme_challenge, or leave it out."
        found.append(ConfigurationError("acme_dns_hook", None, "is set, and acme_challenge has no dns-01", remedy))
    for setting in ACME_SETTINGS:
        is_for_hook = setting.name in {"acme_dns_hook_timeout", "acme_dns_propagation"}
        if is_for_hook and values[setting.name] != setting.default and values["acme_dns_hook"] is None:
            remedy = "Set acme_dns_hook, or leave it out."
            problem = "has no effect without acme_dns_hook"
            found.append(ConfigurationError(setting.name, values[setting.name], problem, remedy))
    if not types:
        remedy = "Leave it out, or name one."
        found.append(ConfigurationError("acme_challenge", None, "allows no challenge at all", remedy))
    for name in (name for names in values["acme_domain"] for name in names):
        if name.startswith("*.") and "dns-01" not in types:
            remedy = "Set acme_dns_hook: authorities issue wildcards by dns-01 only."
            found.append(ConfigurationError("acme_domain", name, "cannot be proven", remedy))
        if address(name) is not None and not {"tls-alpn-01", "http-01"} & set(types):
            remedy = "Allow tls-alpn-01 or http-01: there is no dns-01 for addresses."
            found.append(ConfigurationError("acme_domain", name, "cannot be proven", remedy))
    return found
