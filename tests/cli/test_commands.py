"""The commands, each loaded when it is asked for."""

from __future__ import annotations

import subprocess
import sys


def test_serving_loads_nothing_of_other_commands() -> None:
    """What `run` does brings along neither the other commands nor what draws tables on terminals."""
    program = (
        "import sys, typer\n"
        "before = set(sys.modules)  # some releases of typer bring rich along\n"
        "from secureserve.cli import main\n"
        "try:\n"
        "    main(['run', 'no_such_module:application'])\n"
        "except SystemExit as end:\n"
        "    print(end.code)\n"
        "commands = [f'secureserve.cli.{name}' for name in ('run', 'demo', 'check', 'certs', 'acme')]\n"
        "unwanted = (*commands, 'rich', 'html', 'asyncio', 'watchfiles')\n"
        "print([name for name in unwanted if name in sys.modules and name not in before])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "2\n['secureserve.cli.run']\n"


def test_a_misspelt_command_gets_a_suggestion() -> None:
    """Commands that are not loaded are known by name all the same."""
    done = subprocess.run([sys.executable, "-m", "secureserve", "cehck"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Did you mean 'check'?" in done.stderr
