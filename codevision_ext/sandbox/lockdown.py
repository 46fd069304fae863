"""What may the zygote, and what may a child, still ask of the kernel? The tables, and the code that enforces them.

Two seccomp filters, both allow-lists; what isn't listed fails with EPERM, which honest code sees as a PermissionError:

* `ZYGOTE_CALLS` holds from before the first request: no file can be opened, no program started, no socket made but an
  unnamed pair.
* `CHILD_CALLS` is laid over it in every child before the model's code runs: no fork, thread, signal, prctl, limit, no
  new descriptor but copies, no memory that can be executed.

Around them: Landlock that handles every access and allows none, no capabilities, an unprivileged user when started as
root, no_new_privs, not dumpable (no ptrace, no /proc/PID/mem by others).
Covered: files, network, System V and POSIX objects, other processes, this process's memory, other calls, new kernel
interfaces (io_uring, userfaultfd, bpf, perf, keyrings: not on the list). Not covered: faults in the kernel behind the
calls that are allowed, and what shared caches and clocks tell about other processes on the same core.

The filters are compiled here in the parent (libseccomp through pyseccomp) and sent to the zygote as bytes: its memory
holds no compiler for them. This module is imported on both sides and needs nothing but the standard library for it.
"""

import ctypes
import errno
import functools
import os
import resource
import signal
import socket
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Rule = tuple[int, int, int]
"""Argument number, mask, value: the call is allowed when `argument & mask == value`."""
Rules = tuple[Rule, ...]

LIBC = ctypes.PyDLL(None, use_errno=True)
NOBODY = 65534
MAX_FILES = 1024
"""Descriptors of the zygote; a child gets `CHILD_FILES`."""
CHILD_FILES = 64

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_GET_NO_NEW_PRIVS, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 39, 38
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
SECCOMP_MODE_FILTER = 2
CAPABILITIES_VERSION_3 = 0x20080522
CAP_SETGID, CAP_SETUID = 6, 7
LANDLOCK_CREATE_RULESET, LANDLOCK_RESTRICT_SELF = 444, 446
"""The same numbers on every architecture."""
LANDLOCK_RIGHTS = {1: (13, 0, 0), 2: (14, 0, 0), 3: (15, 0, 0), 4: (15, 2, 0), 5: (16, 2, 0), 6: (16, 2, 2)}
"""How many rights each version of Landlock knows: files, network, scopes (from include/uapi/linux/landlock.h)."""

WHOLE = 0xFFFF_FFFF
_NO_EXEC: Rules = ((2, 4, 0),)
"""Protection without PROT_EXEC."""
_OWN_CLOCKS: Rules = ((0, WHOLE & ~0xF, 0),)
"""The machine's time and what this process used; any other number names another process by its id."""
_FORK: Rules = ((0, WHOLE & ~(0xFF | 0x0020_0000 | 0x0100_0000), 0),)
"""Nothing shared and no new namespace: a signal number, CLONE_CHILD_CLEARTID, CLONE_CHILD_SETTID."""


def _always(names: str) -> dict[str, Rules]:
    return dict.fromkeys(names.split(), ())


def _one_of(argument: int, *values: int) -> Rules:
    return tuple((argument, WHOLE, value) for value in values)


CHILD_CALLS: dict[str, Rules] = {
    **_always("read write close close_range lseek fstat dup dup2 dup3 getcwd"),
    **_always("munmap mremap brk futex getrandom"),
    **_always("rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack restart_syscall exit exit_group"),
    **_always("nanosleep gettimeofday time times getrusage"),
    **_always("poll ppoll select pselect6 sched_yield getpid gettid getuid geteuid getgid getegid"),
    "mmap": _NO_EXEC,
    "mprotect": _NO_EXEC,
    "madvise": _one_of(2, 0, 3, 4, 8, 14, 15),  # normal, willneed, dontneed, free, (no)hugepage
    "fcntl": _one_of(1, 0, 1, 2, 3, 1030),  # dupfd, getfd, setfd, getfl, dupfd_cloexec
    "sched_getaffinity": ((0, WHOLE, 0),),  # its own
    **dict.fromkeys(("clock_gettime", "clock_getres", "clock_nanosleep"), _OWN_CLOCKS),
}
"""What the model's code may ask for; where a call has rules, one of them must hold for its arguments."""

