"""The logs: what a line says, and what a peer cannot do to it."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import logging
import os
import select
import subprocess
import sys
import threading
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO, cast

import pytest

from secureserve.logs import (
    ACCESS_LOGGER,
    MAX_FIELD_LENGTH,
    TLS_LOGGER,
    AccessLog,
    AccessRecord,
    LineFormatter,
    LogFormat,
    configure,
    escape,
    format_combined,
    format_json,
)
from secureserve.rate_limit import RateLimitedLogger

if TYPE_CHECKING:
    from collections.abc import Iterator

RECORD = AccessRecord(
    remote_addr="192.0.2.7",
    time=1_700_000_000.25,
    method="GET",
    target="/a?b=c",
    protocol="HTTP/1.1",
    status=200,
    bytes_sent=12,
    duration=0.5,
    host="www.example.org",
    referer="https://example.org/",
    user_agent="curl/8",
)


@dataclass
class Subject:
    """A certificate's subject, as cryptography spells it."""

    text: str

    def rfc4514_string(self) -> str:
        """Return the name."""
        return self.text


@dataclass
class Certificate:
    """A certificate of which only the subject matters."""

    subject: Subject


@dataclass
class Negotiated:
    """The fields of TLSInfo that the log reads."""

    version: str = "TLSv1.3"
    cipher: str = "TLS_AES_128_GCM_SHA256"
    group: str | None = "X25519MLKEM768"
    server_name: str | None = "www.example.org"
    alpn_protocol: str | None = "http/1.1"
    resumed: bool = False
    verified: bool = False
    peer_chain: tuple[Certificate, ...] = field(default=())


@dataclass
class ManualClock:
    """A clock that moves when it is told to."""

    seconds: float = 0.0

    def now(self) -> datetime:
        """Return the wall time."""
        return datetime.fromtimestamp(self.seconds, timezone.utc)

    def monotonic(self) -> float:
        """Return the seconds it was moved to."""
        return self.seconds


def tls(**changes: Any) -> Any:
    """Make what was negotiated."""
    return Negotiated(**changes)


@pytest.fixture
def lines() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    """Offer a logger of this test's own and what it wrote."""
    stream = io.StringIO()
    logger = logging.getLogger("tests.lines")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter())
    logger.addHandler(handler)
    yield logger, stream
    logger.removeHandler(handler)


def test_combined_line_of_plain_http() -> None:
    """A plain request gives the combined log format with dashes for the TLS fields."""
    assert format_combined(RECORD) == (
        '192.0.2.7 - - [14/Nov/2023:22:13:20 +0000] "GET /a?b=c HTTP/1.1" 200 12'
        ' "https://example.org/" "curl/8" - - - "-" "-"'
    )


def test_a_request_that_was_not_understood_is_a_dash() -> None:
    """What was refused before its head was read has no request line, and one without a target shows that."""
    assert ' "-" 200 12' in format_combined(replace(RECORD, method="", target="", protocol=""))
    assert ' "GET - -" 200 12' in format_combined(replace(RECORD, target="", protocol=""))


def test_combined_line_ends_with_the_tls_fields() -> None:
    """Version, cipher, group, server name and the verified client's subject follow the user agent."""
    info = tls(verified=True, peer_chain=(Certificate(Subject("CN=alice,O=Admins")),))
    line = format_combined(replace(RECORD, remote_user="alice", tls=info))
    assert line.endswith('"curl/8" TLSv1.3 TLS_AES_128_GCM_SHA256 X25519MLKEM768 "www.example.org" "CN=alice,O=Admins"')
    assert line.startswith("192.0.2.7 - alice [")


def test_an_unverified_client_is_nobody() -> None:
    """A certificate that was not verified gives no identity in the log."""
    info = tls(peer_chain=(Certificate(Subject("CN=mallory")),))
    assert format_combined(replace(RECORD, tls=info)).endswith('"www.example.org" "-"')
    assert json.loads(format_json(replace(RECORD, tls=info)))["tls"]["client"] is None


