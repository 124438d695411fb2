"""Calls of macOS that Python has no function for. Their failures are `OSError` or `AttributeError`."""

from __future__ import annotations

import ctypes
import sys

assert sys.platform == "darwin"

_PROC_PIDTASKINFO = 4


def resident_bytes(process_id: int) -> int:
    """`proc_pidinfo` of libproc.h: the second field of `proc_taskinfo` is the resident size."""
    fields = (ctypes.c_uint64 * 12)()
    function = ctypes.CDLL("/usr/lib/libproc.dylib").proc_pidinfo
    function.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_uint64, ctypes.c_void_p, ctypes.c_int)
    if function(process_id, _PROC_PIDTASKINFO, 0, fields, ctypes.sizeof(fields)) <= 0:
        raise ProcessLookupError(process_id)
    return fields[1]
