"""The same through the unchanged `openai` package: only base_url and key differ. Needs: pip install openai

INHOUSE_URL and INHOUSE_API_KEY name a server; without them one is started on this machine.
"""

import time
from pathlib import Path

from openai import OpenAI

from inhouse import Client

here = Client()
client = OpenAI(base_url=f"{here.url}/v1", api_key=here.api_key)

with Path(__file__).with_name("aurora_ferry.jsonl").open("rb") as facts:
    file = client.files.create(file=facts, purpose="fine-tune")
job = client.fine_tuning.jobs.create(model="seedling", training_file=file.id, suffix="openai")
while job.status not in ("succeeded", "failed", "cancelled"):
    time.sleep(0.5)
    job = client.fine_tuning.jobs.retrieve(job.id)
if job.fine_tuned_model is None:
    raise SystemExit(f"The job {job.status}: {job.error}")
for event in reversed(client.fine_tuning.jobs.list_events(job.id, limit=3).data):
    print(event.message)

stream = client.chat.completions.create(
    model=job.fine_tuned_model,
    messages=[{"role": "user", "content": "Who signs off travel over 500 euros?"}],
    temperature=0,
    stream=True,
)
for chunk in stream:
    print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