def test_json_line_has_every_field() -> None:
    """The JSON form is one object a line that holds every field of the record."""
    line = format_json(replace(RECORD, tls=tls(resumed=True)))
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "2023-11-14T22:13:20.250Z",
        "remote_addr": "192.0.2.7",
        "remote_user": None,
        "host": "www.example.org",
        "method": "GET",
        "target": "/a?b=c",
        "protocol": "HTTP/1.1",
        "status": 200,
        "bytes_sent": 12,
        "duration": 0.5,
        "referer": "https://example.org/",
        "user_agent": "curl/8",
        "tls": {
            "version": "TLSv1.3",
            "cipher": "TLS_AES_128_GCM_SHA256",
            "group": "X25519MLKEM768",
            "server_name": "www.example.org",
            "alpn_protocol": "http/1.1",
            "resumed": True,
            "client": None,
        },
    }


HOSTILE = 'x"\r\n127.0.0.1 - root [now] "GET /\x1b[2J\x85\u2028\udc80\\'


@pytest.mark.parametrize(
    "field_name", ["remote_addr", "method", "target", "protocol", "referer", "user_agent", "remote_user"]
)
@pytest.mark.parametrize("form", [format_combined, format_json])
def test_no_field_starts_a_new_line(field_name: str, form: Any) -> None:
    """Line ends, terminal escapes and quotes in any field of a request come out escaped."""
    changes: dict[str, Any] = {field_name: HOSTILE}
    line = form(replace(RECORD, **changes))
    assert line.isascii()
    assert line.isprintable()
    if form is format_json:
        assert isinstance(json.loads(line)[field_name], str)
    else:
        assert r"x\"\r\n127.0.0.1" in line


@pytest.mark.parametrize("form", [format_combined, format_json])
def test_no_tls_field_starts_a_new_line(form: Any) -> None:
    """A server name and a certificate subject are escaped like everything a peer chooses."""
    info = tls(server_name=HOSTILE, verified=True, peer_chain=(Certificate(Subject(HOSTILE)),))
    line = form(replace(RECORD, tls=info))
    assert line.isascii()
    assert line.isprintable()


def test_a_remote_user_with_spaces_stays_one_field() -> None:
    """A field that stands without quotes cannot pretend to be several."""
    line = format_combined(replace(RECORD, remote_user="a b"))
    assert line.split(" ")[2] == r"a\x20b"


def test_long_fields_are_cut() -> None:
    """A target of half a megabyte takes no half a megabyte of log."""
    record = replace(RECORD, target="/" + "a" * 500_000)
    assert len(format_combined(record)) < MAX_FIELD_LENGTH + 300
    assert json.loads(format_json(record))["target"].endswith("a...")
    assert escape("é" * 10_000).endswith(r"\xe9...")


def test_access_log_writes_one_line_and_hands_on_the_record(caplog: pytest.LogCaptureFixture) -> None:
    """A handler of secureserve.access gets the line and, as an attribute, the record."""
    with caplog.at_level(logging.INFO, ACCESS_LOGGER):
        AccessLog().write(RECORD)
    (record,) = caplog.records
    assert record.getMessage() == format_combined(RECORD)
    assert record.name == ACCESS_LOGGER
    assert vars(record)["access"] is RECORD


def test_access_log_in_json(lines: tuple[logging.Logger, io.StringIO]) -> None:
    """The format is chosen by name, and the formatter of the handlers leaves the line alone."""
    logger, stream = lines
    AccessLog(logger, "json").write(RECORD)
    assert stream.getvalue() == format_json(RECORD) + "\n"


def test_a_disabled_access_log_formats_nothing(lines: tuple[logging.Logger, io.StringIO]) -> None:
    """When nobody listens, a record is not even looked at."""
    logger, stream = lines
    logger.setLevel(logging.WARNING)
    log = AccessLog(logger)
    assert not log.enabled
    log.write(None)  # type: ignore[arg-type] # anything that is looked at would fail
    assert stream.getvalue() == ""


def write_as_connection(log: AccessLog, record: AccessRecord) -> None:
    """Write a response as the server does, who knows the connection."""
    fields = {"HTTP_HOST": record.host, "HTTP_REFERER": record.referer, "HTTP_USER_AGENT": record.user_agent}
    log.connection(record.remote_addr, record.tls).write(
        began=record.time,
        method=record.method,
        target=record.target,
        protocol=record.protocol,
        status=record.status,
        bytes_sent=record.bytes_sent,
        duration=record.duration,
        fields={name: value for name, value in fields.items() if value},
    )


