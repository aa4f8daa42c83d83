"""What settings ask for that cannot be had together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from secureserve.errors import ConfigurationError, ConfigurationErrors
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
    if values["redirect_port"] is not None and values["socket_file"] is not None:
        remedy = "Leave one of them out."
        found.append(ConfigurationError("redirect_port", values["redirect_port"], "needs a TCP port beside it", remedy))
    return found
