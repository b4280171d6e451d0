"""A plugin for processes with a simulated accelerator: named by tests/device/test_simulated.py."""

from tests.device.simulated import accelerator

accelerator.install()
