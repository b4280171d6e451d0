"""Webhooks: made by admins, told at least once under one id, signed, and sent nowhere but where the operator allows."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from inhouse.errors import InvalidRequest
from inhouse.jobs import deliveries
from inhouse.server import courier, outward
from inhouse.server.courier import new_secret, signed
from inhouse.server.outward import Outward, _may_connect
from inhouse.store.records import jobs as records
from inhouse.store.records import webhooks
from inhouse.store.records.webhooks import EVENTS, Webhook

from .description import faults
from .house import House, house, until
from .receiver import receiver
from .test_fine_tuning import create, upload

WALK = Path(__file__).with_name("webhook_walk.py")
PROCESS = Path(__file__).with_name("courier_process.py")
OPENAI_2 = Path(sys.prefix) / "openai-2"
HERE = "127.0.0.1"


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks often, and tries again soon."""
    monkeypatch.setattr(courier, "LOOK_EVERY_S", 0.02)
    monkeypatch.setattr(deliveries, "WAITS_S", (0.05,))
    monkeypatch.setattr(outward, "TIMEOUT_S", 0.5)


@pytest.fixture
def made(tmp_path: Path, hasty: None) -> Iterator[House]:
    with house(tmp_path, webhook_hosts=f"{HERE}, localhost") as one:
        yield one


def add(made: House, url: str, events: list[str] | None = None) -> dict[str, Any]:
    body = {"url": url, "name": "ci", "event_types": events or [*EVENTS]}
    reply = made.client(made.admin).post("/v1/webhook_endpoints", json=body)
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


def cancelled(made: House) -> str:
    """A job that has just ended."""
    with made.db.write() as conn:
        job = create_row(made)
        records.add(conn, job)
        records.cancel(conn, "default", job.id, made.db.clock(conn))
    return str(job.id)


def create_row(made: House) -> Any:
    from inhouse.schema import Job, TuneSpec
    from inhouse.store import ids

    spec = TuneSpec(base="seedling", training="c" * 64).model_dump()
    return Job(id=ids.new("ftjob"), project="default", kind="tune", state="queued", spec=spec, created_at=1.0)


def told(made: House, hook: dict[str, Any]) -> list[dict[str, Any]]:
    """Its deliveries, newest first."""
    reply = made.client(made.admin).get(f"/v1/x/webhooks/{hook['id']}/deliveries")
    return list(reply.json()["data"])


# ── what is sent ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_job_that_ends_over_http_is_told_as_openai_describes_it(made: House) -> None:
    with receiver() as there:
        hook = add(made, there.url)
        job = create(made, training_file=upload(made, b"{bad}\n")).json()["id"]
        until(lambda: there.received, "the failure is told")
        headers, body = there.received[0]
        assert faults("WebhookFineTuningJobFailed", json.loads(body)) == []
        assert json.loads(body)["data"] == {"id": job}
        assert (headers["content-type"], headers["host"]) == ("application/json", there.url.split("/")[2])
        delivery = until(lambda: [d for d in told(made, hook) if d["state"] == "delivered"], "it is noted")[0]
        assert (delivery["id"], delivery["last_answer"], delivery["tries"]) == (
            headers["webhook-id"],
            "status 200",
            1,
        )
        time.sleep(0.3)
        assert len(there.received) == 1


