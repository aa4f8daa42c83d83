"""The benchmark's own environment: a virtual environment with the peers, and what else is installed on the machine."""

from __future__ import annotations

import compileall
import hashlib
import os
import platform
import shutil
import ssl
import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path
from typing import Final

__all__ = ["ROOT", "describe", "enter", "has_tool"]

ROOT: Final = Path(__file__).resolve().parent.parent
"""The project's directory, from which servers import the application."""

REQUIREMENTS: Final = Path(__file__).with_name("requirements.txt")

PEERS: Final = (
    "secureserve",
    "cheroot",
    "gunicorn",
    "uvicorn",
    "hypercorn",
    "granian",
    "waitress",
    "pyOpenSSL",
    "cryptography",
)

TOOLS: Final = {"wrk": ("-v",), "nginx": ("-v",), "caddy": ("version",), "openssl": ("version",)}
"""Programs that are used when they are installed, and how each tells its version."""


def enter(directory: Path | None) -> None:
    """Go on in an environment that has the peers; makes it if need be. Returns only inside of it.

    There it sees to it that the package is compiled, as the peers are since they were installed.

    Args:
        directory: Where it is, or is to be; None for a place among the user's caches.
    """
    directory = directory or _usual_place()
    python = directory / "bin" / "python"
    if Path(sys.prefix).resolve() == directory.resolve():
        compileall.compile_dir(ROOT / "secureserve", quiet=2)
        return
    made_of = REQUIREMENTS.read_bytes() + str(ROOT).encode() + sys.base_prefix.encode()
    digest = hashlib.sha256(made_of).hexdigest()
    mark = directory / "benchmarks.sha256"
    if not mark.is_file() or mark.read_text() != digest:
        print(f"Installing the peers in {directory} ...", flush=True)
        venv.create(directory, with_pip=True)
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "--upgrade", "--requirement", REQUIREMENTS, "--editable", ROOT],
            check=True,
        )
        mark.write_text(digest)
    os.chdir(ROOT)
    os.execv(python, [str(python), "-m", "benchmarks", *sys.argv[1:]])  # noqa: S606 - the environment just made


def _usual_place() -> Path:
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return caches / "secureserve" / f"benchmarks-{sys.version_info.major}.{sys.version_info.minor}"


def has_tool(name: str) -> bool:
    """Return whether a program is installed."""
    return shutil.which(name) is not None


def describe() -> dict[str, str]:
    """Return what the figures depend on, in words that name no machine."""
    words = {
        "cores": f"{len(os.sched_getaffinity(0))}, shared by the server and the load generator",
        "python": f"{platform.python_implementation()} {platform.python_version()}, {_python_origin()}",
        "ssl": ssl.OPENSSL_VERSION,
        "pyOpenSSL's library": _pyopenssl_library(),
    }
    words.update({name: _version(name) for name in PEERS})
    words.update({name: _tool_version(name, arguments) for name, arguments in TOOLS.items()})
    return words


def _python_origin() -> str:
    """Return whose Python this is: distributions optimise theirs, and what people build themselves often is not."""
    return "the system's" if Path(sys.base_prefix) == Path("/usr") else "not the system's"


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


def _pyopenssl_library() -> str:
    from OpenSSL import SSL

    return SSL.OpenSSL_version(SSL.OPENSSL_VERSION).decode()


def _tool_version(name: str, arguments: tuple[str, ...]) -> str:
    if not has_tool(name):
        return "not installed"
    told = subprocess.run([name, *arguments], capture_output=True, text=True, check=False, timeout=10)
    words = (told.stdout + told.stderr).split("\n")[0].split()
    return next((word.rpartition("/")[2] for word in words if any(c.isdigit() for c in word)), "unknown")
