"""Runs the zygote: a locked-down interpreter with its libraries loaded, which forks one child for every call.

The zygote starts with an empty environment, without `site`, and without this package's `__init__` modules (`BOOT` in
`pool.py`). So neither it nor its children have data of the trainer or of the task. It loads the libraries, gives up its
rights, reports what it couldn't give up, and serves. A call is one datagram with three descriptors: the request (code
and raw images), the result (a memfd of fixed size) and a socket for the outcome. The call goes to a child that was
forked in advance and serves no other call. The child limits itself, adds the stricter filter and runs the code. The
zygote kills the child at the deadline and reports how it ended.

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
from codevision_ext.sandbox.lockdown import CHILD_FILES, LIBC, PR_SET_PDEATHSIG, Filter, lock_down, shared_or_executable
from codevision_ext.sandbox.preload import preload
from codevision_ext.sandbox.wire import EXIT_NO_MEMORY, FILTERS, OUTCOME, START


@dataclass(frozen=True, slots=True, kw_only=True)
class Warm:
    """The state that every child starts with."""

    tools: dict[str, Any]
    """Names that a snippet finds without an import."""
    filter: Filter
    """Seccomp filter of the children."""
    vm_bytes: int
    """Address space of the zygote in bytes; the memory limit of a child is added to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spare:
    """A child that waits for its only call."""

    pid: int
    pidfd: int
    door: socket.socket
    """Socket that the call is sent into."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """A child that is running."""

    pid: int
    reply: socket.socket
    """Socket for the outcome."""
    started: float
    """Start of the call on the monotonic clock, seconds."""
    deadline: float
    """Time on the monotonic clock at which the child is killed, seconds."""


def serve(control: socket.socket, warm: Warm) -> None:
    """Gives each call to a child, kills late children and reports dead ones; returns when the parent is gone."""
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
                        os.waitpid(pid, 0)  # the process that inherits them may not reap them
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
    """Forks a child that waits for a call. Raises OSError."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # Python's own fork runs hooks that renew locks and reseed `random`. In a process with one thread they aren't needed
    # and take half of the time of a fork. Without them two runs of the same code draw the same random numbers.
    pid = LIBC.fork()
    if pid < 0:
        raise OSError("fork failed")
    if pid == 0:
        child(theirs, warm)
    theirs.close()
    return Spare(pid=pid, pidfd=os.pidfd_open(pid), door=ours)


def hand_over(spare: Spare, message: bytes, fds: list[int]) -> Live | None:
    """Sends the call into the child and starts its clock; returns None if the child died while it waited."""
    wall_s, _ = START.unpack(message)
    started = time.monotonic()
    with spare.door:
        try:
            socket.send_fds(spare.door, [message], fds[:2])
        except (BrokenPipeError, ConnectionResetError):  # killed by the kernel, for example for its memory
            os.close(spare.pidfd)
            os.waitpid(spare.pid, 0)
            return None
    reply = socket.socket(fileno=fds[2])
    os.close(fds[0])
    os.close(fds[1])
    return Live(pid=spare.pid, reply=reply, started=started, deadline=started + wall_s)


def report(call: Live) -> None:
    """Reaps a dead child and reports to the parent how it ended."""
    ended = time.monotonic()
    _, status = os.waitpid(call.pid, 0)
    late = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL and ended >= call.deadline
    with call.reply, contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the caller gave up waiting
        call.reply.send(OUTCOME.pack(status, late, (ended - call.started) * 1000))


def child(door: socket.socket, warm: Warm) -> NoReturn:
    """Waits for one request and runs it; never returns."""
    code = 1
    try:
        # The child dies with the zygote's thread, and so with the zygote, which has only one.
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
    except MemoryError:  # outside of the run, which reports its own: while reading the request or writing the result
        code = EXIT_NO_MEMORY
    finally:
        os._exit(code)


def close_all_but(door: socket.socket) -> socket.socket:
    """Closes all descriptors but 0, 1 and 2 (on /dev/null) and the door, which becomes 3; returns the door."""
    os.dup2(door.detach(), 3)
    os.dup2(0, 1)
    os.dup2(0, 2)
    os.closerange(4, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    return socket.socket(door.family, door.type, fileno=3)


def check_memory() -> None:
    """Raises RuntimeError if memory is writable and also shared or executable, or where a second thread runs."""
    wrong = shared_or_executable(Path("/proc/self/maps").read_text(encoding="utf-8"))
    if wrong:
        raise RuntimeError(f"memory of the zygote is shared or executable: {wrong[0]}")
    if len(os.listdir("/proc/self/task")) != 1:  # noqa: PTH208 - only the number is needed
        raise RuntimeError("a thread runs in the zygote: forking it would copy its locks")


def main() -> None:
    """Loads the libraries, gives up rights, reports failed steps, and serves until the parent closes its end."""
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
    with contextlib.suppress(OSError):  # missing in some containers; the memory limit holds without it
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    gc.collect()
    gc.freeze()
    vm_bytes = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * mmap.PAGESIZE
    missing = lock_down(Filter(body[:zygote_bytes]))
    child_filter = b"" if "seccomp" in missing else body[zygote_bytes : zygote_bytes + child_bytes]
    control.send(json.dumps(missing).encode())
    serve(control, Warm(tools=tools, filter=Filter(child_filter), vm_bytes=vm_bytes))
    os._exit(0)  # a normal exit of the interpreter would make calls that are denied now
