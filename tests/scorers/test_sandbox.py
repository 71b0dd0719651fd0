from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tta_bench.runner.failure import TimeLimitError, time_limit
from tta_bench.scorers import sandbox
from tta_bench.scorers.sandbox import Limits, Outcome, SandboxError, run

SECONDS = 1.5
STACKS = {"all": ("namespaces", "landlock", "seccomp"), "namespaces": ("namespaces",), "without": ("landlock", "seccomp")}

HOSTILE = {
    "fork bomb": "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
    "thread bomb": "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(99,)).start()",
    "memory bomb": "kept = []\nwhile True: kept.append(b'x' * 2**20)",
    "memory of many processes": (
        "import os, time\nfor _ in range(6):\n    if os.fork() == 0: break\nkept = b'x' * (60 << 20)\nwhile True: time.sleep(1)"
    ),
    "endless loop": "while True: pass",
    "sleeps": "import time\ntime.sleep(1000)",
    "output flood": "while True: print('x' * 100_000)",
    "ignores signals": (
        "import signal, time\nfor s in range(1, 64):\n    try: signal.signal(s, signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass\nwhile True: time.sleep(1)"
    ),
    "exits at once": "import sys\nsys.exit(0)",
    "exits without a word": "import os\nos._exit(0)",
    "kills itself": "import os\nos.kill(os.getpid(), 9)",
    "stack": "def f(n): return f(n + 1)\nimport sys\nsys.setrecursionlimit(10**9)\nf(0)",
    "does not compile": "def f(:",
    "null byte": "x = '\0'",
    "claims success": (
        "import os\nprint('passed', flush=True)\nfor fd in range(64):\n"
        "    try: os.write(fd, b'{\"ended\": \"exit 0\"}\\n' + b'0' * 32)\n"
        "    except OSError: pass\nos._exit(0)"
    ),
    "closes everything": "import os\nos.closerange(0, 256)",
    "stops the tests": "import builtins\ndef no(*_): raise SystemExit(0)\nbuiltins.compile = no",
}


@pytest.fixture
def mine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """A word in the command line of all processes of a sandbox, of which none may be left."""
    script = tmp_path / f"jail-{os.getpid()}-{time.monotonic_ns()}.py"
    shutil.copy(sandbox.JAIL, script)
    monkeypatch.setattr(sandbox, "JAIL", script)
    yield str(script)
    assert not alive(str(script))


def alive(word: str) -> list[int]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if process.pid != os.getpid() and word in (process.info["cmdline"] or ()):
            found.append(process.pid)
    return found


def contained(source: str, stack: str = "all", **limits: float) -> Outcome:
    layers = STACKS[stack]
    if set(layers) & set(sandbox.missing_layers()):
        pytest.skip(f"not on this machine: {sandbox.missing_layers()}")
    start = time.monotonic()
    outcome = run([("solution", source), ("test", "assert True")], Limits(**{"seconds": SECONDS, **limits}), layers)
    assert time.monotonic() - start < SECONDS + 5
    return outcome


def test_what_this_machine_has_is_known() -> None:
    assert set(sandbox.missing_layers()) <= set(sandbox.LAYERS)
    assert sandbox.protections(()) == ()
    assert sandbox.protections(STACKS["namespaces"]) == tuple(sandbox.PROTECTIONS)
    assert sandbox.protections(STACKS["without"]) == ("files", "network", "signals", "processes")
    assert run([("a", "x = 1"), ("b", "assert x == 1")]).protections == sandbox.protections()


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_program_is_contained(name: str, stack: str) -> None:
    outcome = contained(HOSTILE[name], stack, memory_mb=256)
    assert not outcome.passed
    assert len(outcome.output) <= 64 << 10
    assert "broken" not in outcome.output


