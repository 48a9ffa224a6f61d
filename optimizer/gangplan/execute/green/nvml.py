"""NVIDIA's management library (NVML), by ctypes: the few calls that hold a cap. Source: NVML API reference.

A limit is of a physical GPU, in watts here. MIG instances of one GPU share it.
"""

from __future__ import annotations

import ctypes
from types import TracebackType
from typing import Any

from gangplan.errors import ForbiddenError, GangplanError, RejectedError, UnavailableError, UnsupportedError

LIBRARY = "libnvidia-ml.so.1"
_INVALID, _NOT_SUPPORTED, _NO_PERMISSION = 2, 3, 4
_REMEDIES: dict[int, tuple[type[GangplanError], str]] = {
    _INVALID: (RejectedError, "outside what this GPU allows: see `nvidia-smi -q -d POWER,SUPPORTED_CLOCKS`"),
    _NOT_SUPPORTED: (UnsupportedError, "this GPU, or its virtualisation, does not let itself be limited: leave it out"),
    _NO_PERMISSION: (ForbiddenError, "needs root and CAP_SYS_ADMIN, as the shipped DaemonSet has them"),
}
_NAME_BYTES = 96  # NVML_DEVICE_UUID_V2_BUFFER_SIZE


class Gpu:
    """A physical GPU: its UUID, and the least, the most and the default of its power limit, in watts."""

    def __init__(self, nvml: Nvml, handle: ctypes.c_void_p) -> None:
        self._nvml, self._handle = nvml, handle
        name = ctypes.create_string_buffer(_NAME_BYTES)
        nvml.call("nvmlDeviceGetUUID", handle, name, ctypes.c_uint(_NAME_BYTES))
        self.uuid = name.value.decode()
        least, most = ctypes.c_uint(), ctypes.c_uint()
        nvml.call("nvmlDeviceGetPowerManagementLimitConstraints", handle, ctypes.byref(least), ctypes.byref(most))
        self.least, self.most = -(-least.value // 1000), most.value // 1000
        self.default = self._watts("nvmlDeviceGetPowerManagementDefaultLimit")

    @property
    def limit(self) -> int:
        """The limit that holds now."""
        return self._watts("nvmlDeviceGetPowerManagementLimit")

    @property
    def draw(self) -> int:
        """What it draws now."""
        return self._watts("nvmlDeviceGetPowerUsage")

    def set_limit(self, watts: int) -> None:
        """Set the limit."""
        self._nvml.call("nvmlDeviceSetPowerManagementLimit", self._handle, ctypes.c_uint(watts * 1000))

    def lock_clock(self, mhz: int) -> None:
        """Let the GPU's clock go no higher."""
        self._nvml.call("nvmlDeviceSetGpuLockedClocks", self._handle, ctypes.c_uint(0), ctypes.c_uint(mhz))

    def free_clock(self) -> None:
        """Let the GPU choose its clock."""
        self._nvml.call("nvmlDeviceResetGpuLockedClocks", self._handle)

    def _watts(self, function: str) -> int:
        value = ctypes.c_uint()
        self._nvml.call(function, self._handle, ctypes.byref(value))
        return round(value.value / 1000)


class Nvml:
    """The library, loaded and initialised.

    Raises
    ------
    UnavailableError
        There is no library, or no driver.
    """

    def __init__(self, library: str = LIBRARY) -> None:
        try:
            self._library: Any = ctypes.CDLL(library)
        except OSError as error:
            remedy = "run it on a node with NVIDIA's driver, in a container with its `utility` libraries"
            raise UnavailableError(f"NVML: {error}: {remedy}") from None
        self._library.nvmlErrorString.restype = ctypes.c_char_p
        self.call("nvmlInit_v2")

    def __enter__(self) -> Nvml:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._library.nvmlShutdown()

    def gpus(self) -> list[Gpu]:
        """Return the node's GPUs."""
        count = ctypes.c_uint()
        self.call("nvmlDeviceGetCount_v2", ctypes.byref(count))
        return [self._gpu(index) for index in range(count.value)]

    def _gpu(self, index: int) -> Gpu:
        handle = ctypes.c_void_p()
        self.call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(handle))
        return Gpu(self, handle)

    def call(self, function: str, *arguments: Any) -> None:
        """Call a function; what it refuses is an error with NVML's words and a remedy."""
        status: int = getattr(self._library, function)(*arguments)
        if status:
            words = self._library.nvmlErrorString(status).decode()
            kind, remedy = _REMEDIES.get(status, (UnavailableError, "see the driver's log (dmesg)"))
            raise kind(f"NVML: {function}: {words}: {remedy}")
