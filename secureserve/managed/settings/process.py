"""The part of the table of settings that is about the process, whatever servers run in it."""

from __future__ import annotations

from typing import Final

from secureserve.managed.settings import kinds
from secureserve.managed.settings.kinds import FLAG, list_of, optional
from secureserve.managed.settings.setting import Section, Setting

__all__ = ["PROCESS_SETTINGS"]

PROCESS_SETTINGS: Final = (
    Setting(
        "pid_file",
        optional(kinds.PATH),
        None,
        "The path of a file to keep the process number in, locked while it runs.",
        Section.PROCESS,
        scope="engine",
    ),
    Setting(
        "user",
        optional(kinds.USER),
        None,
        "The user to become once the sockets are bound and the keys read.",
        Section.PROCESS,
        scope="engine",
    ),
    Setting(
        "group",
        optional(kinds.GROUP),
        None,
        "The group to become with user; None: the user's own.",
        Section.PROCESS,
        scope="engine",
    ),
    Setting(
        "umask",
        optional(kinds.MODE),
        None,
        "The permissions that files made from then on do not get, an octal number.",
        Section.PROCESS,
        scope="engine",
    ),
    Setting(
        "access_log",
        optional(kinds.PATH),
        None,
        "The path of a file to log every response in; - is standard output, None is nowhere.",
        Section.LOGS,
        command_line_default="-",
        scope="engine",
    ),
    Setting(
        "error_log",
        optional(kinds.PATH),
        None,
        "The path of a file to log everything else in; - and None are standard error.",
        Section.LOGS,
        scope="engine",
    ),
    Setting(
        "autoreload",
        FLAG,
        False,
        "Restart when a file of the program changes, for development.",
        Section.PROCESS,
        scope="engine",
    ),
    Setting(
        "autoreload_files",
        list_of(kinds.PATH, "paths"),
        (),
        "Further files and directories whose change restarts.",
        Section.PROCESS,
        scope="engine",
    ),
)
"""In the order of the reference page."""
