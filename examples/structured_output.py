"""Replies that a program can read: a pydantic model, a choice, and a tool call. Needs: pip install openai

INHOUSE_URL and INHOUSE_API_KEY name a server; without them one is started on this machine.
"""

import json
from enum import Enum
from typing import Any

from openai import OpenAI, pydantic_function_tool
from pydantic import BaseModel, Field

from inhouse import Client


class Priority(Enum):
    LOW = "low"
    HIGH = "high"


class Ticket(BaseModel):
    title: str = Field(max_length=40)
    priority: Priority
    days: int = Field(ge=0, le=30)


class SendMail(BaseModel):
    """Sends a mail."""

    to: str = Field(max_length=30)
    ticket: Ticket


here = Client()
client = OpenAI(base_url=f"{here.url}/v1", api_key=here.api_key)
asked: Any = [{"role": "user", "content": "The printer on floor 3 is broken, and payroll runs tomorrow."}]

reply = client.chat.completions.parse(model="seedling", messages=asked, response_format=Ticket, temperature=0)
ticket = reply.choices[0].message.parsed
assert ticket is not None
print(ticket.model_dump_json())

chosen = client.chat.completions.create(
    model="seedling",
    messages=asked,
    temperature=0,
    extra_body={"structured_outputs": {"choice": ["hardware", "software", "people"]}},
)
print(chosen.choices[0].message.content)

called = client.chat.completions.parse(
    model="seedling",
    messages=asked,
    tools=[pydantic_function_tool(SendMail)],
    tool_choice="required",
    parallel_tool_calls=False,
    temperature=0,
)
for call in called.choices[0].message.tool_calls or ():
    print(call.function.name, json.dumps(json.loads(call.function.arguments)))
