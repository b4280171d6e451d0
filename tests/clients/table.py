"""Which clients are tried, in which releases, and by which script."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SCRIPTS = Path(__file__).with_name("scripts")


@dataclass(frozen=True, slots=True)
class Client:
    """Somebody's client of OpenAI's API."""

    package: str
    """Whose version stands in the table."""
    script: str
    packages: tuple[str, ...]
    """What pip installs."""
    brings_torch: bool = False
    """Whether it cannot be installed without torch; all others must not bring it."""

    @property
    def path(self) -> Path:
        return SCRIPTS / self.script


CLIENTS: dict[str, Client] = {
    "openai-2": Client("openai", "use_openai.py", ("openai==2.54.0",)),
    "openai-3": Client("openai", "use_openai.py", ("openai==3.57.0",)),
    "langchain-openai": Client("langchain-openai", "use_langchain.py", ("langchain-openai==1.7.4",)),
    "llama-index": Client(
        "llama-index-llms-openai-like",
        "use_llama_index.py",
        ("llama-index-llms-openai-like==0.8.1", "llama-index-embeddings-openai-like==0.4.0"),
    ),
    "instructor": Client("instructor", "use_instructor.py", ("instructor==1.17.0",)),
    "pydantic-ai": Client("pydantic-ai-slim", "use_pydantic_ai.py", ("pydantic-ai-slim[openai]==2.68.0",)),
    "openai-agents": Client("openai-agents", "use_openai_agents.py", ("openai-agents==0.24.0",)),
    "litellm": Client("litellm", "use_litellm.py", ("litellm==1.110.2",)),
    "lm-eval": Client("lm-eval", "use_lm_eval.py", ("lm-eval[api]==0.4.13", "transformers==5.24.0")),
    "guidellm": Client("guidellm", "use_guidellm.py", ("guidellm==0.8.1",), brings_torch=True),
}
