"""An engine at its socket and nothing behind it: speaks the frames, makes words by rule. Run as a process.

The last message (or the prompt) says what to do:
    count N DELAY      the words "0 ", "1 ", ... with a pause before each
    clock N DELAY      as count, but each word is the time at which it leaves
    flood N SIZE       N deltas of SIZE characters, as fast as they are taken
    fault STATUS CODE  an error
    crash N            N words, then the connection ends without a last frame
    vanish             ends the connection at once, the first time it is asked; echoes the second time
    wrong adapter      answers as if with another adapter
    use                answers with what it was told of the memory, as JSON
    recall KIND ID...  decides as KIND, citing these facts (a request with a memory; others are decided "none")
    silent             says nothing of the memory
    messages           answers with the conversation it was given, as JSON
    call NAME...       calls each of these functions, its arguments in two pieces
    anything else      the same words back
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import struct
import sys
import time
from collections.abc import Awaitable, Callable, Iterator

from inhouse.schema import (
    CallDelta,
    Check,
    Citation,
    Delta,
    EngineCall,
    EngineDone,
    EngineFault,
    EngineFrame,
    EngineRequest,
    MemoryOutcome,
    TokenLogprob,
    Usage,
)

Tell = Callable[[EngineFrame], Awaitable[None]]
BASE_DIGEST = "b" * 64
VOCABULARY = 0xD800
"""Tokens are characters; from here on they are none, or halves of one."""
SPOILT = "e" * 64
"""An adapter that fails when it is verified."""


class Engine:
    def __init__(self) -> None:
        self.running = 0
        self.cancelled = 0
        self.vanished = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        call = EngineCall.model_validate_json(await reader.readline())
        if call.op == "stats":
            writer.write(line(EngineFrame(stats={"running": self.running, "cancelled": self.cancelled})))
        elif call.op == "verify":
            assert call.request is not None
            writer.write(line(EngineFrame(verified=checks(call.request))))
        elif call.op == "explain":
            assert call.request is not None
            writer.write(line(explanation(call.request)))
        else:
            requests = call.bundle or (call.request,)
            assert None not in requests
            self.running += len(requests)
            work = asyncio.create_task(self.generate_all(requests, writer))
            gone = asyncio.create_task(reader.read())
            await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
            if not work.done() or work.exception() is not None:  # gone, or found to be gone while sending
                self.cancelled += 1
            work.cancel()
            gone.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)
            self.running -= len(requests)
        with contextlib.suppress(OSError):
            writer.close()
            await writer.wait_closed()

    async def generate_all(self, requests: tuple[EngineRequest, ...], writer: asyncio.StreamWriter) -> None:
        """Each by itself; where one ends without a last frame, the connection ends for all."""

        async def one(number: int, r: EngineRequest) -> None:
            async def tell(frame: EngineFrame) -> None:
                writer.write(line(frame.model_copy(update={"request": number})))
                await writer.drain()

            if not await self.generate(r, tell):
                raise ConnectionError

        async with asyncio.TaskGroup() as group:
            for number, r in enumerate(requests):
                group.create_task(one(number, r))

    async def embed(self, r: EngineRequest, prompt: str, tell: Tell) -> bool:
        """Whether it came to its last frame. `fault`, `vanish` and `count N DELAY` do what they do elsewhere."""
        order = prompt.split() or [""]
        if order[0] == "fault":
            code = EngineFault(
                status=int(order[1]),
                type="invalid_request_error",
                code=order[2],
                message="No.",
                param="prompt",
            )
            await tell(EngineFrame(fault=code))
            return True
        if order[0] == "count":
            await asyncio.sleep(int(order[1]) * float(order[2]))
        if order[0] == "crash":
            return False
        asked = len(r.tokens or words(prompt))
        await tell(EngineFrame(delta=Delta(prompt_tokens=asked, finish_reason="length")))
        usage = Usage(prompt_tokens=asked, total_tokens=asked)
        done = EngineDone(
            usage=usage, base_digest=BASE_DIGEST, adapter=r.adapter, embedding=embedding(prompt)
        )
        await tell(EngineFrame(done=done))
        return True

    async def generate(self, r: EngineRequest, tell: Tell) -> bool:
        """Whether it came to its last frame."""
        if any(token >= VOCABULARY for token in r.tokens or ()):
            foreign = EngineFault(
                status=400,
                type="invalid_request_error",
                code="invalid_value",
                message="No such token.",
                param="prompt",
            )
            await tell(EngineFrame(fault=foreign))
            return True
        prompt = said(r)
        if prompt == "use":
            prompt = r.memory.model_dump_json() if r.memory else "no memory"
        if prompt == "messages":
            prompt = heard(r)
        if prompt == "whose turn":
            prompt = f"{r.project} {r.priority}"
        if r.embeds:
            return await self.embed(r, prompt, tell)
        order = prompt.split() or [""]
        if order[0] == "fault":
            fault = EngineFault(
                status=int(order[1]), type="invalid_request_error", code=order[2], message="No."
            )
            await tell(EngineFrame(fault=fault))
            return True
        if order[0] == "vanish" and not self.vanished:
            self.vanished = True
            return False
        made = 0
        for i in range(r.n):
            if r.echo:
                await tell(
                    EngineFrame(delta=Delta(index=i, text=prompt, logprobs=scored(r, words(prompt), True)))
                )
            delay = float(order[2]) if order[0] in ("count", "clock") else 0.0
            text, reason, count = "", "stop", 0
            for word in answer(order, prompt):
                if r.sampling.max_new_tokens is not None and count >= r.sampling.max_new_tokens:
                    reason = "length"
                    break
                await asyncio.sleep(delay)
                if order[0] == "clock":
                    word = f"{time.monotonic():.6f} "
                count += 1
                ends = [(text + word).index(s) for s in r.sampling.stop if s in text + word]
                piece = (text + word)[: min(ends)][len(text) :] if ends else word
                text += word
                delta = Delta(index=i, text=piece, tokens=1, logprobs=scored(r, [piece], False))
                await tell(EngineFrame(delta=delta))
                if ends:
                    break
            if order[0] == "crash":
                return False
            if order[0] == "call":
                for news in calls(order[1:]):
                    await tell(EngineFrame(delta=Delta(index=i, calls=(news,), tokens=1)))
                    made += 1
                reason = "tool_calls"
            made += count
            last = Delta(index=i, finish_reason=reason, memory=outcome(r, order, i))
            await tell(EngineFrame(delta=last))
        asked = len(r.tokens or words(prompt))
        usage = Usage(
            prompt_tokens=asked,
            completion_tokens=made,
            total_tokens=asked + made,
            cached_tokens=cached(order),
        )
        adapter = "0" * 64 if prompt == "wrong adapter" else r.adapter
        await tell(EngineFrame(done=EngineDone(usage=usage, base_digest=BASE_DIGEST, adapter=adapter)))
        return True


def embedding(text: str) -> str:
    """Three numbers that tell a text from another, as an engine writes them."""
    return base64.b64encode(struct.pack("<3f", len(text), sum(map(ord, text)) / 7, -0.25)).decode()


def said(r: EngineRequest) -> str:
    if r.messages is not None:
        return r.messages[-1].text
    return r.prompt if r.prompt is not None else "".join(map(chr, r.tokens or ()))


def outcome(r: EngineRequest, order: list[str], choice: int) -> MemoryOutcome | None:
    """What the memory did, if one was named; the choice's number shows in the gate."""
    if r.memory is None or order[0] == "silent":
        return None
    decision, cited = (order[1], order[2:]) if order[0] == "recall" else ("none", [])
    facts = tuple(
        Citation(id=id, version=2, mode="exact", source="page 3", gate=0.5 + choice / 10, verified=True)
        for id in cited
    )
    return MemoryOutcome.model_validate(
        {"bank": r.memory.bank, "revision": r.memory.revision, "decision": decision, "facts": facts}
    )


