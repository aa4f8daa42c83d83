"""Starting again when a file of the program changes: for development."""

from __future__ import annotations

import functools
import logging
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from secureserve.managed.channels import ChannelFailures
from secureserve.managed.subscriber import Subscriber

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from secureserve.managed.engine import Engine
    from secureserve.managed.subscriber import Subscription

__all__ = ["Autoreloader"]

PRIORITY: Final = 80
STOP_SECONDS: Final = 10.0
STEP_MILLISECONDS: Final = 10
DEBOUNCE_MILLISECONDS: Final = 50
"""An editor that saves several files makes one restart of it."""


class Autoreloader(Subscriber):
    """Restarts the engine's program when a module's file, or another that was named, changes or goes away.

    Args:
        engine: The engine; whoever blocks on it executes the program again.
        files: Further files, and directories with everything in them.

    Threads: one or two of its own, which sleep until the system tells of a change.
    """

    def __init__(self, engine: Engine, files: Iterable[str | Path] = ()) -> None:
        super().__init__(engine)
        self.files = {Path(each).absolute() for each in files}
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to watch. Harmless while it does."""
        if self._threads:
            return
        self._stop = threading.Event()
        beside = {path.parent for path in _module_files()} | {path.parent for path in self.files}
        within = {path for path in self.files if path.is_dir()}
        for directories, recursive in ((beside, False), (within, True)):
            existing = sorted(str(path) for path in directories if path.is_dir())
            if existing:
                follow = functools.partial(self._follow, existing, recursive=recursive, stop=self._stop)
                self._threads.append(threading.Thread(target=follow, name="autoreload", daemon=True))
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop watching. Harmless when it has."""
        self._stop.set()
        threads, self._threads = self._threads, []
        for thread in threads:
            thread.join(STOP_SECONDS)

    def matters(self, path: Path) -> bool:
        """Return whether a change of `path` is a reason to restart."""
        return path in self.files or any(each in path.parents for each in self.files) or path in set(_module_files())

    def _subscriptions(self) -> Iterable[Subscription]:
        return [("start", self.start, PRIORITY), ("stop", self.stop, None)]

    def _follow(self, directories: list[str], *, recursive: bool, stop: threading.Event) -> None:
        from watchfiles import watch

        for changes in watch(
            *directories, recursive=recursive, stop_event=stop, debounce=DEBOUNCE_MILLISECONDS, step=STEP_MILLISECONDS
        ):
            changed = [path for _, name in changes if self.matters(path := Path(name))]
            if changed and not stop.is_set():
                self.engine.log(f"Restarting: {changed[0]} changed")
                # A restart ends this watch and waits for it, so it is another thread's work.
                threading.Thread(target=self._restart, name="autoreload restart", daemon=True).start()
                return

    def _restart(self) -> None:
        try:
            self.engine.restart()
        except ChannelFailures as failures:
            self.engine.log(f"Not restarting: {failures}", logging.WARNING)


def _module_files() -> Iterator[Path]:
    """Yield the source file of every module that is loaded."""
    for module in list(sys.modules.values()):
        name = getattr(module, "__file__", None)
        if name:
            yield Path(name).absolute()
