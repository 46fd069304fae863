"""The zygote: a warm, locked-down interpreter that forks one child for every call.

Started with an empty environment, without `site`, and without this package's `__init__` modules (`boot` in `pool.py`),
so that neither it nor its children hold anything of the trainer or of the task. It warms up, gives up its rights, says
what it couldn't give up, and serves: one datagram a call, with three descriptors: the request (code and raw images),
the result (a memfd of fixed size) and a socket for the outcome. The call goes to a child that was forked ahead, while
nothing waited for it, and serves no other; the child limits itself, lays the stricter filter over itself and runs the
code; the zygote kills it at the deadline and reports how it ended.

Covered, by `lockdown`: everything that goes through a system call. Covered here: wall clock (SIGKILL), CPU time,
address space, processes and threads (none), written files (its result), open descriptors, other calls' descriptors
(closed), what an earlier call left behind (a fresh fork each), code that outlives the zygote.
"""

import contextlib
import gc
import json
import mmap
import os
import resource
import select
import signal
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from codevision_ext.sandbox.child import perform, read_request
from codevision_ext.sandbox.lockdown import (
    CHILD_FILES,
    LIBC,
    PR_SET_PDEATHSIG,
    Filter,
    lock_down,
    shared_or_executable,
)
from codevision_ext.sandbox.preload import preload
from codevision_ext.sandbox.wire import EXIT_NO_MEMORY, FILTERS, OUTCOME, START


@dataclass(frozen=True, slots=True, kw_only=True)
class Warm:
    """What every child starts from."""

    tools: dict[str, Any]
    filter: Filter
    vm_bytes: int
    """Address space of the zygote; a child's budget comes on top."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spare:
    """A child that waits for its one call."""

    pid: int
    pidfd: int
    door: socket.socket
    """Where the call goes in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """A child that is running."""

    pid: int
    reply: socket.socket
    started: float
    deadline: float


def serve(control: socket.socket, warm: Warm) -> None:
    """Give each datagram to a child, kill the late ones, report the dead ones; returns when the parent is gone."""
    poller = select.poll()
    poller.register(control, select.POLLIN)
    live: dict[int, Live] = {}
    spare = fork(warm)
    while True:
        now = time.monotonic()
        wait = min((call.deadline for call in live.values()), default=None)
        for fd, _ in poller.poll(None if wait is None else max(0.0, wait - now) * 1000 + 1):
            if fd == control.fileno():
                message, fds, _, _ = socket.recv_fds(control, START.size, 3)
                if not message:
                    left = {spare.pidfd: spare.pid} | {pidfd: call.pid for pidfd, call in live.items()}
                    for pidfd, pid in left.items():
                        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                        os.waitpid(pid, 0)  # who inherits them may not reap
                    return
                while not (call := hand_over(spare, message, fds)):
                    spare = fork(warm)
                live[spare.pidfd] = call
                poller.register(spare.pidfd, select.POLLIN)
                spare = fork(warm)
            else:
                call = live.pop(fd)
                poller.unregister(fd)
                os.close(fd)
                report(call)
        now = time.monotonic()
        for pidfd, call in live.items():
            if now >= call.deadline:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)


