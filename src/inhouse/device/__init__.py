"""What hardware is here and what it can do. The only package, with `ops`, that names a vendor."""

from inhouse.device.device import Capabilities, Device, Discovery, cpu_flags, discover, pick
from inhouse.device.peak import matrix_peak

__all__ = ["Capabilities", "Device", "Discovery", "cpu_flags", "discover", "matrix_peak", "pick"]
