"""Listening: where, with which permissions, and what accepting survives."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import select
import socket
import stat
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from secureserve.errors import ConfigurationError, StartFailed
from secureserve.front import occupant
from secureserve.front.listener import (
    EXPORT_VARIABLE,
    AcceptStatus,
    Listener,
    adopt_exported,
    describe_address,
    export_listeners,
)
from secureserve.front.unix_socket import PathClaim

if TYPE_CHECKING:
    from collections.abc import Iterator

LOOPBACK = "127.0.0.1"


@pytest.fixture
def short_path() -> Iterator[Path]:
    """Give a directory whose name leaves room for a unix socket's."""
    with tempfile.TemporaryDirectory(prefix="ss-", dir="/tmp") as directory:
        yield Path(directory)


@contextlib.contextmanager
def listening(address: tuple[str | None, int] | str, **options: object) -> Iterator[Listener]:
    """Listen, and stop listening."""
    (listener,) = Listener.bind(address, **options)  # type: ignore[arg-type]
    try:
        yield listener
    finally:
        listener.close()


def connect(listener: Listener) -> socket.socket:
    """Connect to a listener as a client does."""
    address = listener.bound_addr
    if isinstance(address, str):
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(10)
        client.connect(address)
        return client
    return socket.create_connection(address, timeout=10)


def await_one(listener: Listener) -> tuple[socket.socket, tuple[str, int]]:
    """Accept the one connection that has been made."""
    select.select([listener], [], [], 10)
    outcome = listener.accept_many(1)
    ((sock, peer),) = outcome.connections
    return sock, peer


