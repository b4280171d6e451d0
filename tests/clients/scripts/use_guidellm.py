"""guidellm: synthetic load on completions, chat completions and responses, streamed; every request answered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from walk import BASE_URL, FOLDER, KEY, MODEL, TOKENIZER, did

REQUESTS, PROMPT_TOKENS, REPLY_TOKENS = 4, 48, 12


def main() -> None:
    for path, is_streamed in (
        ("/v1/completions", True),
        ("/v1/chat/completions", True),
        ("/v1/chat/completions", False),
        ("/v1/responses", True),
    ):
        out = FOLDER / f"{path.replace('/', '-')}-{is_streamed}.json"
        backend = {
            "kind": "openai_http",
            "target": BASE_URL.removesuffix("/v1"),
            "model": MODEL,
            "api_key": KEY,
            "request_format": path,
            "stream": str(is_streamed).lower(),
            "http2": "false",
        }
        run(
            ("--backend", told(backend)),
            ("--profile", "kind=concurrent,streams=2"),
            ("--constraint", f"kind=max_requests,count={REQUESTS}"),
            ("--data", f"kind=synthetic_text,prompt_tokens={PROMPT_TOKENS},output_tokens={REPLY_TOKENS}"),
            ("--tokenizer", f"kind=huggingface_auto,model={TOKENIZER}"),
            ("--output", f"kind=json,path={out}"),
        )
        (benchmark,) = json.loads(out.read_text())["benchmarks"]
        requests = benchmark["requests"]
        assert not requests["errored"], requests["errored"][0]
        assert len(requests["successful"]) == REQUESTS
        for request in requests["successful"]:
            assert request["output_metrics"]["text_tokens"] == REPLY_TOKENS, request
        did(
            f"{path}{' streamed' if is_streamed else ''}: {REQUESTS} requests of exactly {REPLY_TOKENS} tokens"
        )


def told(options: dict[str, str]) -> str:
    return ",".join(f"{name}={value}" for name, value in options.items())


def run(*options: tuple[str, str]) -> None:
    command = [Path(sys.executable).with_name("guidellm"), "run", "--disable-console"]
    for option in options:
        command += option
    done = subprocess.run(
        command,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]


main()
