"""The states of an engine, and what moves it from one to another."""

from __future__ import annotations

import enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["TRANSITIONS", "State", "Step"]


class State(enum.Enum):
    """Where an engine is in its life."""

    STOPPED = "STOPPED"
    STARTING = "STARTING"
    STARTED = "STARTED"
    STOPPING = "STOPPING"
    EXITING = "EXITING"


class Step(enum.Enum):
    """What moves an engine on."""

    START = "start"
    START_DONE = "start is done"
    STOP = "stop"
    STOP_DONE = "stop is done"
    EXIT = "exit"


TRANSITIONS: Final[Mapping[State, Mapping[Step, State]]] = MappingProxyType(
    {
        State.STOPPED: {Step.START: State.STARTING, Step.STOP: State.STOPPING, Step.EXIT: State.EXITING},
        State.STARTING: {Step.START_DONE: State.STARTED, Step.STOP: State.STOPPING},
        State.STARTED: {Step.STOP: State.STOPPING},
        State.STOPPING: {Step.STOP_DONE: State.STOPPED},
        State.EXITING: {Step.START: State.STARTING},
    }
)
"""An engine that has exited may be started again, as a test suite does with one after the other."""
