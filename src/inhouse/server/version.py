"""Which release this is, read from the installed package: the package's root belongs to the client."""

from importlib.metadata import version

VERSION = version("inhouse")
