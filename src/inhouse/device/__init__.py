"""What hardware is here and what it can do. The only package, with `ops`, that names a vendor."""

from inhouse.device.device import Capabilities, Device, Discovery, cpu_flags, describe, discover, memory, pick
from inhouse.device.faults import DeviceLost, is_lost
from inhouse.device.graphs import Capture, Captured, Graphs, Plain
from inhouse.device.peak import matrix_peak

__all__ = [
    "Capabilities",
    "Capture",
    "Captured",
    "Device",
    "DeviceLost",
    "Discovery",
    "Graphs",
    "Plain",
    "cpu_flags",
    "describe",
    "discover",
    "is_lost",
    "matrix_peak",
    "memory",
    "pick",
]
