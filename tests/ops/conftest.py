"""Checks under Triton's interpreter run in processes of their own, and are collected nowhere else."""

from __future__ import annotations

import os

collect_ignore = [] if os.environ.get("TRITON_INTERPRET") == "1" else ["interpreted"]