class TestWhere:
    """Which address is listened at."""

    def test_port_zero_is_reported_as_the_real_port(self) -> None:
        """Port 0 has the system choose, and the choice is known."""
        with listening((LOOPBACK, 0)) as listener:
            assert listener.bound_addr[0] == LOOPBACK
            assert int(listener.bound_addr[1]) > 0
            assert listener.describe() == f"{LOOPBACK}:{listener.bound_addr[1]}"

    @pytest.mark.parametrize("host", [None, "", "::"])
    def test_no_host_is_every_interface_in_both_families(self, host: str | None) -> None:
        """An empty host answers IPv4 and IPv6 clients on one socket and names each by its own family."""
        with listening((host, 0)) as listener:
            port = int(listener.bound_addr[1])
            for address in (LOOPBACK, "::1"):
                with socket.create_connection((address, port), timeout=10) as client:
                    accepted, peer = await_one(listener)
                    accepted.close()
                    assert peer == client.getsockname()[:2]
                    assert peer[0] == address

    def test_without_ipv6_every_interface_is_ipv4(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A machine without IPv6 is served on IPv4."""
        monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
        with listening((None, 0)) as listener:
            assert listener.bound_addr[0] == "0.0.0.0"  # noqa: S104 - what is asserted is that it is

    def test_an_ipv6_address_is_not_an_ipv4_one(self) -> None:
        """A listener at an IPv6 address takes no IPv4 client."""
        with listening(("::1", 0)) as listener:
            assert listener.describe() == f"[::1]:{listener.bound_addr[1]}"
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((LOOPBACK, int(listener.bound_addr[1])), timeout=10)

    def test_a_name_is_bound_at_the_first_address_in_the_systems_order(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of a name's addresses the first is taken that this machine has."""
        stream = (socket.SOCK_STREAM, 6, "")
        answer = [
            (socket.AF_INET, *stream, ("192.0.2.1", 0)),
            (socket.AF_INET6, *stream, ("::1", 0, 0, 0)),
            (socket.AF_INET, *stream, (LOOPBACK, 0)),
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer)
        with listening(("app.example", 0)) as listener:
            assert listener.bound_addr[0] == "::1"

    def test_one_port_is_shared_on_request(self) -> None:
        """With reuse_port a second socket may listen at the same port, and without it may not."""
        with listening((LOOPBACK, 0), reuse_port=True) as first:
            assert not isinstance(first.bound_addr, str)
            with listening(first.bound_addr, reuse_port=True) as second:
                assert second.bound_addr == first.bound_addr
            with pytest.raises(StartFailed):
                Listener.bind(first.bound_addr)

    def test_a_port_is_bound_again_at_once(self) -> None:
        """A restart finds its port although a connection of the former server lies in TIME_WAIT."""
        own_address = f"127.{os.getpid() >> 8 & 0xFF}.{os.getpid() & 0xFF}.7"
        with listening((own_address, 0)) as listener:
            address = listener.bound_addr
        with listening(address) as listener, connect(listener) as client:
            accepted, _ = await_one(listener)
            accepted.close()
            assert client.recv(1) == b""
        with listening(address) as again:
            assert again.bound_addr == address


class TestRefusals:
    """Errors that say which setting, which value, and what to do."""

    def test_a_port_in_use_names_its_holder(self) -> None:
        """The message for a taken port names the program that has it."""
        with listening((LOOPBACK, 0)) as listener, pytest.raises(StartFailed) as failure:
            Listener.bind(listener.bound_addr)
        assert f"socket_port = {listener.bound_addr[1]} is in use by this process itself" in str(failure.value)
        assert "choose another socket_port" in str(failure.value)

    def test_another_program_is_named_with_its_process(self, tmp_path: Path) -> None:
        """A foreign holder of a port is told by its name and process, made harmless for a log."""
        (tmp_path / "net").mkdir()
        row = "0: 0100007F:01BB 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4711 1 0 100 0 0 10 0"
        (tmp_path / "net" / "tcp").write_text(f"header\n   {row}\n   {row.replace('0A', '01').replace('4711', '5')}\n")
        for pid, inode in ((812, 4711), (813, 5)):
            (tmp_path / str(pid) / "fd").mkdir(parents=True)
            (tmp_path / str(pid) / "fd" / "7").symlink_to(f"socket:[{inode}]")
            (tmp_path / str(pid) / "comm").write_text("ngi\nnx\n")
        assert occupant.find_occupant(443, proc=tmp_path) == "ngi?nx (process 812)"
        assert occupant.find_occupant(444, proc=tmp_path) == ""
        assert occupant.find_occupant(443, proc=tmp_path / "none") == ""

    @pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 300, "nul\0name"])
    def test_an_unknown_host_is_a_configuration_error(self, host: str) -> None:
        """A host that nothing resolves is named, with what to write instead."""
        with pytest.raises(ConfigurationError, match="is not a known host") as failure:
            Listener.bind((host, 0))
        assert failure.value.key == "socket_host"
        assert failure.value.remedy

    def test_an_address_of_another_machine_is_a_configuration_error(self) -> None:
        """An address that no interface has is refused as such."""
        with pytest.raises(ConfigurationError, match="not an address of this machine") as failure:
            Listener.bind(("192.0.2.1", 0))
        assert failure.value.value == "192.0.2.1"

    @pytest.mark.parametrize("port", [-1, 65536, "443", None, True])
    def test_what_is_no_port_is_a_configuration_error(self, port: object) -> None:
        """A port out of range, or of another type, is refused before anything is opened."""
        with pytest.raises(ConfigurationError) as failure:
            Listener.bind((LOOPBACK, port))  # type: ignore[arg-type]
        assert failure.value.key == "socket_port"

    def test_a_privileged_port_says_which_privilege(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A port that is not permitted comes with the three ways to have it."""

        def forbidden(*_: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(socket.socket, "bind", forbidden)
        with pytest.raises(StartFailed, match="CAP_NET_BIND_SERVICE"):
            Listener.bind((LOOPBACK, 443))

    def test_an_unforeseen_refusal_is_told_in_the_systems_words(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What the system gives as another reason is passed on, with the address."""

        def broken(*_: object) -> None:
            raise OSError(errno.ENOBUFS, "No buffer space available")

        monkeypatch.setattr(socket.socket, "bind", broken)
        with pytest.raises(StartFailed, match="No buffer space"):
            Listener.bind((LOOPBACK, 443))


class TestAccepting:
    """Taking connections from the queue."""

    def test_the_queue_is_drained_up_to_a_limit(self) -> None:
        """A round takes what waits, says whether there may be more, and never blocks."""
        with listening((LOOPBACK, 0)) as listener, contextlib.ExitStack() as clients:
            assert listener.accept_many(10).status is AcceptStatus.DRAINED
            for _ in range(3):
                clients.enter_context(connect(listener))
            first = listener.accept_many(2)
            rest = listener.accept_many(2)
            for sock, _ in first.connections + rest.connections:
                clients.enter_context(sock)
            assert (len(first.connections), first.status) == (2, AcceptStatus.MORE)
            assert (len(rest.connections), rest.status) == (1, AcceptStatus.DRAINED)

    @pytest.mark.parametrize("nodelay", [True, False])
    def test_accepted_sockets_never_block_and_are_not_inherited(self, *, nodelay: bool) -> None:
        """An accepted socket is non-blocking, private to this process, and sends small writes at once if asked to."""
        with listening((LOOPBACK, 0), nodelay=nodelay) as listener, connect(listener) as client:
            sock, peer = await_one(listener)
            with sock:
                assert peer == client.getsockname()
                assert sock.gettimeout() == 0
                assert not sock.get_inheritable()
                assert bool(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)) is nodelay
            assert not listener.sock.get_inheritable()

    def test_out_of_descriptors_is_an_answer(self) -> None:
        """Without a free descriptor nothing is raised, and the connection is still there when one is free."""
        with listening((LOOPBACK, 0)) as listener, connect(listener):
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            with open(os.devnull, "rb") as lowest:  # noqa: PTH123 - the number of a free descriptor is all that is wanted
                limit = lowest.fileno()
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
            try:
                outcome = listener.accept_many(5)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert (outcome.status, outcome.errno) == (AcceptStatus.EXHAUSTED, errno.EMFILE)
            assert outcome.connections == []
            sock, _ = await_one(listener)
            sock.close()

    @pytest.mark.parametrize("fault", ["ECONNABORTED", "EPROTO", "EPERM", "ENETDOWN", "EHOSTUNREACH", "ETIMEDOUT"])
    def test_a_connection_that_died_in_the_queue_costs_nobody_else_anything(self, fault: str) -> None:
        """An error of one connection is counted and the next one is taken."""
        with listening((LOOPBACK, 0)) as listener, connect(listener):
            script = [OSError(getattr(errno, fault), fault), None, BlockingIOError()]
            listener.sock = _Scripted(listener.sock, script)  # type: ignore[assignment]
            outcome = listener.accept_many(10)
            for sock, _ in outcome.connections:
                sock.close()
            assert (len(outcome.connections), outcome.aborted) == (1, 1)
            assert outcome.status is AcceptStatus.DRAINED

    def test_a_flood_of_dead_connections_ends_the_round_too(self) -> None:
        """Dead connections count towards the limit, so a round always ends."""
        with listening((LOOPBACK, 0)) as listener:
            listener.sock = _Scripted(listener.sock, [OSError(errno.ECONNABORTED, "")] * 9)  # type: ignore[assignment]
            outcome = listener.accept_many(4)
            assert (outcome.aborted, outcome.status) == (4, AcceptStatus.MORE)

    def test_a_closed_listener_accepts_nobody(self) -> None:
        """Accepting after close is an answer as well."""
        with listening((LOOPBACK, 0)) as listener:
            listener.close()
            listener.close()
            assert listener.closed
            assert listener.accept_many(1).status is AcceptStatus.CLOSED

    def test_an_error_without_a_reason_is_raised(self) -> None:
        """What no system has reason to say of a listening socket is not hidden."""
        with listening((LOOPBACK, 0)) as listener:
            listener.sock = _Scripted(listener.sock, [OSError(errno.EFAULT, "")])  # type: ignore[assignment]
            with pytest.raises(OSError, match=str(errno.EFAULT)):
                listener.accept_many(1)

    def test_a_connection_reset_in_the_queue_is_survived(self) -> None:
        """A peer that resets before it is accepted leaves the listener serving the next."""
        with listening((LOOPBACK, 0)) as listener:
            client = connect(listener)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            with connect(listener) as good:
                for sock, peer in listener.accept_many(10).connections:
                    sock.close()
                    last = peer
                assert last == good.getsockname()


