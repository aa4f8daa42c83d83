"""How the suites inside these tests are run."""

from __future__ import annotations

from typing import Final

# Hypothesis would be imported anew, and slowly, at the end of every run.
ALONE: Final = (
    *("-p", "no:randomly"),
    *("-p", "no:cacheprovider"),
    *("-p", "no:xdist"),
    *("-p", "no:hypothesispytest"),
)
"""Options that leave out the plugins of the suite outside."""
