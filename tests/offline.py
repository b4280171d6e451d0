"""Runs a command where there is no network but loopback: `unshare -rn python -m tests.offline COMMAND ...`; root: `-n`.

It only sets loopback up, which a fresh namespace has down, and shows that nothing else is there.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import sys

SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1


def main(command: list[str]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        asked = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(any_socket, SIOCGIFFLAGS, asked))[1]
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | IFF_UP))
    there = [name for _, name in socket.if_nameindex()]
    if there != ["lo"]:
        sys.exit(f"This is no namespace of its own: it has {', '.join(there)}. Use unshare -rn.")
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
