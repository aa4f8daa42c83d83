"""Bars in SVG."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

from benchmarks.servers import OURS, SERVERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.results import Results

__all__ = ["CHARTS", "chart"]

CHARTS: Final = (
    (
        "keepalive",
        "12 B, 32 connections",
        "requests/s",
        "Keep-alive requests per second, 32 connections (more is better)",
    ),
    (
        "keepalive",
        "12 B, 32 connections",
        "CPU us/request",
        "Server CPU per keep-alive request, microseconds (less is better)",
    ),
    (
        "new connections",
        "16 clients",
        "CPU us/connection",
        "Server CPU per new TLS connection, microseconds (less is better)",
    ),
)
"""Scenario, case, measure and title of each group of bars."""

WIDTH: Final = 760
LABELS: Final = 190
BAR: Final = 20
TITLE: Final = 34
STYLE: Final = (
    "text{font:13px sans-serif;fill:#222}.title{font-weight:bold}"
    ".ours{fill:#0b6e4f}.peer{fill:#9aa5b1}.spread{stroke:#222}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}.spread{stroke:#ddd}.ours{fill:#3ecf9a}}"
)


def chart(results: Results) -> str:
    """Return an SVG image of the chief figures: a bar for the median, a line from the least to the most."""
    parts: list[str] = []
    y = 0
    for scenario, case, measure, title in CHARTS:
        names = [server.name for server in SERVERS if results.spread(scenario, case, server.name, measure)]
        if names:
            parts.append(f'<text class="title" x="4" y="{y + 22}">{escape(title)}</text>')
            parts += _bars(results, (scenario, case, measure), names, y + TITLE)
            y += TITLE + BAR * len(names) + 10
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" role="img"><style>{STYLE}</style>'
    return "\n".join([head, *parts, "</svg>\n"])


def _bars(results: Results, key: tuple[str, str, str], names: Sequence[str], top: int) -> list[str]:
    scenario, case, measure = key
    spreads = [results.spread(scenario, case, name, measure) for name in names]
    scale = (WIDTH - LABELS - 80) / max(spread.most for spread in spreads if spread is not None)
    parts = []
    for row, (name, spread) in enumerate(zip(names, spreads, strict=True)):
        if spread is None:
            continue
        y, whose = top + row * BAR, "ours" if name in OURS else "peer"
        least, median, most = (LABELS + value * scale for value in (spread.least, spread.median, spread.most))
        parts += [
            f'<text x="{LABELS - 8}" y="{y + 14}" text-anchor="end">{escape(name)}</text>',
            f'<rect class="{whose}" x="{LABELS}" y="{y + 3}" width="{median - LABELS:.1f}" height="{BAR - 6}"/>',
            f'<line class="spread" x1="{least:.1f}" x2="{most:.1f}" y1="{y + BAR // 2}" y2="{y + BAR // 2}"/>',
            f'<text x="{most + 6:.1f}" y="{y + 14}">{spread.median:,.0f}</text>',
        ]
    return parts
