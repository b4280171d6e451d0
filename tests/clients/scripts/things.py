"""What scripts ask models to fill in, as pydantic's models. Short: a small model, once begun, writes on and on."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field


class Person(BaseModel):
    """Somebody who works at the harbour."""

    name: Literal["Ines", "Olaf"]
    floor: int = Field(ge=0, le=9)


class Weather(BaseModel):
    """The weather of a city."""

    city: Literal["Lund", "Oslo"]
