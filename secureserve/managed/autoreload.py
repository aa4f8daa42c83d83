"""Starting again when a file of the program changes: for development."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from secureserve.managed.engine import Engine

__all__ = ["Autoreloader"]

PRIORITY: Final = 80
STOP_SECONDS: Final = 10.0
DEBOUNCE_MILLISECONDS: Final = 50
"""An editor that saves several files makes one restart of it."""


class Autoreloader:
    """Restarts the engine's program when a module's file, or another that was named, changes or goes away.

    Args:
        engine: The engine; whoever blocks on it executes the program again.
        files: Further files, and directories with everything in them.

    Threads: one of its own, which sleeps until the system tells of a change.
    """

    def __init__(self, engine: Engine, files: Iterable[str | Path] = ()) -> None:
        self.engine = engine
        self.files = {Path(each).absolute() for each in files}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def subscribe(self) -> None:
        """Watch while the engine runs."""
        self.engine.subscribe("start", self.start, PRIORITY)
        self.engine.subscribe("stop", self.stop)

    def unsubscribe(self) -> None:
        """Watch no more with the engine."""
        self.engine.unsubscribe("start", self.start)
        self.engine.unsubscribe("stop", self.stop)

    def start(self) -> None:
        """Begin to watch. Harmless while it does."""
        if self._thread is not None:
            return
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, args=(self._stop,), name="autoreload", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop watching. Harmless when it has."""
        thread, self._thread = self._thread, None
        self._stop.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(STOP_SECONDS)

    def matters(self, path: Path) -> bool:
        """Return whether a change of `path` is a reason to restart."""
        return path in self.files or any(each in path.parents for each in self.files) or path in set(_module_files())

    def _watch(self, stop: threading.Event) -> None:
        from watchfiles import watch

        directories = {path.parent for path in _module_files()} | {
            path if path.is_dir() else path.parent for path in self.files
        }
        existing = sorted(path for path in directories if path.is_dir())
        deep = [path for path in self.files if path.is_dir()]
        for directories_watched, recursive in ((existing, False), (deep, True)):
            if recursive and directories_watched:
                threading.Thread(
                    target=self._follow, args=(directories_watched, True, stop, watch), name="autoreload", daemon=True
                ).start()
        self._follow(existing, False, stop, watch)

    def _follow(self, directories: list[Path], recursive: bool, stop: threading.Event, watch: Any) -> None:  # noqa: FBT001
        for changes in watch(
            *directories,
            recursive=recursive,
            stop_event=stop,
            debounce=DEBOUNCE_MILLISECONDS,
            step=10,
            raise_interrupt=False,
        ):
            changed = [path for _, name in changes if self.matters(path := Path(name))]
            if changed and not stop.is_set():
                self.engine.log(f"Restarting: {changed[0]} changed")
                # Leaving stops this watch as well, so it must not wait for itself.
                threading.Thread(target=self.engine.restart, name="autoreload restart", daemon=True).start()
                return


def _module_files() -> Iterator[Path]:
    """Yield the source file of every module that is loaded."""
    for module in list(sys.modules.values()):
        name = getattr(module, "__file__", None)
        if name:
            yield Path(name).absolute()