ZYGOTE_CALLS: dict[str, Rules] = {
    **CHILD_CALLS,
    **_always("recvmsg sendmsg sendto getsockname getsockopt fork wait4 waitid pidfd_open pidfd_send_signal"),
    **_always("setrlimit prlimit64 set_robust_list rseq"),
    "clone": _FORK,
    "socketpair": ((0, WHOLE, socket.AF_UNIX),),
    "prctl": _one_of(0, PR_SET_PDEATHSIG, PR_SET_SECCOMP),
}
"""What the zygote itself needs to serve: receive descriptors, fork, watch, kill its children and report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Primitive:
    """Something the kernel or the machine must offer; `missing` says why it isn't there, empty when it is."""

    name: str
    missing: str
    remedy: str
    required: bool = True
    """False: recorded, and the sandbox is still `strict` without it."""

    @property
    def present(self) -> bool:
        return not self.missing


# ------------------------------------------------------------------------------------------------ in the parent


@functools.cache
def compile_filters() -> tuple[bytes, bytes]:
    """The zygote's and the children's filter as BPF programs for this machine.

    Raises:
        OSError: libseccomp isn't installed, is too old, or doesn't take a rule.
    """
    try:
        import pyseccomp  # noqa: PLC0415 - raises when the C library is missing, which must not end the parent
    except (ImportError, RuntimeError) as error:
        raise OSError(errno.ENOSYS, f"{error}") from error

    def program(calls: dict[str, Rules]) -> bytes:
        made = pyseccomp.SyscallFilter(pyseccomp.ERRNO(errno.EPERM))
        made.set_attr(pyseccomp.Attr.ACT_BADARCH, pyseccomp.KILL_PROCESS)
        made.set_attr(pyseccomp.Attr.CTL_OPTIMIZE, 2)  # a binary tree
        for name, rules in calls.items():
            number = pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name)
            if number == -1:
                raise OSError(errno.ENOSYS, f"libseccomp is too old: it doesn't know {name}")
            if number < 0:  # known, but not a call of this architecture (dup2, time, ... on arm64)
                continue
            for argument, mask, value in rules:
                made.add_rule(pyseccomp.ALLOW, number, pyseccomp.Arg(argument, pyseccomp.MASKED_EQ, mask, value))
            if not rules:
                made.add_rule(pyseccomp.ALLOW, number)
        with tempfile.TemporaryFile() as file:
            made.export_bpf(file)
            file.seek(0)
            return file.read()

    return program(ZYGOTE_CALLS), program(CHILD_CALLS)


def primitives() -> list[Primitive]:
    """What this machine has of what the sandbox needs; nothing of this process is changed by asking."""
    return [
        Primitive(name=name, missing=_why_not(probe), remedy=remedy, required=required)
        for name, (probe, remedy, required) in PRIMITIVES.items()
    ]


def _why_not(probe: Callable[[], object]) -> str:
    try:
        probe()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _probe_memfd() -> None:
    os.close(os.memfd_create("probe", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))


def _probe_pidfd() -> None:
    pidfd = os.pidfd_open(os.getpid())
    try:
        signal.pidfd_send_signal(pidfd, 0)
    finally:
        os.close(pidfd)


def _probe_no_new_privs() -> None:
    _check(LIBC.prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0))


def _probe_seccomp() -> None:
    """A filter at address 0: EFAULT says that the kernel would have read it."""
    if LIBC.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, 0, 0, 0) != 0 and ctypes.get_errno() != errno.EFAULT:
        raise OSError(ctypes.get_errno(), "the kernel takes no seccomp filter")