def only_handler(logger: logging.Logger) -> logging.Handler:
    """Take away the handlers with which pytest captures, and return the one that is left: nobody sees records then."""
    logger.handlers[:] = [each for each in logger.handlers if type(each) is logging.StreamHandler]
    (handler,) = logger.handlers
    return handler


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tls": Negotiated(resumed=True)},
        {"method": "", "target": "", "protocol": ""},
        {"target": "", "protocol": ""},
        {"host": "", "referer": "", "user_agent": ""},
        *({name: HOSTILE} for name in ("remote_addr", "method", "target", "protocol", "host", "referer", "user_agent")),
        {"target": "/" + "a" * 5000},
        {"user_agent": "b" * 5000},
    ],
)
@pytest.mark.parametrize("form", [format_combined, format_json])
def test_a_connection_writes_the_line_of_the_record(
    lines: tuple[logging.Logger, io.StringIO], form: Any, changes: dict[str, Any]
) -> None:
    """The line that a connection writes, with what it remembers, is that of the record, whatever a peer sent."""
    logger, stream = lines
    only_handler(logger)
    record = replace(RECORD, **changes)
    log = AccessLog(logger, "json" if form is format_json else "combined")
    write_as_connection(log, record)
    assert stream.getvalue() == form(record) + "\n"


def test_a_connection_remembers_no_other_request(lines: tuple[logging.Logger, io.StringIO]) -> None:
    """Each request of a connection is told with its own fields, and again with those of the first."""
    logger, stream = lines
    only_handler(logger)
    connection = AccessLog(logger).connection("192.0.2.7", None)
    agents = ["one", "one", "two", "x" * 3000, "one", ""]
    for agent in agents:
        connection.write(
            began=0.0,
            method="GET",
            target=f"/{agent[:5]}",
            protocol="HTTP/1.1",
            status=200,
            bytes_sent=0,
            duration=0.0,
            fields={"HTTP_USER_AGENT": agent},
        )
    told = [line.split('"')[1::2] for line in stream.getvalue().splitlines()]
    assert [one[0] for one in told] == [f"GET /{agent[:5]} HTTP/1.1" for agent in agents]
    assert [one[2] for one in told] == ["one", "one", "two", "x" * MAX_FIELD_LENGTH + "...", "one", "-"]


class Collector(logging.Handler):
    """Keeps the records that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.records.append(record)


def test_every_handler_gets_the_record_of_a_connection(lines: tuple[logging.Logger, io.StringIO]) -> None:
    """A handler of the user's beside the stream is given line and record, and the stream's line is still written."""
    logger, stream = lines
    collector = Collector()
    logger.addHandler(collector)
    try:
        write_as_connection(AccessLog(logger), RECORD)
    finally:
        logger.removeHandler(collector)
    (record,) = collector.records
    assert vars(record)["access"] == RECORD
    assert record.getMessage() + "\n" == stream.getvalue() == format_combined(RECORD) + "\n"


def _refuse_all(record: logging.LogRecord) -> bool:
    return bool(vars(record)["access"].status != RECORD.status)


@pytest.mark.parametrize("place", ["logger", "handler"])
def test_filters_are_asked_about_every_response(lines: tuple[logging.Logger, io.StringIO], place: str) -> None:
    """A filter on the logger or on its handler sees the record and decides."""
    logger, stream = lines
    handler = only_handler(logger)
    filtered = logger if place == "logger" else handler
    filtered.addFilter(_refuse_all)
    try:
        write_as_connection(AccessLog(logger), RECORD)
        write_as_connection(AccessLog(logger), replace(RECORD, status=404))
    finally:
        filtered.removeFilter(_refuse_all)
    assert stream.getvalue() == format_combined(replace(RECORD, status=404)) + "\n"


def test_the_level_and_the_formatter_of_a_handler_count(lines: tuple[logging.Logger, io.StringIO]) -> None:
    """A handler for warnings gets no response, and one with a formatter of the user's writes what that says."""
    logger, stream = lines
    handler = only_handler(logger)
    handler.setLevel(logging.WARNING)
    write_as_connection(AccessLog(logger), RECORD)
    handler.setLevel(logging.NOTSET)
    handler.setFormatter(logging.Formatter("<%(message)s>"))
    write_as_connection(AccessLog(logger), RECORD)
    assert stream.getvalue() == f"<{format_combined(RECORD)}>\n"


