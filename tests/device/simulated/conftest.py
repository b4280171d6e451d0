"""For processes with a simulated accelerator: run by tests/device/test_simulated.py."""

from tests.device.simulated import accelerator

accelerator.install()
