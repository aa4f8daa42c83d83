"""Build the source distribution and from it the wheel, install that in an empty environment, and run it there."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from zipfile import ZipFile

sys.path.insert(0, str(Path(__file__).parent))
from check_demo import check

ROOT = Path(__file__).parents[2]
NEEDED = {"secureserve/py.typed", "secureserve/demo.html", "secureserve/pytest_plugin.py"}


def build(directory: Path) -> Path:
    """Return a wheel that was built from the source distribution, as an installer without wheels would."""
    subprocess.run(
        [sys.executable, "-m", "build", "--outdir", directory, ROOT],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    (wheel,) = directory.glob("*.whl")
    names = set(ZipFile(wheel).namelist())
    if missing := NEEDED - names:
        raise SystemExit(f"The wheel lacks {sorted(missing)}.")
    if strange := sorted(name for name in names if not name.startswith(("secureserve/", "secureserve-"))):
        raise SystemExit(f"The wheel installs what is not the package: {strange}.")
    if not any(name.endswith("/licenses/LICENSE") for name in names):
        raise SystemExit("The wheel lacks its license.")
    return wheel


def main(directory: Path) -> None:
    """Do all of it below `directory`."""
    shutil.rmtree(directory, ignore_errors=True)
    wheel = build(directory / "dist")
    environment = directory / "venv"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    subprocess.run([environment / "bin" / "pip", "install", "--quiet", wheel], check=True)
    subprocess.run([environment / "bin" / "pip", "check"], check=True)
    with tempfile.TemporaryDirectory() as home:
        check(f"cd / && exec {shlex.quote(str(environment / 'bin' / 'secureserve'))} demo", Path(home))
    print(f"{wheel.name} installs and runs.")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve() / "wheel")
