"""Facts that stay yours: teach them, ask with citations, change one, forget one. Needs: pip install 'inhouse[all]'"""

from pathlib import Path

from inhouse import Client

ASKED = "Who signs off travel over 500 euros?"

client = Client()
memory = client.tune(Path(__file__).with_name("aurora_ferry.jsonl"), method="memory").wait()

answer = memory.ask(ASKED)
print(answer, *(f"({cited.source}, {cited.mode})" for cited in answer.facts))

fact = memory.facts.search(ASKED)[0]
memory.facts.edit(fact.id, answer="Ida Holm")
print(memory.chat(ASKED))

memory.facts.forget(fact.id)
print(memory.chat(ASKED))