class TestUnixSockets:
    """Paths instead of ports."""

    @pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
    @pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
    def test_the_mode_is_exact_whatever_the_umask(self, short_path: Path, mode: int, umask: int) -> None:
        """The path has the mode asked for, and the process's umask is left alone."""
        before = os.umask(umask)
        try:
            with listening(str(short_path / "s"), unix_mode=mode):
                assert stat.S_IMODE((short_path / "s").stat().st_mode) == mode
            assert os.umask(umask) == umask
        finally:
            os.umask(before)

    def test_the_path_is_never_more_open_than_asked_for(
        self, short_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The moment it appears the path is closed to others, and nobody can connect until it is right."""
        seen = []
        real = socket.socket.bind

        def bind_and_look(sock: socket.socket, path: str) -> None:
            real(sock, path)
            with socket.socket(socket.AF_UNIX) as client:
                seen.append((stat.S_IMODE(os.lstat(path).st_mode), client.connect_ex(path)))

        before = os.umask(0)
        try:
            monkeypatch.setattr(socket.socket, "bind", bind_and_look)
            with listening(str(short_path / "s")):
                assert seen == [(0o600, errno.ECONNREFUSED)]
        finally:
            os.umask(before)

    def test_the_default_is_for_the_owner_alone(self, short_path: Path) -> None:
        """Without a mode only the owner may connect."""
        with listening(str(short_path / "s")) as listener, connect(listener):
            sock, peer = await_one(listener)
            sock.close()
            assert peer == ("", 0)
            assert listener.is_unix
            assert listener.describe() == f"unix:{short_path}/s"
            assert stat.S_IMODE((short_path / "s").stat().st_mode) == 0o600

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
    def test_the_owner_is_settable(self, short_path: Path) -> None:
        """The path can belong to another user and group."""
        with listening(str(short_path / "s"), unix_owner=(65534, 65533)):
            status = (short_path / "s").stat()
            assert (status.st_uid, status.st_gid) == (65534, 65533)

    def test_an_owner_that_may_not_be_set_leaves_nothing_behind(
        self, short_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A failure half-way removes the path again."""

        def forbidden(*_: object, **__: object) -> None:
            raise PermissionError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "chown", forbidden)
        with pytest.raises(StartFailed, match=r"owner \(0, 0\)"):
            Listener.bind(str(short_path / "s"), unix_owner=(0, 0))
        assert list(short_path.iterdir()) == []

    def test_closing_removes_the_path(self, short_path: Path) -> None:
        """A stopped server leaves no path behind."""
        with listening(str(short_path / "s")):
            assert (short_path / "s").is_socket()
        assert not (short_path / "s").exists()

    def test_closing_removes_nobody_elses_path(self, short_path: Path) -> None:
        """A path that another program has made meanwhile is left alone."""
        with listening(str(short_path / "s")):
            (short_path / "s").unlink()
            (short_path / "s").write_text("another's")
        assert (short_path / "s").read_text() == "another's"

    def test_a_dead_socket_is_replaced(self, short_path: Path) -> None:
        """What a crashed server left behind does not stop the next."""
        with socket.socket(socket.AF_UNIX) as crashed:
            crashed.bind(str(short_path / "s"))
        with listening(str(short_path / "s")) as listener, connect(listener):
            await_one(listener)[0].close()

    def test_a_living_socket_is_not_replaced(self, short_path: Path) -> None:
        """A path where somebody listens is refused, and he goes on listening."""
        with listening(str(short_path / "s")) as living:
            with pytest.raises(StartFailed, match="in use"):
                Listener.bind(str(short_path / "s"))
            for sock, _ in living.accept_many(5).connections:
                sock.close()
            with connect(living):
                await_one(living)[0].close()

    @pytest.mark.parametrize(
        ("kind", "told"), [("file", "a file"), ("dir", "a directory"), ("link", "a symbolic link")]
    )
    def test_what_is_no_socket_is_not_replaced(self, short_path: Path, kind: str, told: str) -> None:
        """A file, a directory or a link at the path is refused and stays."""
        path = short_path / "s"
        if kind == "link":
            path.symlink_to("nowhere")
        elif kind == "dir":
            path.mkdir()
        else:
            path.touch()
        with pytest.raises(ConfigurationError, match=f"is {told}, not a socket"):
            Listener.bind(str(path))
        assert path.is_symlink() or path.exists()

    @pytest.mark.parametrize("path", ["", "/run/" + "x" * 103, "/run/a\0b"])
    def test_a_path_that_cannot_be_is_a_configuration_error(self, path: str) -> None:
        """An empty path, one too long and one with NUL are refused with the limit."""
        with pytest.raises(ConfigurationError) as failure:
            Listener.bind(path)
        assert failure.value.key == "socket_file"

    def test_a_path_taken_over_meanwhile_is_noticed(self, short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """If another program replaces the path while it is being made, the start fails instead of serving nobody."""
        real = socket.socket.listen

        def listen_and_lose(sock: socket.socket, backlog: int) -> None:
            real(sock, backlog)
            (short_path / "s").unlink()
            (short_path / "s").write_text("another's")

        monkeypatch.setattr(socket.socket, "listen", listen_and_lose)
        with pytest.raises(StartFailed, match="replaced by another program"):
            Listener.bind(str(short_path / "s"))
        assert (short_path / "s").read_text() == "another's"

    def test_a_child_process_removes_no_path_of_its_parent(self, short_path: Path) -> None:
        """A process forked off after the bind may close its copy without taking the path away."""
        with listening(str(short_path / "s")):
            claim = PathClaim.of(str(short_path / "s"))
            PathClaim(claim.path, claim.device, claim.inode, os.getpid() + 1).release()
            assert (short_path / "s").is_socket()
            claim.release()
            assert not (short_path / "s").exists()

    def test_a_missing_directory_is_named(self, short_path: Path) -> None:
        """The directory is not made, and the message says that it has to be."""
        with pytest.raises(StartFailed, match="directory that does not exist"):
            Listener.bind(str(short_path / "no" / "s"))

    def test_reuse_port_is_refused(self, short_path: Path) -> None:
        """A unix socket cannot be shared, so the option is an error and not ignored."""
        with pytest.raises(ConfigurationError, match="reuse_port"):
            Listener.bind(str(short_path / "s"), reuse_port=True)

    @pytest.mark.skipif(sys.platform != "linux", reason="abstract names are Linux's")
    def test_an_abstract_name_has_no_file(self, short_path: Path) -> None:
        """A name that begins with NUL is served without a file, once."""
        name = f"\0{short_path}"
        with listening(name) as listener, connect(listener):
            await_one(listener)[0].close()
            assert listener.bound_addr == name
            assert listener.describe() == f"unix:@{short_path}"
            with pytest.raises(StartFailed, match="in use"):
                Listener.bind(name)


class TestAdopting:
    """Sockets that somebody else made."""

    def test_a_bound_socket_is_made_to_listen(self) -> None:
        """A socket that was only bound is served after adoption."""
        sock = socket.socket()
        sock.bind((LOOPBACK, 0))
        listener = Listener.adopt(sock)
        with contextlib.closing(listener), connect(listener):
            await_one(listener)[0].close()

    def test_a_listening_socket_is_taken_as_it_is(self) -> None:
        """A listening socket is served, non-blocking from then on."""
        sock = socket.create_server((LOOPBACK, 0))
        with contextlib.closing(Listener.adopt(sock, name="web")) as listener, connect(listener):
            assert listener.name == "web"
            assert sock.gettimeout() == 0
            await_one(listener)[0].close()

    def test_what_is_not_a_listening_socket_is_refused(self) -> None:
        """A datagram socket, an unbound one and a connection are refused."""
        first, second = socket.socketpair()
        for sock in (socket.socket(type=socket.SOCK_DGRAM), socket.socket(), socket.socket(socket.AF_UNIX), first):
            with sock, pytest.raises(ConfigurationError):
                Listener.adopt(sock)
        second.close()


class TestDuplicating:
    """A second handle of one socket."""

    def test_a_duplicate_goes_on_listening(self, short_path: Path) -> None:
        """Closing the first handle neither stops the second nor removes its path; closing the second removes it."""
        with listening(str(short_path / "s")) as first:
            first.name = "web"
            twin = first.duplicate()
            first.close()
            with connect(twin):
                await_one(twin)[0].close()
            assert twin.name == "web"
            twin.close()
        assert list(short_path.iterdir()) == []


class TestHandOver:
    """From one process to the next."""

    def test_a_child_serves_what_its_parent_listened_at(self, short_path: Path) -> None:
        """A child process takes over a port and a path; connections made meanwhile wait for it; it removes the path."""
        child = (
            "import os, select\n"
            "from secureserve.front.listener import adopt_exported\n"
            "listeners = adopt_exported(os.environ)\n"
            "assert adopt_exported(os.environ) == []\n"
            "for listener in listeners:\n"
            "    select.select([listener], [], [], 20)\n"
            "    ((sock, _),) = listener.accept_many(1).connections\n"
            "    sock.sendall(listener.name.encode() + listener.describe().encode())\n"
            "    sock.close()\n"
            "    assert not os.get_inheritable(listener.fileno())\n"
            "    listener.close()\n"
        )
        with listening((LOOPBACK, 0)) as tcp, listening(str(short_path / "s")) as unix:
            tcp.name = "web "
            told = [f"web {tcp.describe()}".encode(), unix.describe().encode()]
            environment = {**os.environ, **export_listeners([tcp, unix])}
            with connect(tcp) as first, connect(unix) as second:
                heir = subprocess.Popen(
                    [sys.executable, "-c", child], env=environment, pass_fds=(tcp.fileno(), unix.fileno())
                )
                tcp.close()
                unix.close()
                assert [sock.makefile("rb").read() for sock in (first, second)] == told
                assert heir.wait(20) == 0
            assert not (short_path / "s").exists()

    @pytest.mark.parametrize("value", ["nonsense", "[{}]", '[{"fd": 99999, "name": "", "path": null}]', "[7"])
    def test_an_export_that_cannot_be_taken_over_is_an_error(self, value: str) -> None:
        """A broken variable fails the start with a remedy, and is consumed."""
        environ = {EXPORT_VARIABLE: value}
        with pytest.raises(StartFailed, match=EXPORT_VARIABLE):
            adopt_exported(environ)
        assert environ == {}


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (("", 80), "*:80"),
        ((None, 80), "*:80"),
        (("::1", 80), "[::1]:80"),
        (("a.example", 80), "a.example:80"),
        ("/run/x", "unix:/run/x"),
    ],
)
def test_addresses_are_shown_as_people_write_them(address: tuple[str | None, int] | str, shown: str) -> None:
    """An address is described in the usual notation of its kind."""
    assert describe_address(address) == shown


class _Scripted:
    """A listening socket whose accept follows a script; None stands for the real thing."""

    def __init__(self, sock: socket.socket, script: list[OSError | None]) -> None:
        self._sock = sock
        self._script = script

    def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        step = self._script.pop(0)
        if step is not None:
            raise step
        return self._sock.accept()

    def __getattr__(self, name: str) -> object:
        return getattr(self._sock, name)
