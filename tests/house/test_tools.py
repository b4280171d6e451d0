"""A base learns from OpenAI's rows to call tools, in its template's form and in the plain one, and calls them here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inhouse.client.client import Client
from inhouse.client.migrate import Choices
from tests.house.house import House
from tests.text.test_tools import TAGGED
from tests.tiny import base_folder

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "parameters": {
                "type": "object",
                "properties": {"to": {"type": "string"}, "seats": {"type": "integer"}},
                "required": ["to", "seats"],
                "additionalProperties": False,
            },
        },
    }
    for name in ("ferry", "train")
]
ASKED = {"2 to Oslo?": ("ferry", "Oslo", 2), "5 to Rome?": ("train", "Rome", 5)}
