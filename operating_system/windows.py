"""Calls of Windows that Python has no function for. Their failures are `OSError` or `AttributeError`."""

from __future__ import annotations

import ctypes
import functools
import sys

assert sys.platform == "win32"

_TERMINATE, _SET_QUOTA, _QUERY_LIMITED = 0x0001, 0x0100, 0x1000
"""Rights to a process."""
_EXTENDED_LIMITS = 9
_LIMIT_PROCESS_MEMORY, _DIE_ON_EXCEPTION, _KILL_ON_CLOSE = 0x0100, 0x0400, 0x2000


class MemoryStatus(ctypes.Structure):
    """MEMORYSTATUSEX."""

    _fields_ = (
        ("dwLength", ctypes.c_uint32),
        ("dwMemoryLoad", ctypes.c_uint32),
        ("ullTotalPhys", ctypes.c_uint64),
        ("ullAvailPhys", ctypes.c_uint64),
        ("page_file_and_virtual", ctypes.c_uint64 * 5),
    )


class MemoryCounters(ctypes.Structure):
    """PROCESS_MEMORY_COUNTERS."""

    _fields_ = (
        ("cb", ctypes.c_uint32),
        ("PageFaultCount", ctypes.c_uint32),
        ("working_set_and_quotas", ctypes.c_size_t * 6),
        ("PagefileUsage", ctypes.c_size_t),
        ("PeakPagefileUsage", ctypes.c_size_t),
    )


class JobLimits(ctypes.Structure):
    """JOBOBJECT_EXTENDED_LIMIT_INFORMATION."""

    _fields_ = (
        ("PerProcessUserTimeLimit", ctypes.c_int64),
        ("PerJobUserTimeLimit", ctypes.c_int64),
        ("LimitFlags", ctypes.c_uint32),
        ("working_set_sizes", ctypes.c_size_t * 2),
        ("ActiveProcessLimit", ctypes.c_uint32),
        ("Affinity", ctypes.c_size_t),
        ("PriorityClass", ctypes.c_uint32),
        ("SchedulingClass", ctypes.c_uint32),
        ("IoInfo", ctypes.c_uint64 * 6),
        ("ProcessMemoryLimit", ctypes.c_size_t),
        ("JobMemoryLimit", ctypes.c_size_t),
        ("peaks", ctypes.c_size_t * 2),
    )


def memory_bytes() -> tuple[int, int]:
    """The memory of the machine, and how much of it is available."""
    status = MemoryStatus(dwLength=ctypes.sizeof(MemoryStatus))
    _checked(_kernel().GlobalMemoryStatusEx(ctypes.byref(status)))
    return int(status.ullTotalPhys), int(status.ullAvailPhys)


def committed_bytes(process_id: int) -> int:
    """The committed memory of a process of this user."""
    handle = _process(process_id, _QUERY_LIMITED)
    try:
        counters = MemoryCounters(cb=ctypes.sizeof(MemoryCounters))
        _checked(_kernel().K32GetProcessMemoryInfo(handle, ctypes.byref(counters), counters.cb))
        return int(counters.PagefileUsage)
    finally:
        close(handle)


def bind_to_this_process(process_id: int, max_memory_bytes: int) -> ctypes.c_void_p:
    """Puts a child into a job: it cannot commit more memory than this, and ends with this process.

    Returns the handle of the job. `close` of it ends the child too.
    """
    kernel = _kernel()
    job = ctypes.c_void_p(_checked(kernel.CreateJobObjectW(None, None)))
    try:
        limits = JobLimits(
            LimitFlags=_LIMIT_PROCESS_MEMORY | _DIE_ON_EXCEPTION | _KILL_ON_CLOSE, ProcessMemoryLimit=max_memory_bytes
        )
        size = ctypes.c_uint32(ctypes.sizeof(limits))
        _checked(kernel.SetInformationJobObject(job, _EXTENDED_LIMITS, ctypes.byref(limits), size))
        process = _process(process_id, _TERMINATE | _SET_QUOTA)
        try:
            _checked(kernel.AssignProcessToJobObject(job, process))
        finally:
            close(process)
    except BaseException:
        close(job)
        raise
    return job


def close(handle: ctypes.c_void_p) -> None:
    """Closes a handle."""
    _kernel().CloseHandle(handle)


def _process(process_id: int, rights: int) -> ctypes.c_void_p:
    return ctypes.c_void_p(_checked(_kernel().OpenProcess(rights, False, process_id)))


@functools.cache
def _kernel() -> ctypes.WinDLL:
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    for name in ("CreateJobObjectW", "OpenProcess"):
        getattr(kernel, name).restype = ctypes.c_void_p
    return kernel


def _checked(result: int | None) -> int:
    if not result:
        raise ctypes.WinError(ctypes.get_last_error())
    return result
