"""lm-eval over a local task: log-likelihoods of token ids and continuations by completions; chat."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

from walk import BASE_URL, FOLDER, KEY, MODEL, TOKENIZER, did

ROWS = [
    {
        "question": f"Passage: {name} Roth works in {city}. Question: Where does {name} Roth work?",
        "answer": city,
    }
    for name, city in (("Ines", "Lund"), ("Olaf", "Bergen"), ("Mara", "Turku"), ("Nils", "Visby"))
]
CHOICES = ["Lund", "Bergen", "Turku", "Visby"]
TASKS = {
    "walk_choice": """
task: walk_choice
dataset_path: json
dataset_kwargs: {data_files: {test: ROWS}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}\\nAnswer:"
doc_to_choice: CHOICES
doc_to_target: "{{answer}}"
metric_list: [{metric: acc}]
""",
    "walk_perplexity": """
task: walk_perplexity
dataset_path: json
dataset_kwargs: {data_files: {test: ROWS}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{question}}"
metric_list: [{metric: byte_perplexity}]
""",
    "walk_write": """
task: walk_write
dataset_path: json
dataset_kwargs: {data_files: {test: ROWS}}
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["\\n\\n"], max_gen_toks: 24, do_sample: false}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
""",
}


def main() -> None:
    (FOLDER / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    for name, text in TASKS.items():
        filled = text.replace("ROWS", str(FOLDER / "rows.jsonl")).replace("CHOICES", json.dumps(CHOICES))
        (FOLDER / f"{name}.yaml").write_text(filled)
    by_completions = run("local-completions", "completions", ["walk_choice", "walk_perplexity", "walk_write"])
    assert 0 <= by_completions["results"]["walk_choice"]["acc,none"] <= 1
    told = samples("walk_choice")
    assert len(told) == len(ROWS) and all(len(row["filtered_resps"]) == len(CHOICES) for row in told)
    first = told[0]
    for (prompt, reply), (logprob, _) in zip(
        (a.values() for a in first["arguments"].values()), first["filtered_resps"], strict=True
    ):
        assert math.isclose(float(logprob), scored(prompt, reply), rel_tol=1e-3), (reply, logprob)
    did("completions: log-likelihoods of token ids, equal to the server's own")
    assert by_completions["results"]["walk_perplexity"]["byte_perplexity,none"] > 1
    did("completions: rolling perplexity")
    written = [row["filtered_resps"][0] for row in samples("walk_write")]
    assert len(written) == len(ROWS) and any(written), written
    did("completions: continuations")
    by_chat = run("local-chat-completions", "chat/completions", ["walk_write"], "--apply_chat_template")
    assert 0 <= by_chat["results"]["walk_write"]["exact_match,none"] <= 1
    did("chat completions")


def run(kind: str, path: str, tasks: list[str], *more: str) -> dict[str, Any]:
    """lm-eval's results."""
    out = FOLDER / "results"
    told = {
        "model": MODEL,
        "base_url": f"{BASE_URL}/{path}",
        "num_concurrent": 2,
        "max_retries": 1,
        "max_length": 1024,
    }
    if kind == "local-completions":
        told |= {"tokenizer": TOKENIZER, "tokenizer_backend": "huggingface", "tokenized_requests": True}
    command = [Path(sys.executable).with_name("lm_eval"), "run", "--model", kind]
    command += ["--model_args", ",".join(f"{name}={value}" for name, value in told.items())]
    command += ["--tasks", *tasks, "--include_path", FOLDER, "--output_path", out, "--log_samples", *more]
    done = subprocess.run(
        command,
        env={**os.environ, "OPENAI_API_KEY": KEY},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    newest = max(out.rglob("results_*.json"), key=lambda file: file.stat().st_mtime)
    return dict(json.loads(newest.read_text()))


def samples(task: str) -> list[dict[str, Any]]:
    (file,) = (FOLDER / "results").rglob(f"samples_{task}_*.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]


def scored(prompt: str, reply: str) -> float:
    """The log-probability of a reply, by one request of our own."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    whole = tokenizer.encode(prompt + reply, add_special_tokens=False)
    start = len(tokenizer.encode(prompt, add_special_tokens=False))
    body = {"model": MODEL, "prompt": whole, "echo": True, "logprobs": 1, "max_tokens": 0}
    request = urllib.request.Request(
        f"{BASE_URL}/completions",
        json.dumps(body).encode(),
        {"authorization": f"Bearer {KEY}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        logprobs = json.load(answer)["choices"][0]["logprobs"]["token_logprobs"]
    return float(sum(logprobs[start:]))


main()
