"""Refuses connections that leave this machine, here and in every Python that the tests start."""