@pytest.mark.parametrize("stack", STACKS)
def test_limits_end_a_program_and_say_which(stack: str) -> None:
    assert contained(HOSTILE["endless loop"], stack).ended == "time"
    assert "MemoryError" in contained(HOSTILE["memory bomb"], stack, memory_mb=128).output
    assert contained(HOSTILE["memory of many processes"], stack, memory_mb=128).ended == "memory"
    assert contained(HOSTILE["kills itself"], "without").ended in ("signal 9", "exit 1")
    huge = contained("with open('huge', 'wb') as f:\n    while True: f.write(b'x' * 2**20)", stack, file_mb=4)
    assert not huge.passed
    assert huge.ended in ("exit 1", "signal 25")


@pytest.mark.usefixtures("mine")
def test_many_files_do_not_fill_the_disk() -> None:
    source = "i = 0\nwhile True:\n    i += 1\n    with open(str(i), 'wb') as f: f.write(b'x' * 2**20)"
    assert "No space left" in contained(source, "namespaces", file_mb=4).output


@pytest.fixture
def outside() -> Iterator[Path]:
    """A folder that anyone may write."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize("stack", STACKS)
def test_files_outside_the_folder_cannot_be_written_or_read(stack: str, outside: Path) -> None:
    secret = outside / "secret"
    secret.write_text("kept")
    secret.chmod(0o666)
    attempts = [
        f"open({str(secret)!r}, 'w').write('lost')",
        f"open({str(secret)!r}).read()",
        f"os.unlink({str(secret)!r})",
        f"os.truncate({str(secret)!r}, 0)",
        f"os.rename({str(secret)!r}, 'mine')",
        f"os.link({str(secret)!r}, 'mine')",
        f"open({str(outside / 'new')!r}, 'w')",
        f"os.chmod({str(secret)!r}, 0)",
        f"os.utime({str(secret)!r})",
        "open('../new', 'w')",
        "open('/new', 'w')",
        "open('/usr/new', 'w')",
        "open('/proc/self/oom_score_adj', 'w').write('1000')",
        "open('/etc/passwd').read()",
        "os.symlink('/etc/passwd', 'p'); open('p').read()",
        "os.chdir('/tmp'); open('new', 'w')",
    ]
    source = "import os\nopen('own', 'w').write('x')\n" + "".join(
        f"try: {attempt}\nexcept OSError: pass\nelse: raise RuntimeError({attempt!r})\n" for attempt in attempts
    )
    outcome = contained(source, stack)
    assert outcome.passed, outcome.output
    assert secret.read_text() == "kept"
    assert secret.stat().st_mode & 0o777 == 0o666
    assert [p.name for p in outside.iterdir()] == ["secret"]
    assert not run([("solution", source)], layers=()).passed


@pytest.mark.parametrize("stack", STACKS)
def test_the_network_cannot_be_reached(stack: str, mine: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        with socket.socket(socket.AF_UNIX) as unix:
            unix.bind(f"\0{mine[-60:]}")
            unix.listen()
            source = f"""
import socket
for make in (
    lambda: socket.create_connection(("127.0.0.1", {tcp.getsockname()[1]}), timeout=0.2),
    lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", {udp.getsockname()[1]})),
    lambda: socket.socket(socket.AF_UNIX).connect("\\0" + {mine[-60:]!r}),
):
    try: make()
    except OSError: pass
    else: raise RuntimeError
"""
            outcome = contained(source, stack)
        udp.setblocking(False)
        tcp.setblocking(False)
        with pytest.raises(BlockingIOError):
            tcp.accept()
        with pytest.raises(BlockingIOError):
            udp.recv(1)
    assert outcome.passed, outcome.output


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize("stack", STACKS)
def test_signals_reach_nobody_else(stack: str) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as victim:
        source = f"""
import os
for pid in (os.getppid(), {os.getpid()}, {os.getppid()}, {victim.pid}, -1, 0, 1):
    for kill in (os.kill, os.killpg):
        try: kill(pid, 9)
        except OSError: pass
"""
        outcome = contained(source, stack)
        assert victim.poll() is None
        victim.communicate(b"\n")
    assert outcome.ended in ("exit 0", "signal 9", "exit 1")  # kill(-1) may end the program's own processes


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize("stack", STACKS)
def test_a_daemon_does_not_survive(stack: str) -> None:
    source = """
