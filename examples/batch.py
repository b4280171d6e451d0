"""Answer many rows: as they come, and into a file that can be taken up again. Needs: pip install 'inhouse[all]'"""

import sys
import tempfile
from pathlib import Path

from inhouse import Client

rows = Path(__file__).with_name(
    "aurora_ferry.jsonl"
)  # its answers are not sent: they come back as `expected`
out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp()) / "replies.jsonl"

client = Client()
for reply in client.generate(["Who are you?", "What is the capital of France?"], max_tokens=32):
    print(reply.index, reply.text)

summary = client.generate(rows, out=out, max_tokens=32)
print(f"{summary.rows} replies in {out}, {summary.errors} errors")

again = client.generate(rows, out=out, max_tokens=32)  # nothing is left to ask
print(f"{again.resumed} were there already")
