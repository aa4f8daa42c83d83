"""The reference page of the plugin, made from its docstrings: ``python -m tests.testing.reference`` writes it again."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any, Final

import secureserve.testing
from secureserve import pytest_plugin
from secureserve.testing import BAD_KINDS, FILE_FAULTS, Layout, RefusedBy

PAGE: Final = Path(__file__).parents[2] / "docs" / "reference" / "testing.md"

FIXTURES: Final = (
    "tls_authority",
    "tls_credential",
    "client_credential",
    "tls_client_context",
    "https_server",
    "https_url",
    "bad_credentials",
    "bad_credential",
    "credential_directory",
    "hostile_client",
    "acme_authority",
)

REFUSED_BY: Final = {
    RefusedBy.HANDSHAKE: "Every client, in the handshake",
    RefusedBy.REVOCATION: "Clients that check revocation",
    RefusedBy.STRICT: "Clients that keep to RFC 9525",
    RefusedBy.LOADING: "Whoever loads the files",
}


def page() -> str:
    """Return the page."""
    lines = [
        "<!-- Made from the code by `python -m tests.testing.reference`; change the docstrings instead. -->",
        "",
        "# Testing",
        "",
        "The pytest plugin comes with `secureserve[testing]`. What the fixtures give is also in `secureserve.testing`,",
        "as classes and context managers for suites without pytest.",
        "",
        "## Fixtures",
        "",
    ]
    for name in FIXTURES:
        lines += [f"### {name}", "", _prose(_docstring(getattr(pytest_plugin, name))), ""]
    lines += [
        "### The marker bad_credentials",
        "",
        '`@pytest.mark.bad_credentials("expired", "wrong_host")` runs a test for these kinds only,',
        '`also=["revoked"]` adds and `without=["sha1_signature"]` leaves out.',
        "",
        "## Bad credentials",
        "",
        "| Name | What is wrong | Rule | Who has to refuse it | How OpenSSL says it |",
        "|---|---|---|---|---|",
    ]
    for kind in BAD_KINDS.values():
        told = f"`{kind.openssl}`" if kind.refused_by is not RefusedBy.STRICT else "nothing"
        lines.append(f"| `{kind.name}` | {kind.fault} | {kind.rule} | {REFUSED_BY[kind.refused_by]} | {told} |")
    faults = ", ".join(f"`{name}`" for name in (*FILE_FAULTS, "missing"))
    lines += ["", f"`credential_directory().break_()` takes these names, and {faults}.", "", "## Layouts of files", ""]
    comments = _member_docstrings(Layout)
    lines += [f"* `{layout.value}`: {comments[layout.name]}" for layout in Layout]
    lines += ["", "## secureserve.testing", ""]
    for name in secureserve.testing.__all__:
        value = getattr(secureserve.testing, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            lines += [f"### secureserve.testing.{name}", "", _prose(inspect.getdoc(value) or ""), ""]
            lines += _methods(value)
    return "\n".join(lines).rstrip() + "\n"


def _docstring(fixture: Any) -> str:
    return inspect.getdoc(getattr(fixture, "_fixture_function", fixture)) or ""


def _methods(value: Any) -> list[str]:
    if not inspect.isclass(value):
        return []
    short, long = [], []
    for name, member in vars(value).items():
        if name.startswith("_") or not (inspect.isfunction(member) or isinstance(member, property)):
            continue
        docstring = inspect.getdoc(member) or ""
        if "Args:" in docstring:
            long += [f"#### {value.__name__}.{name}", "", _prose(docstring), ""]
        else:
            sentence = " ".join(docstring.split("\n\n")[0].split()).replace("``", "`")
            short.append(f"* `{name}`{'' if isinstance(member, property) else '()'}: {sentence}")
    return [*short, "", *long] if short else long


def _member_docstrings(enumeration: Any) -> dict[str, str]:
    source = inspect.getsource(enumeration)
    found = re.findall(r'^    (\w+) = "[^"]+"\n    """(.+?)"""', source, re.MULTILINE | re.DOTALL)
    return {name: " ".join(text.split()).replace("``", "`") for name, text in found}


def _prose(docstring: str) -> str:
    lines = []
    for line in docstring.replace("``", "`").splitlines():
        if re.fullmatch(r"(Args|Attributes|Raises|Returns|Yields|Threads):", line):
            lines += ["", f"**{line[:-1]}**", ""]
        elif match := re.match(r"    (\*{0,2}\w+): (.*)", line):
            lines.append(f"* `{match[1]}`: {match[2]}")
        else:
            lines.append(f"  {line.strip()}" if line.startswith("        ") else line.strip())
    return "\n".join(lines).strip()


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
