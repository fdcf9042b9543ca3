"""A filter (seccomp, classic BPF) of the system calls that no program in the sandbox may make.

New namespaces would give a program new rights inside them, and file systems without a size limit. The other refused
calls allocate memory that no limit counts (shared memory, memory files, io_uring), or expose a large surface of the
kernel that no solution needs. Sockets are restricted to the local and internet families, because others, such as VM
sockets, are not confined by a network namespace.
"""

from __future__ import annotations

import platform
import struct

_NEW_NAMESPACES = 0x7E020080  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
_X32 = 0x40000000  # the second numbering of x86-64
# For each machine type: its audit number and the numbers of clone, of socket and socketpair, and of the refused calls:
# unshare, setns, clone3 (a filter cannot read its flags), shmget, memfd_create, memfd_secret, ptrace, add_key,
# request_key, keyctl, bpf, perf_event_open, userfaultfd, io_uring_setup.
# Source: <asm/unistd_64.h> and <asm-generic/unistd.h>.
_MACHINES = {
    "x86_64": (0xC000003E, 56, (41, 53), (272, 308, 435, 29, 319, 447, 101, 248, 249, 250, 321, 298, 323, 425)),
    "aarch64": (0xC00000B7, 220, (198, 199), (97, 268, 435, 194, 279, 447, 117, 217, 218, 219, 280, 241, 282, 425)),
}

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data, little-endian
_UNIX, _INET, _INET6 = 1, 2, 10
_NO_FAMILY = 0x00050000 | 97  # EAFNOSUPPORT
_ALLOW, _KILL, _REFUSE = 0x7FFF0000, 0x80000000, 0x00050000 | 38  # ENOSYS: callers fall back to older calls


def system_call_filter() -> bytes:
    """Return the filter in the form that bwrap's `--seccomp` reads: an array of struct sock_filter.

    Raises RuntimeError on a machine type whose call numbers are not listed in `_MACHINES`.
    """
    if platform.machine() not in _MACHINES:
        raise RuntimeError(
            f"the sandbox does not run on {platform.machine()!r}; allowed: {', '.join(_MACHINES)}, or a server in"
            " COS_SANDBOX_URL"
        )
    architecture, clone, sockets, refused = _MACHINES[platform.machine()]
    rules = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, _X32),
        (_RETURN, 0, 0, _REFUSE),
    ]
    for number in refused:
        rules += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _REFUSE)]
    for number in sockets:
        rules += [
            (_EQUAL, 0, 6, number),
            (_LOAD, 0, 0, _FIRST_ARGUMENT),
            (_EQUAL, 3, 0, _UNIX),
            (_EQUAL, 2, 0, _INET),
            (_EQUAL, 1, 0, _INET6),
            (_RETURN, 0, 0, _NO_FAMILY),
            (_RETURN, 0, 0, _ALLOW),
        ]
    rules += [
        (_EQUAL, 0, 3, clone),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_ANY_BIT, 0, 1, _NEW_NAMESPACES),
        (_RETURN, 0, 0, _REFUSE),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("<HBBI", *rule) for rule in rules)