@pytest.mark.parametrize("major", ["2", "3"])
def test_both_majors_of_the_openai_package_take_a_delivery_for_genuine(made: House, major: str) -> None:
    if major == "2" and not OPENAI_2.is_dir():
        pytest.fail(f"{OPENAI_2} is missing: run `make install`")
    with receiver() as there:
        hook = add(made, there.url, ["fine_tuning.job.cancelled"])
        job = cancelled(made)
        headers, body = until(lambda: there.received, "it is told")[0]
        stdin = {"secret": hook["signing_secret"], "headers": headers, "body": body.decode(), "job": job}
        done = subprocess.run(
            [sys.executable, WALK, f"{made.url}/v1", made.admin, there.url],
            input=json.dumps(stdin),
            env={**os.environ, "PYTHONPATH": str(OPENAI_2) if major == "2" else ""},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert f"walked {major}." in done.stdout


def test_a_signature_is_that_of_the_standards_own_example() -> None:
    """Figures of the reference tests: github.com/standard-webhooks/standard-webhooks, libraries/python/tests."""
    hook = webhook(secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = signed(hook, "msg_p5jXN8AQM9LWM0D4loKWxJek", '{"test": 2432232314}', 1614265330.7)
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert headers["webhook-timestamp"] == "1614265330"


def test_an_old_secret_signs_beside_the_new_one_while_it_holds() -> None:
    old, new = new_secret(), new_secret()
    hook = webhook(secret=new, old_secret=old, old_until=100.0)
    alone = [signed(webhook(secret=s), "wh_1", "{}", 99.0)["webhook-signature"] for s in (new, old)]
    assert signed(hook, "wh_1", "{}", 99.0)["webhook-signature"] == " ".join(alone)
    later = signed(webhook(secret=new), "wh_1", "{}", 100.0)["webhook-signature"]
    assert signed(hook, "wh_1", "{}", 100.0)["webhook-signature"] == later


def webhook(**values: Any) -> Webhook:
    known = {
        "id": "we_1",
        "project": "default",
        "name": "n",
        "url": "http://x",
        "events": [],
        "old_secret": None,
        "old_until": None,
        "created_at": 1.0,
        "updated_at": 1.0,
    }
    return Webhook(**(known | values))


# ── what does not arrive ──────────────────────────────────────────────────────────────────────────────────


def test_a_receiver_that_fails_is_told_again_under_the_same_id(made: House) -> None:
    with receiver(answers=[500, 404, 204]) as there:
        hook = add(made, there.url)
        cancelled(made)
        delivery = until(lambda: [d for d in told(made, hook) if d["state"] == "delivered"], "it arrives")[0]
        assert there.ids == [delivery["id"]] * 3
        assert len({body for _, body in there.received}) == 1
        assert (delivery["tries"], delivery["last_answer"]) == (3, "status 204")


def test_a_slow_receiver_is_given_up_for_now_and_delays_nobody(
    made: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outward, "TIMEOUT_S", 6.0)
    with receiver(wait_s=20.0) as slow, receiver() as quick:
        hook = add(made, slow.url)
        add(made, quick.url)
        for _ in range(2 * courier.AT_ONCE):
            cancelled(made)
        until(lambda: len(set(quick.ids)) == 2 * courier.AT_ONCE, "the quick one is told all", 4.0)
        until(lambda: any(d["last_answer"] for d in told(made, hook)), "the slow one's try ends")
        assert {d["last_answer"] for d in told(made, hook)} <= {None, "no whole reply within 6 s"}


def test_a_redirect_is_not_followed(made: House) -> None:
    with receiver() as elsewhere, receiver(answers=[307], location=elsewhere.url) as there:
        hook = add(made, there.url)
        cancelled(made)
        until(lambda: len(there.received) > 1, "it is tried again")
        assert elsewhere.received == []
        assert told(made, hook)[0]["last_answer"] == "status 307 (a redirect, which is not followed)"


def test_an_endless_reply_is_cut_off(made: House) -> None:
    with receiver(endless=True) as there:
        hook = add(made, there.url)
        cancelled(made)
        until(lambda: told(made, hook)[0]["state"] == "delivered", "it is taken for told")


def test_nobody_there_is_no_crash(made: House) -> None:
    hook = add(made, f"http://{HERE}:9/hook?token=canary")
    cancelled(made)
    found = until(lambda: [d for d in told(made, hook) if d["tries"] > 1], "it is tried again")[0]
    assert found["last_answer"] == "no reply: ConnectError"


@pytest.mark.parametrize("die", ["BEFORE", "AFTER"])
def test_a_server_that_is_killed_while_it_sends_has_told_nobody_too_little(
    tmp_path: Path, database_url: str, die: str
) -> None:
    """Killed before the sending or after it: the next one sends it, under the same id."""
    with receiver() as there, house(tmp_path, database_url=database_url) as made:
        hook = add_row(made, there.url)
        job = cancelled(made)
        assert carry(made, "--die", die) == -9
        assert len(there.received) == (0 if die == "BEFORE" else 1)
        assert carry(made) == 0
        assert len(there.received) == (1 if die == "BEFORE" else 2)
        assert len(set(there.ids)) == 1
        assert json.loads(there.received[-1][1])["data"] == {"id": job}
        with made.db.read() as conn:
            (delivery,), _ = webhooks.told(conn, hook)
        assert (delivery.id, delivery.tries, delivery.said) == (there.ids[0], 2, "status 200")


def test_control_without_an_outbox_to_go_back_to_a_killed_server_loses_what_it_had_to_tell(
    tmp_path: Path, database_url: str
) -> None:
    with receiver() as there, house(tmp_path, database_url=database_url) as made:
        add_row(made, there.url)
        cancelled(made)
        assert carry(made, "--die", "BEFORE", "--forget") == -9
        assert carry(made) == 0
        assert there.received == []


def add_row(made: House, url: str) -> str:
    hook = webhook(id="we_row", url=url, events=[*EVENTS], secret=new_secret())
    with made.db.write() as conn:
        webhooks.add(conn, hook)
    return hook.id


def carry(made: House, *options: str) -> int:
    """Runs a courier in a process of its own; its exit code."""
    command = [sys.executable, str(PROCESS), str(made.settings.data_dir), "--url", made.settings.database]
    return subprocess.run([*command, *options], timeout=60, check=False).returncode


# ── where to ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("hosts", "url"),
    [
        ("ci.example.com", "https://ci.example.com/hook"),
        ("ci.example.com", "https://CI.example.com:8443/hook?a=b"),
        ("ci.example.com:8443", "https://ci.example.com:8443/"),
        ("a.example, *.corp.example", "http://ci.corp.example/x"),
        ("10.1.2.3", "http://10.1.2.3:9000/x"),
        ("[fd00::5]:80", "http://[fd00::5]/x"),
    ],
)
def test_a_host_that_the_operator_names_is_allowed(hosts: str, url: str) -> None:
    Outward(hosts).check(url)


@pytest.mark.parametrize(
    ("hosts", "url", "code"),
    [
        ("", "https://ci.example.com/hook", "webhooks_off"),
        (" , ", "https://ci.example.com/hook", "webhooks_off"),
        ("ci.example.com", "https://example.com/", "host_not_allowed"),
        ("ci.example.com", "https://ci.example.com.evil.example/", "host_not_allowed"),
        ("ci.example.com:8443", "https://ci.example.com/", "host_not_allowed"),
        ("*.corp.example", "http://corp.example/x", "host_not_allowed"),
        ("*.corp.example", "http://evilcorp.example/x", "host_not_allowed"),
        ("10.1.2.3", "http://167838211/x", "host_not_allowed"),
        ("ci.example.com", "https://user:word@ci.example.com/", "invalid_value"),
        ("ci.example.com", "https://ci.example.com@evil.example/", "invalid_value"),
        ("ci.example.com", "ftp://ci.example.com/", "invalid_value"),
        ("ci.example.com", "file:///etc/passwd", "invalid_value"),
        ("ci.example.com", "https:///hook", "invalid_value"),
        ("ci.example.com", "https://ci.example.com:99999/", "invalid_value"),
        ("ci.example.com", "https://ci.example.com/a b", "invalid_value"),
        ("ci.example.com", "https://ci.example.com/\r\nx: y", "invalid_value"),
        ("ci.example.com", "https://ci.example.com/#part", "invalid_value"),
        ("ci.example.com", "https://ci.éxample.com/", "invalid_value"),
        ("*.example.com", "https://a..example.com/", "invalid_value"),
        ("*.example.com", f"https://{'a' * 64}.example.com/", "invalid_value"),
        ("ci.example.com", "https://ci.example.com/" + "x" * 2048, "invalid_value"),
    ],
)
def test_every_other_address_is_refused_by_name(hosts: str, url: str, code: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Outward(hosts).check(url)
    assert (caught.value.code, caught.value.param) == (code, "url")


@pytest.mark.parametrize("is_checked", [True, False])
@pytest.mark.parametrize("host", ["a..example.com", f"{'a' * 70}.example.com"])
def test_a_name_that_cannot_be_asked_for_is_an_answer_without_a_status(
    monkeypatch: pytest.MonkeyPatch, host: str, is_checked: bool
) -> None:
    if not is_checked:  # as of a webhook that was made before its name was looked at
        monkeypatch.setattr(outward, "_split", urlsplit)
    answer = asyncio.run(Outward("*.example.com").post(f"http://{host}/x", {}, b"x"))
    assert answer.status is None
    assert answer.said.startswith("url must be" if is_checked else "no reply: Unicode")


@pytest.mark.parametrize(
    ("host", "address", "may"),
    [
        ("ci.example.com", "10.1.2.3", True),
        ("ci.example.com", "93.184.215.14", True),
        ("ci.example.com", "fd00::5", True),
        ("localhost", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.1", True),
        ("::1", "::1", True),
        ("ci.example.com", "127.0.0.1", False),
        ("ci.example.com", "::1", False),
        ("ci.example.com", "::ffff:127.0.0.1", False),
        ("ci.example.com", "169.254.169.254", False),
        ("169.254.169.254", "169.254.169.254", False),
        ("ci.example.com", "::ffff:169.254.169.254", False),
        ("ci.example.com", "fe80::1%eth0", False),
        ("ci.example.com", "0.0.0.0", False),
        ("ci.example.com", "224.0.0.1", False),
    ],
)
def test_a_name_leads_in_house_but_never_to_this_machine_or_a_cloud_s_own(
    host: str, address: str, may: bool
) -> None:
    assert _may_connect(host, address) is may


def test_a_host_that_is_taken_off_the_list_is_sent_nothing_more(tmp_path: Path, hasty: None) -> None:
    with receiver() as there, house(tmp_path, webhook_hosts="ci.example.com") as made:
        hook = add_row(made, there.url)
        cancelled(made)
        found = until(lambda: [d for d in told(made, {"id": hook}) if d["tries"]], "it is tried")[0]
        assert "not among the hosts" in found["last_answer"]
        assert there.received == []


def test_a_certificate_must_be_of_the_name_and_the_connection_is_to_the_address(
    tmp_path: Path, hasty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is looked up once: the handshake asks for the name, the socket goes to what it stood for."""
    for name in ("localhost", "other.example"):
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=x"),
                *("-addext", f"subjectAltName=DNS:{name}"),
                *("-keyout", f"{tmp_path}/{name}.key", "-out", f"{tmp_path}/{name}.pem"),
            ],
            capture_output=True,
            check=True,
        )
    answers = {}
    for name in ("localhost", "other.example"):
        monkeypatch.setenv("SSL_CERT_FILE", f"{tmp_path}/{name}.pem")
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(f"{tmp_path}/{name}.pem", f"{tmp_path}/{name}.key")
        with receiver(tls=tls) as there:
            port = there.url.split(":")[2].split("/")[0]
            answers[name] = post(Outward("localhost"), f"https://localhost:{port}/hook").status
            assert len(there.received) == (1 if name == "localhost" else 0)
            if there.received:
                assert there.received[0][0]["host"] == f"localhost:{port}"
    assert answers == {"localhost": 200, "other.example": None}


def post(out: Outward, url: str) -> outward.Answer:
    import asyncio

    return asyncio.run(out.post(url, {"content-type": "application/json"}, b"{}"))


# ── who may ───────────────────────────────────────────────────────────────────────────────────────────────


def test_webhooks_are_off_until_the_operator_names_a_host(served: House) -> None:
    body = {"url": "https://ci.example.com/", "name": "ci", "event_types": ["batch.completed"]}
    reply = served.client(served.admin).post("/v1/webhook_endpoints", json=body)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "webhooks_off")
    assert "webhook_hosts" in reply.json()["error"]["message"]


def test_a_secret_is_shown_once(made: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    with receiver() as there:
        hook = add(made, f"{there.url}?token=canary")
        secret = hook.pop("signing_secret")
        assert secret.startswith("whsec_") and secret.endswith(hook["signing_secret_hint"])
        client = made.client(made.admin)
        assert client.get(f"/v1/webhook_endpoints/{hook['id']}").json() == hook
        assert client.get("/v1/webhook_endpoints").json()["data"] == [hook]
        assert client.get("/v1/x/webhooks").json()["data"] == [hook | {"x_project": "default"}]
        cancelled(made)
        until(lambda: there.received, "it is told")
        pages = [
            client.get(path).text
            for path in ("/v1/organization/audit_logs", f"/v1/x/webhooks/{hook['id']}/deliveries")
        ]
        until(lambda: "status 200" in caplog.text, "it is logged")
        log = "\n".join(r.getMessage() for r in caplog.records if "/v1/" not in r.getMessage())
        assert secret not in "".join((*pages, log)) and "canary" not in "".join((*pages, log))
        rotated = client.post(f"/v1/webhook_endpoints/{hook['id']}/rotate_secret", json={}).json()
        assert rotated["signing_secret"] != secret
    refused = client.post(
        "/v1/webhook_endpoints",
        json={"url": there.url, "name": "x", "event_types": ["batch.failed"]},
        headers={"idempotency-key": "k"},
    )
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "Idempotency-Key")


def test_members_and_other_projects_have_no_webhooks(made: House) -> None:
    hook = add(made, f"http://{HERE}:9/")
    for path in ("/v1/webhook_endpoints", "/v1/webhook_event_types", "/v1/x/webhooks"):
        assert made.client().get(path).status_code == 403
    admin = made.client(made.admin)
    admin.post("/v1/organization/projects", json={"name": "other"})
    secret = admin.post("/v1/x/keys", json={"name": "boss", "role": "admin", "project": "other"})
    other = made.client(secret.json()["key"])
    assert other.get("/v1/webhook_endpoints").json()["data"] == []
    for method, more in (("GET", ""), ("POST", ""), ("DELETE", ""), ("POST", "/rotate_secret")):
        replies = [
            other.request(method, f"/v1/webhook_endpoints/{id}{more}", json={}).text.replace(id, "ID")
            for id in (hook["id"], "we_" + "0" * 24)
        ]
        assert replies[0] == replies[1] and "There is no webhook" in replies[0]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"name": "n", "event_types": ["batch.failed"]}, "url"),
        ({"url": f"http://{HERE}/", "event_types": ["batch.failed"]}, "name"),
        ({"url": f"http://{HERE}/", "name": "n"}, "event_types"),
        ({"url": f"http://{HERE}/", "name": "n", "event_types": []}, "event_types"),
        ({"url": f"http://{HERE}/", "name": "n", "event_types": ["response.completed"]}, "event_types"),
        ({"url": f"http://{HERE}/", "name": "n", "event_types": ["batch.failed"], "x": 1}, "x"),
        ({"url": "http://elsewhere.example/", "name": "n", "event_types": ["batch.failed"]}, "url"),
    ],
)
def test_a_webhook_that_cannot_be_is_refused_by_name(made: House, body: dict[str, Any], param: str) -> None:
    reply = made.client(made.admin).post("/v1/webhook_endpoints", json=body)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)


def test_a_test_says_what_was_answered_or_why_nothing_was(made: House) -> None:
    client = made.client(made.admin)
    with receiver(answers=[503, 200]) as there:
        hook = add(made, there.url)
        path = f"/v1/webhook_endpoints/{hook['id']}/test"
        reply = client.post(path, json={"event_type": "batch.expired"}).json()
        assert (reply["status_code"], reply["object"]) == (503, "webhook_endpoint.test")
        assert reply["success"] is False
        assert there.types == ["batch.expired"]
        assert client.post(path, json={"event_type": "batch.expired"}).json()["success"] is True
        assert told(made, hook) == [], "a test is sent once, and not again"
    unreachable = client.post(path, json={"event_type": "batch.expired"})
    assert (unreachable.status_code, unreachable.json()["error"]["code"]) == (400, "not_delivered")
    assert client.post(path, json={"event_type": "response.completed"}).status_code == 400


def test_a_project_has_a_bounded_number(made: House, monkeypatch: pytest.MonkeyPatch) -> None:
    from inhouse.server.openai import webhooks as routes

    monkeypatch.setattr(routes, "MOST", 2)
    hooks = [add(made, f"http://{HERE}:9/{n}") for n in range(2)]
    body = {"url": f"http://{HERE}:9/", "name": "n", "event_types": ["batch.failed"]}
    assert made.client(made.admin).post("/v1/webhook_endpoints", json=body).status_code == 409
    made.client(made.admin).delete(f"/v1/webhook_endpoints/{hooks[0]['id']}")
    assert made.client(made.admin).post("/v1/webhook_endpoints", json=body).status_code == 200


def test_the_command_adds_lists_tests_and_removes(made: House, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.test_cli import inhouse, lines

    monkeypatch.setenv("INHOUSE_URL", made.url)
    monkeypatch.setenv("INHOUSE_API_KEY", made.admin)
    with receiver() as there:
        (new,) = lines(inhouse("webhooks", "add", there.url, "--event", "batch.failed", "--name", "ci"))
        assert (new["events"], new["name"]) == (["batch.failed"], "ci") and new["secret"]
        (listed,) = lines(inhouse("webhooks", "list"))
        assert (listed["id"], listed["project"]) == (new["id"], "default")
        inhouse("webhooks", "test", new["id"], "--event", "batch.failed")
        assert there.types == ["batch.failed"]
        assert lines(inhouse("webhooks", "deliveries", new["id"])) == []
        inhouse("webhooks", "remove", new["id"])
        assert lines(inhouse("webhooks", "list")) == []
