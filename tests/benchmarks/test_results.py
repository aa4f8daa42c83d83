"""Figures are compared within their round, and reported with what was not measured."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest

from benchmarks.chart import chart
from benchmarks.goals import judge
from benchmarks.page import BEGIN, END, put_figures
from benchmarks.report import markdown
from benchmarks.results import Results, Spread
from benchmarks.servers import BASE, OURS

if TYPE_CHECKING:
    from pathlib import Path

CASE = "12 B, 32 connections"
GRANIAN = "granian, WSGI"


@pytest.fixture
def results() -> Results:
    """Two rounds on a machine that was twice as slow in the second."""
    results = Results({"python": "CPython"}, {"rounds": 2, "seconds": 1.0})
    for round_, rates in enumerate(
        ({BASE: 1000, OURS[0]: 9000, GRANIAN: 8000}, {BASE: 500, OURS[0]: 4500, GRANIAN: 5000})
    ):
        for server, rate in rates.items():
            values = {"requests/s": rate, "CPU us/request": 1e6 / rate}
            results.add("keepalive", CASE, server, round_, values)
    results.skip("keepalive", CASE, "nginx", "nginx is not installed")
    return results


def test_ratios_are_those_of_the_same_round(results: Results) -> None:
    """A machine that slows down for everybody changes no ratio."""
    assert results.ratio("keepalive", CASE, OURS[0], "requests/s") == Spread(9.0, 9.0, 9.0)
    assert results.spread("keepalive", CASE, OURS[0], "requests/s") == Spread(6750.0, 4500.0, 9000.0)
    assert results.ratio("keepalive", CASE, OURS[0], "requests/s", GRANIAN) == Spread(1.0125, 0.9, 1.125)
    assert results.ratio("keepalive", CASE, "nginx", "requests/s") is None


def test_goals_are_judged_where_there_are_figures(results: Results) -> None:
    """A goal is reached or not by the median ratio to the server that it names; the others are not mentioned."""
    verdicts = {(verdict.goal.text, verdict.engine): verdict for verdict in judge(results)}
    assert {engine for _, engine in verdicts} == {OURS[0]}
    reached = verdicts["keep-alive rate 4 times cheroot's", OURS[0]]
    assert (reached.reached, reached.found, reached.to) == (True, 9.0, BASE)
    assert verdicts["CPU per request at most granian's", OURS[0]].found == pytest.approx(1.0)


@pytest.mark.parametrize(("rate", "reached"), [(3999, False), (4000, True)])
def test_a_goal_is_reached_at_its_limit(rate: float, reached: bool) -> None:
    """Four times is four times, and a little less is not."""
    results = Results({}, {"rounds": 1, "seconds": 1.0})
    results.add("keepalive", CASE, BASE, 0, {"requests/s": 1000.0})
    results.add("keepalive", CASE, OURS[1], 0, {"requests/s": rate})
    verdict = next(v for v in judge(results) if v.goal.text == "keep-alive rate 4 times cheroot's")
    assert verdict.reached is reached


def test_a_goal_may_be_a_multiple_of_another_case() -> None:
    """What quick requests take beside waiting ones is compared with what the same server needs for them alone."""
    results = Results({}, {"rounds": 1, "seconds": 1.0})
    results.add("mixed", "quick, alone", OURS[0], 0, {"quick p50 ms": 1.0})
    results.add("mixed", "quick, beside waiting 50 ms", OURS[0], 0, {"quick p50 ms": 2.5})
    (verdict,) = judge(results)
    assert (verdict.found, verdict.reached) == (2.5, False)


def test_the_report_has_ratios_spreads_and_what_was_skipped(results: Results) -> None:
    """The table has for each server its ratio, its median with the spread, and elsewhere why a server is missing."""
    text = markdown(results)
    assert f"| {OURS[0]} | 9.00 | 6,750 (4,500..9,000) |" in text
    assert "| nginx | keepalive | 12 B, 32 connections | nginx is not installed |" in text
    assert "## Mixed" not in text


def test_results_survive_being_written(results: Results) -> None:
    """What is read from the JSON makes the same report."""
    read = Results.from_json(results.as_json())
    assert markdown(read) == markdown(results)


def test_scenarios_measured_apart_are_reported_together(results: Results) -> None:
    """What another run measured is taken into the report."""
    other = Results({}, {})
    other.add("hostile", "50 silent", OURS[0], 0, {"good failed": 0.0})
    results.take_in(other)
    assert "### Hostile: 50 silent" in markdown(results)


def test_figures_take_the_place_of_those_before(tmp_path: Path) -> None:
    """What is between the marks of a page is replaced, what is around it stays; a page without marks is refused."""
    page = tmp_path / "speed.md"
    page.write_text(f"# Speed\n{BEGIN}old\n{END}after\n")
    put_figures(page, "new", "<svg/>")
    assert page.read_text() == f"# Speed\n{BEGIN}\nnew\n{END}after\n"
    assert (tmp_path / "speed.svg").read_text() == "<svg/>"
    page.write_text("# Speed\n")
    with pytest.raises(ValueError, match="has no place for figures"):
        put_figures(page, "new", "<svg/>")


def test_the_chart_is_an_image_with_a_bar_for_each_server(results: Results) -> None:
    """The chart is well-formed SVG, its longest bar within the image, ours told from the peers'."""
    image = ET.fromstring(chart(results))  # noqa: S314 - our own
    width = float(image.attrib["viewBox"].split()[2])
    bars = image.findall("{http://www.w3.org/2000/svg}rect")
    assert [bar.attrib["class"] for bar in bars].count("ours") == 2
    assert len(bars) == 6
    assert all(float(bar.attrib["x"]) + float(bar.attrib["width"]) < width for bar in bars)
