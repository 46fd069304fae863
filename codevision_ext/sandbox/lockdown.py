"""Restricts the system calls of the zygote and of its children: the tables, and the code that enforces them.

There are two seccomp filters, both allow-lists. A call that isn't listed fails with EPERM, which honest code sees as a
PermissionError:

* `ZYGOTE_CALLS` applies before the first request. The zygote can open no file, start no program, and make no socket
  except an unnamed pair.
* `CHILD_CALLS` is added in every child before the model's code runs. The child can't fork, start threads, send signals,
  call prctl, change limits, make descriptors except copies, or make memory executable.

In addition there are Landlock (every kind of access is handled, none is allowed), no capabilities, an unprivileged user
where the process was started as root, no_new_privs, and not dumpable (others can't use ptrace or /proc/PID/mem).

Covered: files, network, System V and POSIX objects, other processes, this process's memory, other calls, new kernel
interfaces (io_uring, userfaultfd, bpf, perf, keyrings: not on the list). Not covered: faults in the kernel's own code
for allowed calls, and what shared caches and clocks reveal about other processes on the same core.

The parent compiles the filters (libseccomp through pyseccomp) and sends them to the zygote as bytes, so the zygote has
no compiler in its memory. Both sides import this module; the import needs only the standard library.
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
"""Rules of a call, one of which must hold; without rules the call is always allowed."""

LIBC = ctypes.PyDLL(None, use_errno=True)
NOBODY = 65534
"""User id and group id of `nobody`."""
MAX_FILES = 1024
"""Maximum descriptors of the zygote."""
CHILD_FILES = 64
"""Maximum descriptors of a child."""

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_GET_NO_NEW_PRIVS, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 39, 38
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
SECCOMP_MODE_FILTER = 2
CAPABILITIES_VERSION_3 = 0x20080522
CAP_SETGID, CAP_SETUID = 6, 7
LANDLOCK_CREATE_RULESET, LANDLOCK_RESTRICT_SELF = 444, 446
"""Numbers of the system calls, equal on every architecture."""
LANDLOCK_RIGHTS = {1: (13, 0, 0), 2: (14, 0, 0), 3: (15, 0, 0), 4: (15, 2, 0), 5: (16, 2, 0), 6: (16, 2, 2)}
"""Number of rights by version of Landlock: files, network, scopes (from include/uapi/linux/landlock.h)."""

WHOLE = 0xFFFF_FFFF
_NO_EXEC: Rules = ((2, 4, 0),)
"""Rule for memory protection without PROT_EXEC."""
_OWN_CLOCKS: Rules = ((0, WHOLE & ~0xF, 0),)
"""Rule for clocks of the machine and of this process; other numbers stand for clocks of other processes."""
_FORK: Rules = ((0, WHOLE & ~(0xFF | 0x0020_0000 | 0x0100_0000), 0),)
"""Rule for a clone that shares nothing and makes no namespace.

Allowed flags are a signal number, CLONE_CHILD_CLEARTID and CLONE_CHILD_SETTID."""


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
    "sched_getaffinity": ((0, WHOLE, 0),),  # of this process
    **dict.fromkeys(("clock_gettime", "clock_getres", "clock_nanosleep"), _OWN_CLOCKS),
}
"""System calls that the model's code may use, with the rules for their arguments."""

