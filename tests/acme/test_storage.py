"""What has to outlive the process: kept whole, kept private, and kept from two at once."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from secureserve.acme.storage import FileStorage, Key, Kind, canonical_names, default_directory
from secureserve.certificates import files
from secureserve.errors import ConfigurationError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 30.0

CA = "https://ca.example.test/directory"
OTHER_CA = "https://other.example.test/acme/v2/directory"
NAMES = ("www.example.test", "example.test")

EVERY_KEY = [Key.account(CA), Key.order(CA, NAMES), Key.certificate(CA, NAMES), Key.pause(CA, NAMES)]


def _tree(storage: FileStorage) -> list[Path]:
    return sorted(path for path in storage.directory.rglob("*"))


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.parametrize("key", EVERY_KEY, ids=lambda key: key.kind.name)
def test_keeps_replaces_and_deletes(storage: FileStorage, key: Key) -> None:
    """What is put can be got, by another process as well, until it is replaced or deleted."""
    assert storage.get(key) is None
    storage.delete(key)
    storage.put(key, b"first")
    storage.put(key, b"second")
    assert FileStorage(storage.directory).get(key) == b"second"
    assert storage.place(key) == str(storage.path_of(key))
    storage.delete(key)
    assert storage.get(key) is None


def test_everything_is_the_owners_alone(storage: FileStorage) -> None:
    """Directories are 0700 and files 0600, whatever the umask, and no temporary file stays."""
    before = os.umask(0)
    try:
        for key in EVERY_KEY:
            storage.put(key, b"secret")
        assert _mode(storage.directory) == 0o700
        with storage.lock(NAMES):
            pass
    finally:
        os.umask(before)
    for path in _tree(storage):
        assert _mode(path) == (0o700 if path.is_dir() else 0o600), path
        assert not path.name.startswith("."), path
    storage.prepare()


def test_sets_of_names_are_told_apart(storage: FileStorage) -> None:
    """Sets are equal in any order and spelling, and different sets, authorities and kinds have different places."""
    assert Key.certificate(CA, ["Example.test", "www.EXAMPLE.test."]) == Key.certificate(CA, NAMES)
    keys = [
        Key.certificate(CA, NAMES),
        Key.certificate(OTHER_CA, NAMES),
        Key.certificate(CA, ["example.test"]),
        Key.certificate(CA, ["*.example.test"]),
        Key.certificate(CA, ["any.example.test"]),
        Key.certificate(CA, ["192.0.2.1"]),
        Key.certificate(CA, ["2001:db8::1"]),
        Key.certificate(CA, [f"{'x' * 60}.{'y' * 60}.{'z' * 60}.example.test"]),
        Key.certificate(CA, [f"n{number}.example.test" for number in range(100)]),
    ]
    for number, key in enumerate(keys):
        storage.put(key, b"%d" % number)
        storage.put(Key.order(key.authority, key.names), b"order")
    assert [storage.get(key) for key in keys] == [b"%d" % number for number in range(len(keys))]
    assert set(storage.keys(Kind.CERTIFICATE)) == set(keys)
    assert {key.names for key in storage.keys(Kind.ORDER)} == {key.names for key in keys}
    storage.put(Key.account(CA), b"me")
    assert storage.keys(Kind.ACCOUNT) == [Key.account(CA)]


def test_nothing_is_left_of_names_that_are_gone(storage: FileStorage) -> None:
    """The folder of a set of names goes with its last file, and not before."""
    certificate, order = Key.certificate(CA, NAMES), Key.order(CA, NAMES)
    storage.put(certificate, b"1")
    storage.put(order, b"2")
    folder = storage.path_of(order).parent
    storage.delete(order)
    assert storage.get(certificate) == b"1"
    storage.delete(certificate)
    assert not folder.exists()
    assert storage.keys(Kind.CERTIFICATE) == []


def test_a_bad_name_has_no_place() -> None:
    """What is not a name is refused before it becomes a part of a path."""
    for name in ("", "../../etc/passwd", "a b", "x" * 300):
        with pytest.raises(ValueError, match=r"name|octets"):
            canonical_names([name])


def test_default_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is in the user's state folder, where the XDG base directory specification has it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert FileStorage().directory == tmp_path / "secureserve" / "acme"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_directory() == tmp_path / "home" / ".local" / "state" / "secureserve" / "acme"


def test_a_folder_that_does_not_say_what_it_is_for(storage: FileStorage, caplog: pytest.LogCaptureFixture) -> None:
    """What somebody else left there is passed over, and what is ours is still found."""
    ours = Key.certificate(CA, NAMES)
    broken = Key.certificate(CA, ["broken.example.test"])
    storage.put(ours, b"1")
    storage.put(broken, b"2")
    (storage.path_of(broken).parent / "names").write_bytes(b"\xff\xfe")
    for name in ("lost+found", "something else", ".hidden"):
        (storage.directory / name).mkdir(mode=0o700)
    (storage.directory / "notes.txt").write_text("hello")
    assert storage.keys(Kind.CERTIFICATE) == [ours]
    assert "passing over" in caplog.text
    assert storage.get(broken) == b"2"


def test_paths_lead_to_the_certificates(storage: FileStorage) -> None:
    """Whoever watches sees each certificate, and the directories where others would appear."""
    assert storage.paths() == [storage.directory]
    key = Key.certificate(CA, NAMES)
    storage.put(key, b"1")
    authority = storage.path_of(key).parent.parent
    assert list(storage.paths()) == [storage.directory, authority, storage.path_of(key)]
    # While things are being put there, it does not say yet what it is for.
    (authority / "authority").unlink()
    (storage.path_of(key).parent / "names").unlink()
    assert list(storage.paths()) == [storage.directory, authority, storage.path_of(key)]


class TestPermissions:
    """What others could read or write is refused, with what to do."""

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
    def test_an_open_key_file(self, storage: FileStorage, mode: int) -> None:
        """A file that others may read is not used, and a start says which and how to close it."""
        key, other = Key.certificate(CA, NAMES), Key.certificate(CA, ["other.example.test"])
        storage.put(key, b"1")
        storage.put(other, b"2")
        storage.path_of(key).chmod(mode)
        with pytest.raises(StorageError, match=rf"open to others \(mode 0{mode:o}\).*chmod 600 .*certificate.pem"):
            storage.get(key)
        with pytest.raises(ConfigurationError, match=r"acme_storage = .*chmod 600"):
            storage.prepare()
        assert storage.get(other) == b"2"
        storage.put(key, b"3")
        assert storage.get(key) == b"3"
        storage.prepare()

    def test_an_open_directory(self, storage: FileStorage) -> None:
        """A directory with something in it that others may enter is refused; an empty one is closed."""
        storage.directory.mkdir(mode=0o755)
        storage.prepare()
        assert _mode(storage.directory) == 0o700
        storage.put(Key.account(CA), b"1")
        storage.directory.chmod(0o755)
        with pytest.raises(ConfigurationError, match=r"acme_storage.*mode 0755.*chmod 700"):
            storage.prepare()

    def test_a_file_in_the_way(self, tmp_path: Path) -> None:
        """A storage that is a file is refused before anything is asked of an authority."""
        (tmp_path / "file").write_text("")
        storage = FileStorage(tmp_path / "file")
        with pytest.raises(ConfigurationError, match=r"acme_storage = .*cannot be used"):
            storage.prepare()
        with pytest.raises(StorageError, match=r"Cannot write .*file"):
            storage.put(Key.account(CA), b"1")

    def test_a_directory_of_somebody_else(self, tmp_path: Path) -> None:
        """One that belongs to another user is refused."""
        directory = Path("/usr/share")
        if os.geteuid() == 0:
            directory = tmp_path / "theirs"
            (directory / "something").mkdir(parents=True)
            os.chown(directory, 4711, 4711)
        with pytest.raises(ConfigurationError, match=r"acme_storage = .* belongs to user \d+, not to user"):
            FileStorage(directory).prepare()

    def test_a_directory_that_nobody_may_write(self) -> None:
        """A start says who has to be let in, or that another place is needed."""
        with pytest.raises(ConfigurationError, match=rf"acme_storage = '/sys/acme' cannot be used: .*{os.geteuid()}"):
            FileStorage("/sys/acme").prepare()

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
    def test_what_is_not_ours_at_all(self, storage: FileStorage, caplog: pytest.LogCaptureFixture) -> None:
        """A folder of the file system's own, as at the top of a disk, is nobody's concern."""
        storage.put(Key.account(CA), b"1")
        foreign = storage.directory / "lost+found"
        foreign.mkdir(mode=0o700)
        os.chown(foreign, 4711, 4711)
        storage.prepare()
        assert storage.keys(Kind.ACCOUNT) == [Key.account(CA)]
        assert caplog.text == ""

    def test_somebody_elses_file(self, storage: FileStorage, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that another user owns, and so could have put there, is refused."""
        key = Key.certificate(CA, NAMES)
        storage.put(key, b"1")
        monkeypatch.setattr(os, "geteuid", lambda: storage.directory.stat().st_uid + 1)
        with pytest.raises(StorageError, match=r"belongs to user \d+, not to user \d+ .*chown"):
            storage.get(key)