def _probe_user() -> None:
    """As root: may this process become another user?"""
    if os.geteuid() != 0:
        return
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines())
    effective = int(status["CapEff"], 16)
    if not (effective >> CAP_SETUID & 1 and effective >> CAP_SETGID & 1):
        raise OSError(errno.EPERM, "root without the capabilities setuid and setgid")
    ranges = [list(map(int, line.split())) for line in Path("/proc/self/uid_map").read_text("ascii").splitlines()]
    if not any(first <= NOBODY < first + count for first, _, count in ranges):
        raise OSError(errno.EINVAL, f"user {NOBODY} doesn't exist in this user namespace")


def landlock_version() -> int:
    """The ABI version of the kernel's Landlock. Raises OSError where there is none."""
    return _check(LIBC.syscall(LANDLOCK_CREATE_RULESET, None, 0, 1))


PRIMITIVES: dict[str, tuple[Callable[[], object], str, bool]] = {
    "memfd": (_probe_memfd, "use Linux 3.17 or newer", True),
    "pidfd": (_probe_pidfd, "use Linux 5.3 or newer (gVisor has none)", True),
    "no_new_privs": (_probe_no_new_privs, "use Linux 3.5 or newer", True),
    "seccomp": (_probe_seccomp, "use a kernel with CONFIG_SECCOMP_FILTER, and a container that lets it through", True),
    "libseccomp": (compile_filters, "install libseccomp2 (apt-get install libseccomp2) and pyseccomp", True),
    "unprivileged user": (_probe_user, "run as an ordinary user, or as root with the capability setuid", True),
    "landlock": (landlock_version, "use Linux 5.13 or newer with landlock among its LSMs (lsm=landlock,...)", False),
}
"""Name: how to ask for it, what to do where it is missing, and whether `strict` requires it."""


# ------------------------------------------------------------------------------------------------ in the zygote


class Filter:
    """A compiled seccomp filter, ready to be laid over this process with one call."""

    def __init__(self, program: bytes) -> None:
        self._code = ctypes.create_string_buffer(program, len(program))

        class _Program(ctypes.Structure):  # struct sock_fprog
            _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))

        self._program = _Program(len(program) // 8, ctypes.addressof(self._code))

    def install(self) -> None:
        """Raises OSError when the kernel doesn't take it."""
        if self._program.length:
            _check(LIBC.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(self._program), 0, 0))


def lock_down(zygote_filter: Filter) -> dict[str, str]:
    """Give up, in order, what the zygote no longer needs; returns the primitives that failed, and why."""
    steps: tuple[tuple[str, Callable[[], object]], ...] = (
        ("unprivileged user", _drop_user),
        ("no_new_privs", lambda: _check(LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))),
        ("landlock", _shut_files),
        ("seccomp", zygote_filter.install),
    )
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    files = min(MAX_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    return {name: why for name, step in steps if (why := _why_not(step))}


def _drop_user() -> None:
    """Root becomes nobody; whatever capabilities were left or inherited go; nobody may look into this process."""
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    LIBC.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(CAPABILITIES_VERSION_3, 0)
    _check(LIBC.capset(header, (ctypes.c_uint32 * 6)()))
    _check(LIBC.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))


def _shut_files() -> None:
    """Landlock: handle every right that this kernel knows, and grant none."""
    known = LANDLOCK_RIGHTS[min(landlock_version(), max(LANDLOCK_RIGHTS))]
    ruleset = (ctypes.c_uint64 * 3)(*((1 << count) - 1 for count in known))
    size = 8 * max(1, sum(count > 0 for count in known))
    fd = _check(LIBC.syscall(LANDLOCK_CREATE_RULESET, ruleset, size, 0))
    try:
        _check(LIBC.syscall(LANDLOCK_RESTRICT_SELF, fd, 0))
    finally:
        os.close(fd)


def shared_or_executable(maps: str) -> list[str]:
    """Lines of /proc/self/maps that must not be there: writable and shared with others, or writable and executable."""
    lines = (line for line in maps.splitlines() if " " in line)
    return [line for line in lines if (mode := line.split()[1])[1] == "w" and (mode[3] == "s" or mode[2] == "x")]


def _check(returned: int) -> int:
    if returned < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return returned