def explanation(r: EngineRequest) -> EngineFrame:
    order = said(r).split()
    if order[0] == "fault":
        return EngineFrame(
            fault=EngineFault(
                status=int(order[1]), type="invalid_request_error", code=order[2], message="No."
            )
        )
    assert r.memory is not None
    return EngineFrame(explained={"question": said(r), "use": r.memory.model_dump(mode="json")})


def words(text: str) -> list[str]:
    pieces = text.split(" ")
    return [p + " " for p in pieces[:-1]] + pieces[-1:]


def answer(order: list[str], prompt: str) -> Iterator[str]:
    if order[0] in ("count", "clock"):
        return (f"{i} " for i in range(int(order[1])))
    if order[0] == "flood":
        return ("x" * int(order[2]) for _ in range(int(order[1])))
    if order[0] == "crash":
        return (f"{i} " for i in range(int(order[1])))
    if order[0] == "call":
        return iter(())
    return iter(words(prompt))


def calls(names: list[str]) -> Iterator[CallDelta]:
    for i, name in enumerate(names):
        yield CallDelta(index=i, id=f"call{i}", name=name)
        yield CallDelta(index=i, arguments='{"place": ')
        yield CallDelta(index=i, arguments=f"{i}}}")


def heard(r: EngineRequest) -> str:
    """The conversation, each turn as role and text, with the calls it makes or answers."""
    return json.dumps(
        [
            [m.role, m.text, *(f"{c.id} {c.name} {c.arguments}" for c in m.tool_calls)]
            + ([m.tool_call_id] if m.tool_call_id else [])
            for m in r.messages or ()
        ]
    )


def checks(r: EngineRequest) -> tuple[Check, ...]:
    """Of this house's adapter, that one tensor is idle; of any other, that it fits."""
    fits = Check(name="fits", passed=True, found=f"adapter {r.adapter}")
    if r.adapter != SPOILT:
        return (fits, Check(name="agrees with PEFT", passed=None, found="not installed"))
    return (fits, Check(name="acts", passed=False, found="1 of 2", tensors=("model.layers.0.q",)))


def cached(order: list[str]) -> int:
    """cached N: so many of the prompt's tokens were computed before."""
    return int(order[1]) if order[0] == "cached" else 0


def scored(r: EngineRequest, tokens: list[str], is_prompt: bool) -> list[TokenLogprob] | None:
    k = r.sampling.logprobs
    if k is None:
        return None

    def one(i: int, token: str) -> TokenLogprob:
        chosen = TokenLogprob(id=i, token=token, bytes=list(token.encode()), logprob=-0.5)
        if is_prompt and i == 0:
            return chosen.model_copy(update={"logprob": None})
        return chosen.model_copy(update={"top": [chosen] * min(k, 1)})

    return [one(i, token) for i, token in enumerate(tokens)]


def line(frame: EngineFrame) -> bytes:
    return frame.model_dump_json(exclude_none=True).encode() + b"\n"


async def main(path: str) -> None:
    server = await asyncio.start_unix_server(Engine().serve, path, limit=64 * 2**20, backlog=2048)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
