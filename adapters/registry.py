"""The methods, by name."""

from __future__ import annotations

from adapters import dc, dm, dsa
from adapters.base import Adapter

ADAPTERS: dict[str, Adapter] = {
    "dc": dc.ADAPTER,
    "dm": dm.ADAPTER,
    "dsa": dsa.ADAPTER,
}
