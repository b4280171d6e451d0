"""The `inhouse` command: verbs over the client, and words for people.

It knows terminals, and holds no logic of its own: what it does, Python can do in as many words.
"""

from inhouse.cli.commands import app, main

__all__ = ["app", "main"]
