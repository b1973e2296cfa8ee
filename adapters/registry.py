"""The methods, by name."""

from __future__ import annotations

from sdc.adapters import datm, dc, dm, dsa, dsac, ftd, mtt, tesla
from sdc.adapters.base import Adapter

ADAPTERS: dict[str, Adapter] = {
    "dc": dc.ADAPTER,
    "dm": dm.ADAPTER,
    "dsa": dsa.ADAPTER,
    "dsac": dsac.ADAPTER,
    "mtt": mtt.ADAPTER,
    "ftd": ftd.ADAPTER,
    "tesla": tesla.ADAPTER,
    "datm": datm.ADAPTER,
}