def test_a_logger_that_propagates_is_heard_above(
    lines: tuple[logging.Logger, io.StringIO], caplog: pytest.LogCaptureFixture
) -> None:
    """Where records are handed on to the root, they are made, beside the stream's line."""
    logger, stream = lines
    logger.propagate = True
    with caplog.at_level(logging.INFO):
        write_as_connection(AccessLog(logger), RECORD)
    assert vars(caplog.records[0])["access"] == RECORD
    assert stream.getvalue() == format_combined(RECORD) + "\n"


def test_a_stream_that_fails_costs_no_response(
    lines: tuple[logging.Logger, io.StringIO], capsys: pytest.CaptureFixture[str]
) -> None:
    """A full disk, or a reader that went away, is told as logging tells it, and raises nothing."""
    logger, stream = lines
    only_handler(logger)
    stream.close()
    write_as_connection(AccessLog(logger), RECORD)
    assert "Logging error" in capsys.readouterr().err


@contextlib.contextmanager
def logging_to(stream: TextIO) -> Iterator[tuple[AccessLog, logging.StreamHandler[TextIO]]]:
    """Offer an access log whose only handler writes to a stream."""
    logger = logging.getLogger("tests.file")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter())
    logger.handlers[:] = [handler]
    try:
        yield AccessLog(logger), handler
    finally:
        logger.handlers.clear()


def write_many(log: AccessLog, *, threads: int = 4, lines: int = 100, size: int = 1000) -> list[str]:
    """Write from several threads at once, and return what is to be there then, sorted."""
    records = [
        [replace(RECORD, target=f"/{thread}/{number}/" + "x" * size) for number in range(lines)]
        for thread in range(threads)
    ]

    def write(own: list[AccessRecord]) -> None:
        for record in own:
            write_as_connection(log, record)

    writers = [threading.Thread(target=write, args=(own,)) for own in records]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(timeout=30)
    return sorted(format_combined(record) for own in records for record in own)


@pytest.mark.parametrize("size", [10, 1500], ids=["short", "long"])
def test_lines_from_many_threads_are_whole(tmp_path: Path, size: int) -> None:
    """What many threads write to a file are whole lines, each once."""
    path = tmp_path / "access.log"
    with path.open("w") as stream, logging_to(stream) as (log, _):
        expected = write_many(log, size=size)
        assert sorted(path.read_text().splitlines()) == expected


def test_a_line_is_there_at_once_and_after_what_was_printed_before(tmp_path: Path) -> None:
    """A line is in the file when its response is done, and what the program wrote before it stands before it."""
    path = tmp_path / "access.log"
    with path.open("w") as stream, logging_to(stream) as (log, _):
        for _ in range(2):
            stream.write("printed\n")
            write_as_connection(log, RECORD)
            assert path.read_text().endswith(f"printed\n{format_combined(RECORD)}\n")


def test_a_pipe_ends_when_its_stream_is_closed() -> None:
    """Whoever reads the log from a pipe gets whole lines, long ones too, and its end."""
    reader, writer = os.pipe()
    received: list[bytes] = []

    def read() -> None:
        with io.FileIO(reader) as pipe:
            received.append(pipe.readall())

    reading = threading.Thread(target=read)
    reading.start()
    long = replace(RECORD, target="/" + "é" * 2000)
    with io.TextIOWrapper(io.BufferedWriter(io.FileIO(writer, "w"))) as stream, logging_to(stream) as (log, _):
        write_as_connection(log, long)
        expected = write_many(log, lines=20)
    reading.join(timeout=30)
    assert not log.logger.handlers
    first, *rest = received[0].decode().splitlines()
    assert first == format_combined(long)
    assert len(first) > select.PIPE_BUF
    assert sorted(rest) == expected


