"""The processes of this machine as Linux shows them under ``/proc``: known by what they carry.

The format: https://man7.org/linux/man-pages/man5/proc.5.html. A pid is used again after a while; a pid with
its start time is not, within one boot.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TOKEN_NAME = "REFLOAT_TOKEN"
"""The environment variable by which a process is known to be the one that an operation started."""

_LISTEN = "0A"
_SOCKET = re.compile(r"socket:\[(\d+)\]")


@dataclass(frozen=True)
class Running:
    """A process that runs: its pid, its start in clock ticks since boot, and its session."""

    pid: int
    started: int
    session: int


def boot_id() -> str:
    """The name of this boot of the machine; pids and start times mean nothing in another."""
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()


def running(pid: int) -> Running | None:
    """The process of a pid; None where there is none, or only what is left of one that ended."""
    with suppress(OSError):
        # the second field is the name in brackets, which may itself hold brackets and spaces
        fields = (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
        if fields[0] not in {"Z", "X"}:
            return Running(pid, started=int(fields[19]), session=int(fields[3]))
    return None


def shown(pid: int) -> str:
    """A process as a person looks for it: its pid and, where that can be read, its name."""
    with suppress(OSError):
        return f"{pid} ({(PROC / str(pid) / 'comm').read_text(errors='replace').strip()})"
    return str(pid)


def _all() -> Iterator[Running]:
    for folder in PROC.iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            process = running(int(folder.name))
            if process is not None:
                yield process


def is_beginning(pid: int) -> bool:
    """Whether a process has no environment yet: ``execve(2)`` lets its parent go on a moment before it has one."""
    with suppress(OSError):
        return running(pid) is not None and not _environment(pid)
    return False


def _carries(pid: int, token: str) -> bool:
    with suppress(OSError):  # ended meanwhile, or another user's
        return f"{TOKEN_NAME}={token}".encode() in _environment(pid).split(b"\0")
    return False


def _environment(pid: int) -> bytes:
    return (PROC / str(pid) / "environ").read_bytes()


def carrying(token: str) -> list[Running]:
    """Every process that carries ``token``, or runs in a session whose leader does; leaders first."""
    everything = list(_all())
    marked = {process.pid for process in everything if _carries(process.pid, token)}
    leaders = {
        process.pid for process in everything if process.pid in marked and process.session == process.pid
    }
    ours = [process for process in everything if process.pid in marked or process.session in leaders]
    return sorted(ours, key=lambda process: (process.pid not in leaders, process.started, process.pid))


def signal_all(processes: list[Running], number: signal.Signals) -> None:
    """Send a signal to each process that is still the one that was found."""
    for process in processes:
        with suppress(ProcessLookupError), _handle(process.pid) as handle:
            if alive(process):  # the handle holds the pid, so what is checked is what is signalled
                signal.pidfd_send_signal(handle, number)


def alive(process: Running) -> bool:
    """Whether this very process still runs, and not another that was given its pid."""
    now = running(process.pid)
    return now is not None and now.started == process.started


@contextmanager
def _handle(pid: int) -> Iterator[int]:
    handle = os.pidfd_open(pid)
    try:
        yield handle
    finally:
        os.close(handle)


def listening() -> Mapping[int, frozenset[int]]:
    """Each TCP port on which something listens, with the inodes of its sockets."""
    ports: dict[int, frozenset[int]] = {}
    for table in ("net/tcp", "net/tcp6"):
        with suppress(FileNotFoundError):  # a machine without IPv6
            for line in (PROC / table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN:
                    port = int(fields[1].rpartition(":")[2], 16)
                    ports[port] = ports.get(port, frozenset()) | {int(fields[9])}
    return ports


def holders(sockets: frozenset[int]) -> list[int]:
    """The pids that hold one of these sockets open, as far as this user may see."""
    return [process.pid for process in [*_all(), *_self()] if _sockets(process.pid) & sockets]


def _self() -> Iterator[Running]:
    myself = running(os.getpid())
    if myself is not None:
        yield myself


def _sockets(pid: int) -> set[int]:
    found: set[int] = set()
    with suppress(OSError):
        for descriptor in (PROC / str(pid) / "fd").iterdir():
            with suppress(OSError):
                match = _SOCKET.fullmatch(str(descriptor.readlink()))
                if match:
                    found.add(int(match[1]))
    return found