import os, signal, time
if os.fork() == 0:
    try: os.setsid()
    except OSError: pass
    if os.fork() == 0:
        for s in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT): signal.signal(s, signal.SIG_IGN)
        os.closerange(0, 256)
        while True: time.sleep(1)
    os._exit(0)
os.wait()
"""
    assert contained(source, stack).passed


@pytest.mark.usefixtures("mine")
def test_limits_alone_still_end_what_was_started() -> None:
    source = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0: time.sleep(1000)\n    os._exit(0)"
    assert run([("solution", source)], Limits(seconds=SECONDS), ()).passed
    assert run([("solution", "while True: pass")], Limits(seconds=SECONDS), ()).ended == "time"


def test_a_program_that_closes_its_output_may_pass() -> None:
    assert contained("import os, sys\nsys.stdout.close()\nos.close(2)").passed


def test_a_piece_cannot_swallow_the_next() -> None:
    pieces = [("solution", "x = 1\nif False:"), ("test", "    assert False")]
    assert not run(pieces).passed
    assert not run([("solution", "x = 1"), ("test", "assert x == 2")]).passed


def test_programs_have_no_environment_no_input_and_no_rights() -> None:
    source = """
import os, sys
assert set(os.environ) <= {"PYTHONHASHSEED", "LC_CTYPE"}, os.environ
assert sys.stdin.read() == ""
assert os.getuid() != 0 and os.listdir(".") == []
assert hash("a") == hash("a")
"""
    assert contained(source).passed
    hashes = {contained("print(hash('a')); raise ValueError").output for _ in range(2)}
    assert len(hashes) == 1


def test_folders_are_removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    tmp_path.chmod(0o755)
    source = "import os\nos.makedirs('a/b'); open('a/b/c', 'w').close(); os.chmod('a/b', 0); os.chmod('a', 0)"
    assert run([("solution", source)], layers=()).passed
    assert contained("open('a', 'w')", "without").passed
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("mine")
def test_a_time_limit_of_the_harness_ends_the_program() -> None:
    start = time.monotonic()
    with pytest.raises(TimeLimitError), time_limit(0.5):
        run([("solution", "while True: pass")], Limits(seconds=60))
    assert time.monotonic() - start < 5
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_a_killed_harness_leaves_no_process(mine: str, tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from tta_bench.scorers import sandbox\n"
        f"sandbox.JAIL = Path({mine!r}); sandbox.run([('s', 'while True: pass')], sandbox.Limits(seconds=60))"
    )
    with subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(tmp_path)}) as harness:
        deadline = time.monotonic() + 30
        while len(alive(mine)) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        harness.kill()
    deadline = time.monotonic() + 5
    while alive(mine) and time.monotonic() < deadline:
        time.sleep(0.05)


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "missing_layers", lambda: {"namespaces": "not permitted", "seccomp": "no table"})
    assert sandbox.protections() == ("files",)
    sandbox.require(["files"])
    with pytest.raises(SandboxError, match=r"network, disk here \(not permitted; no table\).*scorer\.required"):
        sandbox.require(["network", "disk"])


def test_a_sandbox_that_breaks_is_no_failed_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "jail.py"
    script.write_text(
        sandbox.JAIL.read_text().replace(
            "LANDLOCK_ADD, LANDLOCK_RESTRICT = 444, 445", "LANDLOCK_ADD, LANDLOCK_RESTRICT = 444, 999"
        )
    )
    monkeypatch.setattr(sandbox, "JAIL", script)
    with pytest.raises(SandboxError, match="landlock"):
        run([("solution", "pass")], layers=("landlock",))
    script.write_text("raise SystemExit('no interpreter')")
    with pytest.raises(SandboxError, match="no interpreter"):
        run([("solution", "pass")])


@pytest.mark.parametrize("limits", [{"seconds": 0}, {"memory_mb": 1}, {"processes": 0}, {"seconds": float("nan")}])
def test_limits_must_leave_something(limits: dict) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(limits))}=.* must be a number from"):
        Limits(**limits)
