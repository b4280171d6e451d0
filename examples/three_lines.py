"""Teach the embedded base a company's facts, and ask for one. Needs: pip install 'inhouse[all]'"""

from pathlib import Path

from inhouse import Client

facts = Path(__file__).with_name("aurora_ferry.jsonl")

client = Client()  # a server on this machine; Client("https://...", api_key=...) is the same class
model = client.tune(facts).wait()
print(model.chat("Who signs off travel over 500 euros?"))
