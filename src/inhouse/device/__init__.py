"""What hardware is here and what it can do. The only package, with `ops`, that names a vendor."""

from inhouse.device.device import Capabilities, Device, Discovery, cpu_flags, describe, discover, memory, pick
from inhouse.device.graphs import Captured, Graphs, graphs_of
from inhouse.device.peak import matrix_peak

__all__ = [
    "Capabilities",
    "Captured",
    "Device",
    "Discovery",
    "Graphs",
    "cpu_flags",
    "describe",
    "discover",
    "graphs_of",
    "matrix_peak",
    "memory",
    "pick",
]
