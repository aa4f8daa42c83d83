"""What is measured: one module for each scenario, and the table of them."""

from __future__ import annotations

from benchmarks.scenarios import (
    downloads,
    hostile,
    identity,
    idle_memory,
    keepalive,
    mixed,
    new_connections,
    resumption,
    rotation,
    startup,
    uploads,
    waiting,
)

__all__ = ["SCENARIOS"]

SCENARIOS = (
    keepalive.SCENARIO,
    new_connections.SCENARIO,
    resumption.SCENARIO,
    downloads.SCENARIO,
    uploads.SCENARIO,
    waiting.SCENARIO,
    mixed.SCENARIO,
    idle_memory.SCENARIO,
    startup.SCENARIO,
    hostile.SCENARIO,
    rotation.SCENARIO,
    identity.SCENARIO,
)
"""In the order in which they are measured and reported."""
