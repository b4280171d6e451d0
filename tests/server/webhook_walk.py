"""The unchanged `openai` package checks a delivery, and where it can makes webhooks: `webhook_walk.py BASE KEY URL`.

The delivery's headers, body and secret come as JSON on standard input.
"""

from __future__ import annotations

import json
import sys

import openai


def main(base_url: str, key: str, url: str) -> None:
    told = json.loads(sys.stdin.read())
    client = openai.OpenAI(base_url=base_url, api_key=key, webhook_secret=told["secret"])
    event = client.webhooks.unwrap(told["body"], told["headers"])
    assert event.type == "fine_tuning.job.cancelled", event
    assert type(event).__name__ == "FineTuningJobCancelledWebhookEvent"
    assert event.data.id == told["job"]
    for change in ({"body": told["body"] + " "}, {"headers": told["headers"] | {"webhook-id": "wh_other"}}):
        other = told | change
        try:
            client.webhooks.unwrap(other["body"], other["headers"])
        except openai.InvalidWebhookSignatureError:
            continue
        raise AssertionError(f"taken for genuine: {change}")
    if hasattr(client.webhooks, "create"):
        made = client.webhooks.create(event_types=["batch.completed"], name="walk", url=url)
        assert made.signing_secret.startswith("whsec_")
        assert made.id in [one.id for one in client.webhooks.list()]
        changed = client.webhooks.update(
            made.id, name="other", event_types=["batch.completed", "batch.failed"]
        )
        assert (changed.name, len(changed.event_types)) == ("other", 2)
        assert client.webhooks.retrieve(made.id) == changed
        rotated = client.webhooks.rotate_secret(made.id, keep_old_secret_active_for_24_hours=True)
        assert rotated.signing_secret != made.signing_secret
        tested = client.webhooks.test(made.id, event_type="batch.completed")
        assert (tested.status_code, tested.success) == (200, True)
        assert "batch.completed" in client.webhooks.event_types.list().data
        assert client.webhooks.delete(made.id).deleted
    print("walked", openai.__version__)


if __name__ == "__main__":
    main(*sys.argv[1:])