ZYGOTE_CALLS: dict[str, Rules] = {
    **CHILD_CALLS,
    **_always("recvmsg sendmsg sendto getsockname getsockopt fork wait4 waitid pidfd_open pidfd_send_signal"),
    **_always("setrlimit prlimit64 set_robust_list rseq"),
    "clone": _FORK,
    "socketpair": ((0, WHOLE, socket.AF_UNIX),),
    "prctl": _one_of(0, PR_SET_PDEATHSIG, PR_SET_SECCOMP),
}
"""System calls that the zygote may use: also to receive descriptors, fork, watch and kill its children, and report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Primitive:
    """A feature that the kernel or the machine must offer."""

    name: str
    missing: str
    """Reason why it is missing; empty if it is there."""
    remedy: str
    """Advice where it is missing."""
    required: bool = True
    """True: `strict` requires it. False: results record it, and the sandbox is `strict` without it."""

    @property
    def present(self) -> bool:
        return not self.missing


# ------------------------------------------------------------------------------------------------ in the parent


@functools.cache
def compile_filters() -> tuple[bytes, bytes]:
    """Compiles the filters of the zygote and of the children to BPF programs for this machine.

    Raises:
        OSError: libseccomp isn't installed, is too old, or refuses a rule.
    """
    try:
        import pyseccomp  # noqa: PLC0415 - raises when the C library is missing, which must not end the parent
    except (ImportError, RuntimeError) as error:
        raise OSError(errno.ENOSYS, f"{error}") from error

    def program(calls: dict[str, Rules]) -> bytes:
        compiler = pyseccomp.SyscallFilter(pyseccomp.ERRNO(errno.EPERM))
        compiler.set_attr(pyseccomp.Attr.ACT_BADARCH, pyseccomp.KILL_PROCESS)
        compiler.set_attr(pyseccomp.Attr.CTL_OPTIMIZE, 2)  # a binary tree
        for name, rules in calls.items():
            number = pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name)
            if number == -1:
                raise OSError(errno.ENOSYS, f"libseccomp is too old: it doesn't know {name}")
            if number < 0:  # not a call of this architecture (dup2, time, ... on arm64)
                continue
            for argument, mask, value in rules:
                compiler.add_rule(pyseccomp.ALLOW, number, pyseccomp.Arg(argument, pyseccomp.MASKED_EQ, mask, value))
            if not rules:
                compiler.add_rule(pyseccomp.ALLOW, number)
        with tempfile.TemporaryFile() as file:
            compiler.export_bpf(file)
            file.seek(0)
            return file.read()

    return program(ZYGOTE_CALLS), program(CHILD_CALLS)


def primitives() -> list[Primitive]:
    """Returns the features that the sandbox needs, and which are missing here; changes nothing of this process."""
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


def _probe_seccomp() -> None:
    """Installs a filter at address 0: EFAULT means that the kernel would have read it."""
    if LIBC.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, 0, 0, 0) != 0 and ctypes.get_errno() != errno.EFAULT:
        raise OSError(ctypes.get_errno(), "the kernel takes no seccomp filter")


def _probe_user() -> None:
    """Raises OSError if this process is root and can't become another user."""
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
    """Returns the ABI version of the kernel's Landlock. Raises OSError if there is none."""
    return _check(LIBC.syscall(LANDLOCK_CREATE_RULESET, None, 0, 1))


PRIMITIVES: dict[str, tuple[Callable[[], object], str, bool]] = {
    "memfd": (_probe_memfd, "use Linux 3.17 or newer", True),
    "pidfd": (_probe_pidfd, "use Linux 5.3 or newer (gVisor has none)", True),
    "no_new_privs": (lambda: _check(LIBC.prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)), "use Linux 3.5 or newer", True),
    "seccomp": (_probe_seccomp, "use a kernel with CONFIG_SECCOMP_FILTER, and a container that lets it through", True),
    "libseccomp": (compile_filters, "install libseccomp2 (apt-get install libseccomp2) and pyseccomp", True),
    "unprivileged user": (_probe_user, "run as an ordinary user, or as root with the capability setuid", True),
    "landlock": (landlock_version, "use Linux 5.13 or newer with landlock among its LSMs (lsm=landlock,...)", False),
}
"""Features by name: the probe, the advice where it is missing, and whether `strict` requires it."""


# ------------------------------------------------------------------------------------------------ in the zygote


class Filter:
    """A compiled seccomp filter for this process."""

    def __init__(self, program: bytes) -> None:
        self._code = ctypes.create_string_buffer(program, len(program))

        class _Program(ctypes.Structure):  # struct sock_fprog
            _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))

        self._program = _Program(len(program) // 8, ctypes.addressof(self._code))

    def install(self) -> None:
        """Installs the filter. Raises OSError when the kernel refuses it."""
        if self._program.length:
            _check(LIBC.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(self._program), 0, 0))


def lock_down(zygote_filter: Filter) -> dict[str, str]:
    """Gives up the rights that the zygote no longer needs; returns the steps that failed, with their reasons."""
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
    """Becomes `nobody` if the user is root, drops all capabilities, and forbids others to inspect this process."""
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    LIBC.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(CAPABILITIES_VERSION_3, 0)
    _check(LIBC.capset(header, (ctypes.c_uint32 * 6)()))
    _check(LIBC.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))


def _shut_files() -> None:
    """Makes Landlock handle every right that this kernel knows, and grants none."""
    known = LANDLOCK_RIGHTS[min(landlock_version(), max(LANDLOCK_RIGHTS))]
    ruleset = (ctypes.c_uint64 * 3)(*((1 << count) - 1 for count in known))
    size = 8 * max(1, sum(count > 0 for count in known))
    fd = _check(LIBC.syscall(LANDLOCK_CREATE_RULESET, ruleset, size, 0))
    try:
        _check(LIBC.syscall(LANDLOCK_RESTRICT_SELF, fd, 0))
    finally:
        os.close(fd)


def shared_or_executable(maps: str) -> list[str]:
    """Returns the lines of /proc/self/maps for memory that is writable and also shared or executable."""
    lines = (line for line in maps.splitlines() if " " in line)
    return [line for line in lines if (mode := line.split()[1])[1] == "w" and (mode[3] == "s" or mode[2] == "x")]


def _check(returned: int) -> int:
    if returned < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return returned
