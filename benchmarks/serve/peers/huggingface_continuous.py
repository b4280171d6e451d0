"""transformers' continuous batching (`generate_batch`). Run in an environment of its own.

It works in a thread of its own and tells the wall's time of each token, which stands for CPU time here: runs in which
the two differ much are not counted anyway.
"""

from __future__ import annotations

from typing import Any

import torch
import transformers
from wire import Absent, Answer, Ask, Order, Watch, serve

PAGE = 32


class Continuous:
    """A model whose batches the library schedules itself."""

    def __init__(self, order: Order) -> None:
        transformers.utils.logging.set_verbosity_error()
        torch.set_num_threads(order.get("threads", 1))
        if order["precision"] != "bf16":
            raise Absent(f"generate_batch is measured in bfloat16 alone, not in {order['precision']}")
        model = transformers.AutoModelForCausalLM.from_pretrained(order["base"], dtype=torch.bfloat16)
        self.model: Any = model.to(order.get("device", "cpu")).eval()
        # Left to itself it takes nine tenths of the memory for its cache.
        self.batching = transformers.ContinuousBatchingConfig(
            page_size=PAGE,
            num_blocks=(2 * order["context"] + 8192) // PAGE,
            max_batch_tokens=4096,
            max_requests_per_batch=order.get("max_running", 32),
        )

    def run(self, asks: list[Ask], order: Order) -> Answer:
        if any(ask.adapter or ask.schema for ask in asks):
            raise Absent("generate_batch has neither adapters in a batch nor schemas")
        config = transformers.GenerationConfig(
            max_new_tokens=asks[0].new, do_sample=False, eos_token_id=-1, pad_token_id=0
        )
        watch = Watch(len(asks))
        done = self.model.generate_batch(
            [ask.prompt for ask in asks],
            generation_config=config,
            continuous_batching_config=self.batching,
            record_timestamps=True,
            persistent_manager=True,
            warmup=False,
        )
        watch.stop()
        tokens = [list(answer.generated_tokens) for answer in done.values()]
        watch.heard([answer.timestamps for answer in done.values()])
        if [len(new) for new in tokens] != [ask.new for ask in asks]:
            raise Absent(
                f"generate_batch gave {sum(map(len, tokens))} tokens, asked for were {sum(a.new for a in asks)}"
            )
        return Answer(tokens, watch)


if __name__ == "__main__":
    serve(Continuous)
