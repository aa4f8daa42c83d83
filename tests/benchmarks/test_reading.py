"""What load generators print is read as it is meant."""

from __future__ import annotations

import pytest

from benchmarks import wrk

REPORT = """Running 3s test @ https://127.0.0.1:1/
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     2.68ms    1.89ms  29.82ms   68.30%
    Req/Sec     7.18k     2.00k   14.59k    90.00%
  Latency Distribution
     50%  842.00us
     75%    3.83ms
     90%    5.09ms
     99%    1.20s
  21405 requests in 3.00s, 2.76MB read
  Socket errors: connect 1, read 20, write 300, timeout 4000
  Non-2xx or 3xx responses: 50000
Requests/sec:   7128.21
Transfer/sec:      0.92MB
told p50 12.5
"""


def test_a_report_of_wrk_is_read() -> None:
    """Requests, times in any unit, every kind of error, and what a script told are found."""
    load = wrk.parse(REPORT)
    assert load is not None
    assert (load.requests, load.seconds, load.rate) == (21405, 3.0, 7135.0)
    assert load.p50 == pytest.approx(842e-6)
    assert load.p99 == pytest.approx(1.2)
    assert load.errors == 54321
    assert load.received == pytest.approx(2.76 * 1024**2)
    assert load.told == {"p50": 12.5}


def test_no_report_is_no_load() -> None:
    """What is not a report of wrk gives no figures rather than wrong ones."""
    assert wrk.parse("unable to connect to 127.0.0.1:1 Connection refused\n") is None
