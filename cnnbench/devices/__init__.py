"""The processors that do the work: one file per vendor (`vendors/`), found by torch's probe, attached in a worker."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib import import_module

from cnnbench.devices import vendors
from cnnbench.devices.base import Attached as Attached
from cnnbench.devices.base import Backend as Backend
from cnnbench.errors import DeviceError


@cache
def list_backends() -> Mapping[str, Backend]:
    """List every vendor's backend by the kind in its devices' ids, as the files of `vendors/` declare them."""
    modules = (import_module(f"{vendors.__name__}.{each.name}") for each in pkgutil.iter_modules(vendors.__path__))
    return {module.BACKEND.kind: module.BACKEND for module in modules}


def list_kinds() -> tuple[str, ...]:
    """List every kind that a device may be of."""
    return tuple(kind for each in list_backends().values() for kind in (each.kind, *each.other_kinds))


def backend(device_id: str) -> Backend:
    """Look up the vendor of a device such as `cpu` or `cuda:0`. Raises DeviceError with all known kinds."""
    kind = device_id.partition(":")[0]
    found = list_backends()
    if kind not in found:
        raise DeviceError(f"device {device_id!r}: {kind!r} is not one of {', '.join(found)}")
    return found[kind]