class TestFullDisk:
    """When nothing more can be written, what is there stays there."""

    def test_nothing_is_lost(self, storage: FileStorage, monkeypatch: pytest.MonkeyPatch) -> None:
        """A write that finds no room fails, says what to do, and leaves the old content and no rubbish."""
        key = Key.certificate(CA, NAMES)
        storage.put(key, b"old")
        before = _tree(storage)

        def full(_descriptor: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(
                StorageError, match=r"no space left on device\. Free some space.*Nothing .* is lost"
            ) as caught:
                storage.put(key, b"new")
            with pytest.raises(StorageError, match="no space left"), storage.lock(NAMES):
                pytest.fail("the lock shows that there is room")
            with pytest.raises(ConfigurationError, match="no space left"):
                storage.prepare()
        assert caught.value.path == storage.path_of(key)
        assert storage.get(key) == b"old"
        assert [path for path in _tree(storage) if path.parent.name != "locks" and path.name != "locks"] == before

    def test_under_a_real_limit(self, storage: FileStorage) -> None:
        """A process that may not write as much as a certificate takes gets an error, and loses nothing."""
        key = Key.certificate(CA, NAMES)
        storage.put(key, b"old")
        program = (
            "import resource, signal, sys\n"
            "from secureserve.acme.storage import FileStorage, Key\n"
            "from secureserve.errors import StorageError\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
            "try:\n"
            f"    FileStorage(sys.argv[1]).put(Key.certificate({CA!r}, {NAMES!r}), b'x' * 10000)\n"
            "except StorageError as error:\n"
            "    print(error)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, str(storage.directory)],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
        assert "file too large. Free some space" in done.stdout
        assert storage.get(key) == b"old"


def test_a_failure_half_way_leaves_the_old(storage: FileStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rename that fails leaves the old content and no temporary file."""
    key = Key.account(CA)
    storage.put(key, b"old")

    def fail(*_arguments: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        with pytest.raises(StorageError, match=r"input/output error.*Look at the disk"):
            storage.put(key, b"new")
    assert storage.get(key) == b"old"
    assert not [path for path in _tree(storage) if path.name.startswith(".")]


def test_killed_while_writing(storage: FileStorage) -> None:
    """A process that is killed while it replaces something leaves the old or the new, whole."""
    key = Key.certificate(CA, NAMES)
    program = (
        "import sys\n"
        "from secureserve.acme.storage import FileStorage, Key\n"
        "storage = FileStorage(sys.argv[1])\n"
        "while True:\n"
        "    for letter in (b'a', b'b'):\n"
        f"        storage.put(Key.certificate({CA!r}, {NAMES!r}), letter * 200_000)\n"
        "        print('.', end='', flush=True)\n"
    )
    for writes in (1, 2, 5):
        with subprocess.Popen(
            [sys.executable, "-c", program, str(storage.directory)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stdout.read(writes) == "." * writes
            process.kill()
        found = storage.get(key)
        assert found in (b"a" * 200_000, b"b" * 200_000)
    storage.prepare()


def test_what_a_crash_has_left(storage: FileStorage) -> None:
    """Files that were never put in place, which may hold keys, are gone after the next start, but not those of now."""
    key = Key.certificate(CA, NAMES)
    storage.put(key, b"1")
    place = storage.path_of(key).parent
    old, new = place / ".certificate.pem.abc.new", place.parent / ".account.json.def.new"
    for path in (old, new):
        path.write_bytes(b"key")
        path.chmod(0o600)
    os.utime(old, (0, 0))
    storage.prepare()
    assert not old.exists()
    assert new.exists()
    assert storage.get(key) == b"1"


def test_too_large_to_be_one_of_ours(storage: FileStorage) -> None:
    """A file beyond all measure is not read."""
    key = Key.account(CA)
    storage.put(key, b"old")
    with storage.path_of(key).open("wb") as file:
        file.truncate(files.MAX_FILE_SIZE + 1)
    with pytest.raises(StorageError, match="larger than"):
        storage.get(key)


class TestLock:
    """One at a time, whether threads or processes, and the dead hold nothing."""

    def test_one_holder(self, storage: FileStorage) -> None:
        """While somebody holds it, others are told so at once; other names are free."""
        with (
            storage.lock(NAMES) as mine,
            storage.lock(reversed(NAMES)) as same,
            storage.lock(["other.example.test"]) as other,
        ):
            assert (mine, same, other) == (True, False, True)
        with storage.lock(NAMES) as again:
            assert again

    def test_equal_sets(self, storage: FileStorage) -> None:
        """A set of names is one however it is written, and what is no name can be locked as well."""
        with storage.lock(["WWW.example.test."]) as first, storage.lock(["www.example.test"]) as second:
            assert (first, second) == (True, False)
        with storage.lock([CA]) as first, storage.lock([CA]) as second, storage.lock([OTHER_CA]) as third:
            assert (first, second, third) == (True, False, True)

    def test_many_who_want_it(self, storage: FileStorage) -> None:
        """However many wait for it, one has it at a time, all get it, and nothing is left of it."""
        holding: list[int] = []
        most: list[int] = []

        def work(number: int) -> None:
            for _ in range(20):
                with storage.lock(NAMES, wait=True) as held:
                    assert held
                    holding.append(number)
                    most.append(len(holding))
                    holding.remove(number)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert most == [1] * 80
        assert list((storage.directory / "locks").iterdir()) == []

    def test_the_file_that_was_removed(self, storage: FileStorage, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whoever opened the file before another let go of it and removed it locks the one that is there now."""
        flock, calls = fcntl.flock, []

        def too_late(descriptor: int, operation: int) -> None:
            flock(descriptor, operation)
            calls.append(operation)
            if len(calls) == 1:
                next((storage.directory / "locks").iterdir()).unlink()

        monkeypatch.setattr(fcntl, "flock", too_late)
        with storage.lock(NAMES) as first, storage.lock(NAMES) as second:
            assert (first, second) == (True, False)

    def test_waiting(self, storage: FileStorage) -> None:
        """Whoever waits gets it when it is let go."""
        got = threading.Event()

        def wait() -> None:
            with storage.lock(NAMES, wait=True) as held:
                assert held
                got.set()

        with storage.lock(NAMES):
            thread = threading.Thread(target=wait)
            thread.start()
            assert not got.wait(0.1)
        assert got.wait(PATIENCE)
        thread.join(PATIENCE)

    @pytest.fixture
    def holder(self, storage: FileStorage) -> Iterator[subprocess.Popen[str]]:
        """Another process that holds the lock."""
        program = (
            "import sys\n"
            "from secureserve.acme.storage import FileStorage\n"
            f"with FileStorage(sys.argv[1]).lock({NAMES!r}) as held:\n"
            "    print(held, flush=True)\n"
            "    sys.stdin.read()\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", program, str(storage.directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "True\n"
            yield process
            process.kill()

    def test_a_dead_holder(self, storage: FileStorage, holder: subprocess.Popen[str]) -> None:
        """A process that is killed while it holds the lock holds it no more."""
        with storage.lock(NAMES) as held:
            assert not held
        holder.send_signal(signal.SIGKILL)
        assert holder.wait(PATIENCE) == -signal.SIGKILL
        with storage.lock(NAMES) as held:
            assert held

    def test_a_holder_that_lives(self, storage: FileStorage, holder: subprocess.Popen[str]) -> None:
        """A process that ends in order lets go as well, and its number was in the file."""
        lock_file = next((storage.directory / "locks").iterdir())
        assert lock_file.read_text() == f"{holder.pid}\n"
        holder.communicate("", timeout=PATIENCE)
        with storage.lock(NAMES) as held:
            assert held
