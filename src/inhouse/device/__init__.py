"""What hardware is here and what it can do. The only package, with `ops`, that names a vendor."""

from inhouse.device.device import Capabilities, Device, Discovery, discover, pick

__all__ = ["Capabilities", "Device", "Discovery", "discover", "pick"]
