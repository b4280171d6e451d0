"""What was used, summed from the rows that each request left: by time, project, key and model. For admins.

It knows sums. There are no costs: this server knows no price.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from inhouse.errors import InvalidRequest, UnsupportedParameter
from inhouse.server import body, gateway
from inhouse.server.openai.listing import listed, whole_number
from inhouse.server.replies import Json
from inhouse.store.records import usage
from inhouse.store.records.usage import By, Kind, UsageGroup, Wanted

router = APIRouter(prefix="/v1/organization/usage")


@dataclass(frozen=True, slots=True)
class Width:
    """A stretch of time that is summed, and how many of them a page holds."""

    seconds: int
    usual: int
    most: int


WIDTHS = {"1m": Width(60, 60, 1440), "1h": Width(3600, 24, 168), "1d": Width(86400, 7, 31)}
"""As OpenAI has them."""
GROUPS: dict[str, By] = {"project_id": "project", "api_key_id": "key", "model": "model"}
_LATEST = 2**53


@router.get("/completions", response_model=None)
async def completions(request: Request) -> Response:
    """Tokens of everything that was generated."""
    return await _page(request, "completions")


@router.get("/embeddings", response_model=None)
async def embeddings(request: Request) -> Response:
    """Tokens of texts that were embedded."""
    return await _page(request, "embeddings")


async def _page(request: Request, kind: Kind) -> Response:
    many = ("project_ids", "api_key_ids", "models", "group_by")
    asked = body.query(
        request,
        ("start_time", "end_time", "bucket_width", "limit", "page", *many, *(f"{name}[]" for name in many)),
    )
    width = WIDTHS.get(asked.get("bucket_width", "1d"))
    if width is None:
        raise InvalidRequest(f"bucket_width must be one of {', '.join(WIDTHS)}.", param="bucket_width")
    if "start_time" not in asked:
        raise InvalidRequest(
            "start_time is required: Unix seconds.", param="start_time", code="missing_required_parameter"
        )
    since = _number(asked, "start_time", 0, _LATEST)
    until = _number(asked, "end_time", int(time.time()) + 1, _LATEST)
    limit = _number(asked, "limit", width.usual, width.most)
    first = _number(asked, "page", since, _LATEST) // width.seconds
    last = -(-until // width.seconds)
    by = [_group(name) for name in listed(request, "group_by")]
    wanted = Wanted(
        projects=listed(request, "project_ids"),
        keys=listed(request, "api_key_ids"),
        models=listed(request, "models"),
        kind=kind,
    )
    buckets = range(first, max(first, min(last, first + limit)))
    begin, end = max(since, first * width.seconds), min(until, buckets.stop * width.seconds)
    gw = gateway.of(request)
    await gw.usage.flush()
    found = await gw.store.read(
        lambda conn: usage.grouped(conn, wanted, since=begin, until=end, width_s=width.seconds, by=by)
    )
    has_more = buckets.stop < last
    return Json(
        {
            "object": "page",
            "data": list(_buckets(buckets, width.seconds, found, kind)),
            "has_more": has_more,
            "next_page": str(buckets.stop * width.seconds) if has_more else None,
        }
    )


def _buckets(numbers: range, width_s: int, found: list[UsageGroup], kind: Kind) -> Iterator[dict[str, Any]]:
    for number in numbers:
        start = number * width_s
        yield {
            "object": "bucket",
            "start_time": start,
            "end_time": start + width_s,
            "results": [_result(group, kind) for group in found if group.start == start],
        }


def _result(group: UsageGroup, kind: Kind) -> dict[str, Any]:
    told: dict[str, Any] = {
        "object": f"organization.usage.{kind}.result",
        "input_tokens": group.prompt_tokens,
        "num_model_requests": group.requests,
        "project_id": group.project,
        "user_id": None,
        "api_key_id": group.key,
        "model": group.model,
    }
    if kind == "completions":
        told |= {
            "output_tokens": group.completion_tokens,
            "input_cached_tokens": group.cached_tokens,
            "batch": None,
            "service_tier": None,
        }
    return told


def _group(name: str) -> By:
    if name not in GROUPS:
        raise UnsupportedParameter(
            f"group_by: this server groups by {', '.join(GROUPS)}, not by {name!r}.", param="group_by"
        )
    return GROUPS[name]


def _number(asked: dict[str, str], name: str, usual: int, most: int) -> int:
    said = asked.get(name)
    if said is None:
        return usual
    return whole_number(name, said, 1 if name == "limit" else 0, most)
