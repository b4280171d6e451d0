"""Numbers in queries and forms are checked whole."""

from __future__ import annotations

import pytest

from inhouse.errors import InvalidRequest
from inhouse.server.openai import files
from inhouse.server.openai.listing import piece, whole_number

LONG = ("0000000011000000", "00000000199999999999999999999", "000000001" + "9" * 5000, "1" * 5000)


@pytest.mark.parametrize("said", [*LONG, "", "-1", "+1", "1.0", "1e1", " 1", "1_0", "²", "٣", "101", "0"])
def test_what_is_no_number_within_the_bounds_is_refused_by_name(said: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        whole_number("limit", said, 1, 100)
    assert caught.value.param == "limit" and "from 1 to 100" in caught.value.message
    with pytest.raises(InvalidRequest):
        piece({"limit": said})


@pytest.mark.parametrize(("said", "number"), [("1", 1), ("007", 7), ("100", 100)])
def test_a_number_is_what_it_says(said: str, number: int) -> None:
    assert whole_number("limit", said, 1, 100) == number
    assert piece({"limit": said}).limit == number


def test_a_file_s_time_is_checked_whole() -> None:
    def kept(seconds: str) -> int | None:
        return files._expiry({"expires_after[anchor]": "created_at", "expires_after[seconds]": seconds})

    assert kept("3600") == 3600 and kept("2592000") == 2_592_000
    for seconds in ("000003600999999", "2592001", "3599", "9" * 5000):
        with pytest.raises(InvalidRequest) as caught:
            kept(seconds)
        assert caught.value.param == "expires_after[seconds]"
