"""transformers' `generate`, alone and with PEFT: mixed batches by `adapter_names`, or one adapter at a time.

Run in an environment of its own. It also is the reference: opened in float32 it says how far each generated token
was from being the likeliest.
"""

from __future__ import annotations

from typing import Any

import torch
import transformers
from wire import Absent, Answer, Ask, Order, Watch, in_batches, serve

PRECISIONS = {"bf16": torch.bfloat16, "float32": torch.float32}


class HuggingFace:
    """A model, and the PEFT adapters that were asked for so far, each loaded when first used."""

    def __init__(self, order: Order) -> None:
        transformers.utils.logging.set_verbosity_error()
        torch.set_num_threads(order.get("threads", 1))
        if order["precision"] not in PRECISIONS:
            raise Absent(f"generate is measured in bfloat16 alone, not in {order['precision']}")
        self.way: str = order["way"]
        self.device = order.get("device", "cpu")
        dtype = PRECISIONS[order["precision"]]
        model = transformers.AutoModelForCausalLM.from_pretrained(order["base"], dtype=dtype)
        self.model: Any = model.to(self.device).eval()
        self.model.generation_config.eos_token_id = None
        self.names: dict[str, str] = {}

    def run(self, asks: list[Ask], order: Order) -> Answer:
        if any(ask.schema for ask in asks):
            raise Absent("generate has no JSON schema of its own")
        if any(ask.adapter for ask in asks) and self.way == "generate":
            raise Absent("generate without PEFT has no adapters")
        tokens: list[list[int]] = [[] for _ in asks]
        watch = Watch(len(asks))
        batches = in_batches(asks, {**order, "alone": self.way == "switching"})
        if self.way == "switching" and order.get("each"):
            batches = [[i] for i in range(len(asks))]
        for places in batches:
            for i, new in zip(places, self._generate([asks[i] for i in places], places, watch), strict=True):
                tokens[i] = new
        watch.stop()
        return Answer(tokens, watch)

    @torch.inference_mode()
    def _generate(self, asks: list[Ask], places: list[int], watch: Watch) -> list[list[int]]:
        """One batch, whose rows are all of one length."""
        prompts = torch.tensor([ask.prompt for ask in asks], device=self.device)

        def heard(ids: torch.Tensor, _: object, **__: object) -> torch.Tensor:
            if ids.device.type != "cpu":
                torch.accelerator.synchronize()
            for place in places:
                watch.token(place)
            watch.step()
            return torch.zeros(len(ids), dtype=torch.bool, device=ids.device)

        more: dict[str, Any] = {}
        names = [self._name(ask.adapter) for ask in asks]
        if self.way == "mixed" and self.names:
            more["adapter_names"] = names
        elif self.way == "switching" and self.names:
            self.model.set_adapter(names[0])
        grown = self.model.generate(
            input_ids=prompts,
            attention_mask=torch.ones_like(prompts),
            max_new_tokens=asks[0].new,
            min_new_tokens=asks[0].new,
            do_sample=False,
            stopping_criteria=transformers.StoppingCriteriaList([heard]),
            **more,
        )
        return grown[:, prompts.shape[1] :].tolist()  # type: ignore[no-any-return]

    def _name(self, folder: str | None) -> str:
        """The adapter's name in PEFT, which loads it first where it has not."""
        if folder is None:
            return "__base__"
        if folder not in self.names:
            from peft import PeftModel

            name = f"a{len(self.names)}"
            if self.names:
                self.model.load_adapter(folder, adapter_name=name)
            else:
                self.model = PeftModel.from_pretrained(self.model, folder, adapter_name=name).eval()
            self.names[folder] = name
        return self.names[folder]

    @torch.inference_mode()
    def margins(self, order: Order) -> dict[str, Any]:
        """For each generated token: how far its logit was below the likeliest's, and how far the logits spread."""
        found, spread = [], []
        for prompt, new, adapter in zip(order["prompts"], order["tokens"], order["adapters"], strict=True):
            ids = torch.tensor([prompt + new], device=self.device)
            more = {}
            if adapter is not None:
                self._name(adapter)
                more["adapter_names"] = [self.names[adapter]]
            elif self.names:
                more["adapter_names"] = ["__base__"]
            logits = self.model(input_ids=ids, **more).logits[0, len(prompt) - 1 : -1].float()  # [new, V]
            drawn = logits.gather(1, torch.tensor(new, device=self.device)[:, None])[:, 0]
            found.append((logits.max(1).values - drawn).tolist())
            spread.append(float(logits.std(1).mean()))
        return {"margins": found, "spread": sum(spread) / len(spread)}


if __name__ == "__main__":
    serve(HuggingFace, margins=HuggingFace.margins)
