"""vLLM on a CPU, in one process and stepped by hand. Run in an environment of its own."""

from __future__ import annotations

from typing import Any

from wire import Absent, Answer, Arrivals, Ask, Order, Watch, serve


class Vllm:
    """An engine with room for as many adapters in a step as the order says."""

    def __init__(self, order: Order) -> None:
        if order["precision"] != "bf16":
            raise Absent(
                f"vLLM needs a checkpoint made by another tool to serve {order['precision']} on a CPU"
            )
        from vllm import LLM

        lora: dict[str, Any] = {}
        if order.get("adapters_at_once"):
            lora = {
                "enable_lora": True,
                "max_loras": order["adapters_at_once"],
                "max_lora_rank": order["highest_rank"],
                "max_cpu_loras": max(order["adapters_at_once"], order.get("adapters_kept", 0)),
            }
        self.engine = LLM(
            order["base"],
            dtype="bfloat16",
            max_model_len=order["context"],
            max_num_seqs=order.get("max_running", 32),
            max_num_batched_tokens=max(4096, order["context"]),
            enable_prefix_caching=order.get("shares_prefix", False),
            disable_log_stats=True,
            **lora,
        ).llm_engine
        self.numbers: dict[str, int] = {}
        self.runs = 0

    def run(self, asks: list[Ask], order: Order) -> Answer:
        from vllm.sampling_params import RequestOutputKind

        tokens: list[list[int]] = [[] for _ in asks]
        texts = [""] * len(asks)
        self.runs += 1
        watch = Watch(len(asks))
        arrivals = Arrivals(asks, order, watch)
        unfinished = 0
        while arrivals.left or unfinished:
            for i in arrivals.due(unfinished):
                params = self._params(asks[i], RequestOutputKind.DELTA)
                prompt = {"prompt_token_ids": asks[i].prompt}
                self.engine.add_request(
                    f"{self.runs}-{i}", prompt, params, lora_request=self._lora(asks[i].adapter)
                )
                unfinished += 1
            for output in self.engine.step():
                i = int(output.request_id.split("-")[1])
                new = output.outputs[0]
                if new.token_ids:
                    watch.token(i, len(new.token_ids))
                tokens[i] += new.token_ids
                texts[i] += new.text
                unfinished -= output.finished
            watch.step()
        watch.stop()
        return Answer(tokens, watch, texts)

    def _params(self, ask: Ask, kind: Any) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        shaped = ask.schema is not None
        return SamplingParams(
            max_tokens=ask.new,
            min_tokens=0 if shaped else ask.new,
            temperature=ask.temperature,
            ignore_eos=not shaped,
            detokenize=shaped,
            output_kind=kind,
            structured_outputs=StructuredOutputsParams(json=ask.schema) if shaped else None,
        )

    def _lora(self, folder: str | None) -> Any:
        from vllm.lora.request import LoRARequest

        if folder is None:
            return None
        number = self.numbers.setdefault(folder, len(self.numbers) + 1)
        return LoRARequest(f"a{number}", number, folder)


if __name__ == "__main__":
    serve(Vllm)