def fork(warm: Warm) -> Spare:
    """A fresh child, that waits for a call."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # Python's own fork runs hooks that make locks anew and reseed `random`: in a process with one thread they only
    # cost (half of the fork), and without them two runs of the same code draw the same numbers.
    pid = LIBC.fork()
    if pid < 0:
        raise OSError("fork failed")
    if pid == 0:
        child(theirs, warm)
    theirs.close()
    return Spare(pid=pid, pidfd=os.pidfd_open(pid), door=ours)


def hand_over(spare: Spare, message: bytes, fds: list[int]) -> Live | None:
    """Send the call into the child, whose clock starts here; None where it died while it waited, and is reaped."""
    wall_s, _ = START.unpack(message)
    started = time.monotonic()
    with spare.door:
        try:
            socket.send_fds(spare.door, [message], fds[:2])
        except (BrokenPipeError, ConnectionResetError):  # a machine short of memory kills what it can
            os.close(spare.pidfd)
            os.waitpid(spare.pid, 0)
            return None
    reply = socket.socket(fileno=fds[2])
    os.close(fds[0])
    os.close(fds[1])
    return Live(pid=spare.pid, reply=reply, started=started, deadline=started + wall_s)


def report(call: Live) -> None:
    """Reap a dead child and tell the parent how it ended."""
    ended = time.monotonic()
    _, status = os.waitpid(call.pid, 0)
    late = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL and ended >= call.deadline
    with call.reply, contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the caller gave up waiting
        call.reply.send(OUTCOME.pack(status, late, (ended - call.started) * 1000))


def child(door: socket.socket, warm: Warm) -> NoReturn:
    """Wait for one request, run it, and never return."""
    code = 1
    try:
        # Should the zygote be killed, its children go too. It has one thread, whose end is the zygote's.
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        with close_all_but(door) as waiting:
            message, fds, _, _ = socket.recv_fds(waiting, START.size, 2)
        if not message:  # the zygote is gone
            os._exit(0)
        wall_s, memory = START.unpack(message)
        request, result = fds
        most = os.lseek(result, 0, os.SEEK_END)
        for kind, soft, hard in (
            (resource.RLIMIT_AS, warm.vm_bytes + memory, warm.vm_bytes + memory),
            (resource.RLIMIT_CPU, int(wall_s) + 2, int(wall_s) + 3),
            (resource.RLIMIT_NPROC, 0, 0),
            (resource.RLIMIT_FSIZE, most, most),
            (resource.RLIMIT_NOFILE, CHILD_FILES, CHILD_FILES),
        ):
            resource.setrlimit(kind, (soft, hard))
        job = read_request(request)
        warm.filter.install()
        perform(job, result, warm.tools)
        code = 0
    except MemoryError:  # while the request was read or the result written: the run itself reports its own
        code = EXIT_NO_MEMORY
    finally:
        os._exit(code)


def close_all_but(door: socket.socket) -> socket.socket:
    """Leave 0, 1, 2 on /dev/null and the door at 3; other calls' sockets and memfds go."""
    os.dup2(door.detach(), 3)
    os.dup2(0, 1)
    os.dup2(0, 2)
    os.closerange(4, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    return socket.socket(door.family, door.type, fileno=3)


def check_memory() -> None:
    """Nothing may be shared with the children for writing, nothing writable may be executable, no thread may run."""
    wrong = shared_or_executable(Path("/proc/self/maps").read_text(encoding="utf-8"))
    if wrong:
        raise RuntimeError(f"memory of the zygote is shared or executable: {wrong[0]}")
    if len(os.listdir("/proc/self/task")) != 1:  # noqa: PTH208 - only their number counts
        raise RuntimeError("a thread runs in the zygote: forking it would copy its locks")


def main() -> None:
    """Warm up, give up rights, say which couldn't be given up, serve until the parent closes its end."""
    fd, plotting, *library_dirs = sys.argv[1:]
    control = socket.socket(fileno=int(fd))
    sys.path[:0] = library_dirs
    tools = preload(plotting=bool(int(plotting)))
    sys.argv, sys.path = [""], []
    for name in [name for name in sys.modules if name.startswith("codevision")]:
        del sys.modules[name]
    filters = control.recv(2**16)
    zygote_bytes, child_bytes = FILTERS.unpack_from(filters)
    body = filters[FILTERS.size :]
    check_memory()
    with contextlib.suppress(OSError):  # absent in some containers; the memory limit holds without it
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    gc.collect()
    gc.freeze()
    vm_bytes = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * mmap.PAGESIZE
    missing = lock_down(Filter(body[:zygote_bytes]))
    child_filter = b"" if "seccomp" in missing else body[zygote_bytes : zygote_bytes + child_bytes]
    control.send(json.dumps(missing).encode())
    serve(control, Warm(tools=tools, filter=Filter(child_filter), vm_bytes=vm_bytes))
    os._exit(0)  # the interpreter's own end would ask for what is denied now