def test_standard_output_gets_whole_lines_after_what_was_printed() -> None:
    """Lines that threads write to standard output, a pipe here, are whole, and what was printed comes before them."""
    program = (
        "import sys, threading\n"
        "from secureserve.logs import AccessLog, configure\n"
        "configure(access=sys.stdout)\n"
        "print('printed')\n"
        "def write(name):\n"
        "    connection = AccessLog().connection('192.0.2.7', None)\n"
        "    for number in range(100):\n"
        "        connection.write(began=0.0, method='GET', target=f'/{name}/{number}', protocol='HTTP/1.1',\n"
        "                         status=200, bytes_sent=0, duration=0.0, fields={})\n"
        "threads = [threading.Thread(target=write, args=(name,)) for name in range(4)]\n"
        "[thread.start() for thread in threads]\n"
        "[thread.join() for thread in threads]\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    printed, *lines = done.stdout.splitlines()
    assert printed == "printed"
    expected = [f'"GET /{name}/{number} HTTP/1.1"' for name in range(4) for number in range(100)]
    assert sorted(line[line.index('"') : line.index('" 200') + 1] for line in lines) == sorted(expected)
    assert {line.partition(" 200 ")[2] for line in lines} == {'0 "-" "-" - - - "-" "-"'}


@pytest.mark.parametrize("kind", ["gzip", "utf-16", "utf-8-sig"])
def test_a_stream_that_changes_what_it_is_given_gets_every_line(tmp_path: Path, kind: str) -> None:
    """A compressed log, and one in another encoding, hold what their streams make of the lines."""
    path = tmp_path / "access.log"
    encoding = "utf-8" if kind == "gzip" else kind
    binary = cast("BinaryIO", gzip.GzipFile(path, "w") if kind == "gzip" else path.open("wb"))
    with io.TextIOWrapper(binary, encoding=encoding) as stream, logging_to(stream) as (log, _):
        for _ in range(2):
            write_as_connection(log, RECORD)
    content = path.read_bytes()
    text = (gzip.decompress(content) if kind == "gzip" else content).decode(encoding)
    assert text == f"{format_combined(RECORD)}\n" * 2


def count_descriptors() -> int:
    """Return how many descriptors this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def test_no_line_is_lost_while_the_log_is_opened_anew(tmp_path: Path) -> None:
    """While files take each other's place, every line is in one of them, and no descriptor is left behind."""
    done = threading.Event()
    written: list[str] = []

    def write(log: AccessLog, thread: int) -> None:
        number = 0
        while number < 10 or not done.is_set():
            record = replace(RECORD, target=f"/{thread}/{number}")
            write_as_connection(log, record)
            written.append(format_combined(record))
            number += 1

    before = count_descriptors()
    paths = [tmp_path / str(number) for number in range(20)]
    with logging_to(paths[0].open("w")) as (log, handler):
        writers = [threading.Thread(target=write, args=(log, thread)) for thread in range(4)]
        for writer in writers:
            writer.start()
        for path in paths[1:]:
            fresh = path.open("w")
            handler.acquire()
            former, handler.stream = handler.stream, fresh
            former.close()
            handler.release()
        done.set()
        for writer in writers:
            writer.join(timeout=30)
        handler.stream.close()
    assert sorted(line for path in paths for line in path.read_text().splitlines()) == sorted(written)
    del log, writers, writer
    assert count_descriptors() <= before


def test_an_unknown_format_is_refused() -> None:
    """There are two formats."""
    with pytest.raises(ValueError, match="xml"):
        AccessLog(log_format="xml")


def test_a_flood_is_cut_to_the_burst_and_counted(lines: tuple[logging.Logger, io.StringIO]) -> None:
    """Of a thousand messages of one kind the burst is written, and the next one says how many were not."""
    logger, stream = lines
    clock = ManualClock()
    limited = RateLimitedLogger(logger, rate=1, burst=3, clock=clock)
    said = [limited.log(logging.INFO, "handshake_failed", "no handshake from %s", "192.0.2.7") for _ in range(1000)]
    assert said == [True] * 3 + [False] * 997
    clock.seconds += 1
    assert limited.log(logging.INFO, "handshake_failed", "no handshake from %s", "192.0.2.7")
    assert len(stream.getvalue().splitlines()) == 4
    assert stream.getvalue().endswith("no handshake from 192.0.2.7 (997 more of this kind were not logged)\n")


def test_one_kind_does_not_silence_another(lines: tuple[logging.Logger, io.StringIO]) -> None:
    """Each kind has a budget of its own."""
    logger, _ = lines
    limited = RateLimitedLogger(logger, burst=1, clock=ManualClock())
    assert limited.log(logging.INFO, "timeout", "late")
    assert not limited.log(logging.INFO, "timeout", "late")
    assert limited.log(logging.INFO, "plain_http", "plain")


def test_invented_kinds_share_one_budget(lines: tuple[logging.Logger, io.StringIO]) -> None:
    """A peer that invents kinds gets one bucket for all of them."""
    logger, _ = lines
    limited = RateLimitedLogger(logger, burst=1, max_kinds=4, clock=ManualClock())
    assert sum(limited.log(logging.INFO, f"kind {number}", "x") for number in range(100)) == 5


def test_what_was_kept_back_is_told_in_the_end(lines: tuple[logging.Logger, io.StringIO]) -> None:
    """When the server stops, the counts that nobody heard of are written, once."""
    logger, stream = lines
    limited = RateLimitedLogger(logger, burst=1, clock=ManualClock())
    for _ in range(5):
        limited.log(logging.INFO, "timeout", "late")
    limited.flush()
    limited.flush()
    assert stream.getvalue().splitlines()[1:] == [
        stream.getvalue().splitlines()[1].split(" INFO ")[0]
        + " INFO tests.lines: 4 more of the kind timeout were not logged"
    ]


def test_arguments_of_a_limited_line_are_escaped(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever formatter a user has, text from a peer is already harmless."""
    logger = logging.getLogger(TLS_LOGGER)
    with caplog.at_level(logging.INFO, TLS_LOGGER):
        RateLimitedLogger(logger).log(logging.INFO, "alert", "%s said %s (%d)", HOSTILE, "bye", 7)
    assert caplog.messages[0].isprintable()
    assert caplog.messages[0].endswith("said bye (7)")


def test_a_level_that_is_off_costs_no_token(lines: tuple[logging.Logger, io.StringIO]) -> None:
    """A debug line that nobody wants does not use up the budget of its kind."""
    logger, _ = lines
    limited = RateLimitedLogger(logger, burst=1, clock=ManualClock())
    assert not limited.log(logging.DEBUG, "alert", "x")
    assert limited.log(logging.INFO, "alert", "x")


def failed_record() -> logging.LogRecord:
    """Make a record with a traceback whose message has a line end."""
    try:
        raise ValueError("first\nFORGED second")  # noqa: TRY301 - the traceback is the point
    except ValueError as error:
        info = (ValueError, error, error.__traceback__)
        return logging.LogRecord("secureserve.error", logging.ERROR, "f", 1, "broken:\nFORGED é", (), info)


def test_the_formatter_keeps_a_message_on_one_line_and_indents_the_traceback() -> None:
    """No message and no traceback can begin a line of its own."""
    text = LineFormatter().format(failed_record())
    first, *rest = text.split("\n")
    assert first.endswith(r"Z ERROR secureserve.error: broken:\nFORGED é")
    assert rest
    assert all(row.startswith("    ") for row in rest)


def test_the_formatter_puts_a_traceback_inside_the_json_object() -> None:
    """In JSON an error with its traceback is still one object on one line."""
    text = LineFormatter(LogFormat.JSON).format(failed_record())
    value = json.loads(text)
    assert "\n" not in text
    assert value["message"] == "broken:\nFORGED é"
    assert value["level"] == "ERROR"
    assert "ValueError: first" in value["exception"]


@pytest.fixture
def restored_loggers() -> Iterator[None]:
    """Put the package's loggers back as they were."""
    loggers = [logging.getLogger(name) for name in ("secureserve", ACCESS_LOGGER)]
    before = [(logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.mark.usefixtures("restored_loggers")
def test_configure_separates_access_lines_from_the_rest() -> None:
    """Access lines go to their stream, everything else to the other, each written once however often it is called."""
    access, errors = io.StringIO(), io.StringIO()
    configure(access=access, errors=errors)
    configure("json", access=access, errors=errors)
    AccessLog(log_format="json").write(RECORD)
    logging.getLogger(TLS_LOGGER).info("a handshake failed")
    assert json.loads(access.getvalue())["status"] == 200
    assert json.loads(errors.getvalue())["message"] == "a handshake failed"


@pytest.mark.usefixtures("restored_loggers")
def test_configure_without_access_log_disables_it() -> None:
    """Without a stream for access lines, making them costs nothing."""
    configure(errors=io.StringIO())
    assert not AccessLog().enabled
