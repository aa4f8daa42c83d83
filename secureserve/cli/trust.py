"""How to trust a development authority, on the system at hand."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

__all__ = ["instructions", "system_family"]

_OS_RELEASE: Final = Path("/etc/os-release")

_SYSTEM_COMMANDS: Final = {
    "debian": (
        "sudo cp {path} /usr/local/share/ca-certificates/secureserve-development.crt",
        "sudo update-ca-certificates",
    ),
    "fedora": (
        "sudo cp {path} /etc/pki/ca-trust/source/anchors/secureserve-development.pem",
        "sudo update-ca-trust",
    ),
    "arch": ("sudo trust anchor --store {path}",),
    "suse": (
        "sudo cp {path} /etc/pki/trust/anchors/secureserve-development.pem",
        "sudo update-ca-certificates",
    ),
    "alpine": (
        "sudo cp {path} /usr/local/share/ca-certificates/secureserve-development.crt",
        "sudo update-ca-certificates",
    ),
    "macos": ("sudo security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain {path}",),
}
_FAMILIES: Final = {
    "debian": ("debian", "ubuntu"),
    "fedora": ("fedora", "rhel", "centos"),
    "arch": ("arch",),
    "suse": ("suse", "opensuse"),
    "alpine": ("alpine",),
}


def instructions(path: Path) -> list[str]:
    """Return the lines that tell a person how to trust a certificate.

    Args:
        path: The authority's certificate.
    """
    family = system_family()
    lines = [f"The development authority's certificate is {path}", ""]
    lines += ["For one command, without trusting it anywhere else:"]
    lines += [f"  curl --cacert {path} https://localhost:8443/"]
    lines += [f"  export SSL_CERT_FILE={path}          # Python, OpenSSL, Go"]
    lines += [f"  export REQUESTS_CA_BUNDLE={path}     # requests"]
    lines += [f"  export NODE_EXTRA_CA_CERTS={path}    # Node.js", ""]
    commands = _SYSTEM_COMMANDS.get(family, ())
    if commands:
        lines += ["For everything on this system:", *(f"  {command.format(path=path)}" for command in commands), ""]
    else:
        lines += ["For everything on this system: see how its distribution adds a local certificate authority.", ""]
    lines += ["For Chromium and Firefox, which keep a list of their own on Linux:"]
    lines += [f"  certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n secureserve-development -i {path}"]
    lines += ["  Firefox: Settings, Privacy & Security, View Certificates, Authorities, Import", ""]
    lines += ["It can vouch for local names and private addresses only. Keep its key where it is."]
    return lines


def system_family(os_release: Path = _OS_RELEASE) -> str:
    """Return which family of systems this is; ``unknown`` when that cannot be told.

    Args:
        os_release: The file that describes the distribution (os-release(5)).
    """
    if sys.platform == "darwin":
        return "macos"
    try:
        text = os_release.read_text("utf-8")
    except OSError:
        return "unknown"
    fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    words = f"{fields.get('ID', '')} {fields.get('ID_LIKE', '')}".replace('"', "").lower().replace("-", " ").split()
    return next((family for word in words for family, members in _FAMILIES.items() if word in members), "unknown")
