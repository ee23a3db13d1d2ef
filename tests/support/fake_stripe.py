"""A small Stripe: a real HTTP server with Stripe's shapes, its idempotency, its events, and faults on demand.

It stands in for a machine that is not ours. What the `stripe` library sends (form-encoded) and reads (JSON, errors, the
request id) is the real thing; what the customer, the bank or somebody in Stripe's dashboard does is a method here.
Events are made as Stripe makes them and handed to the test, which delivers, loses, repeats or reorders them.
"""

import json
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit
from uuid import uuid4

from stripe import WebhookSignature

API_KEY = "sk_test_raymart"
WEBHOOK_SECRET = "whsec_first_secret_of_the_endpoint"
Fault = Literal["drop_before", "drop_after", "busy", "error", "declined"]
Thing = dict[str, Any]


class StripeRefusal(Exception):
    """An answer in the shape of Stripe's errors."""

    def __init__(self, status: int, kind: str, message: str, **more: str) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"type": kind, "message": message, **more}}


@dataclass(slots=True)
class Saved:
    """What an idempotency key was used for."""

    request: tuple[str, tuple[tuple[str, str], ...]]
    status: int
    body: bytes


@dataclass
class FakeStripe:
    """State of the account, and the deeds of everybody who is not us."""

    fee_cents: int = 59
    dispute_fee_cents: int = 1_500
    objects: dict[str, Thing] = field(default_factory=dict)
    events: list[Thing] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    """Method and path of every request, as they came."""
    faults: deque[Fault] = field(default_factory=deque)
    """Taken one by one, by the requests that come."""
    saved: dict[str, Saved] = field(default_factory=dict)
    clock: Callable[[], float] = time.time
    lock: threading.RLock = field(default_factory=threading.RLock)
    _number: int = 0
    _name: str = field(default_factory=lambda: uuid4().hex[:12])
    """In ids, so that no two of a test run are alike: an address, as `id` gives, comes back after its object is gone."""

    def __enter__(self) -> "FakeStripe":
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    # What others do -----------------------------------------------------------------------------------------------

    def pay(self, session_id: str, *, amount: int | None = None, currency: str | None = None) -> Thing:
        """The customer pays by card on the page; the event. `amount` and `currency` are for frauds."""
        with self.lock:
            session = self.objects[session_id]
            payment_id = self._take_payment(session, amount, currency)
            session |= {
                "status": "complete",
                "payment_status": "paid",
                "payment_intent": payment_id,
                "url": None,
            }
            return self._event("checkout.session.completed", session)

    def submit(self, session_id: str) -> Thing:
        """The customer chooses a bank debit: the page is done, the money is not there yet."""
        with self.lock:
            session = self.objects[session_id]
            session |= {"status": "complete", "payment_status": "unpaid", "payment_intent": self._id("pi")}
            return self._event("checkout.session.completed", session)

    def bank_decides(self, session_id: str, *, good: bool) -> Thing:
        with self.lock:
            session = self.objects[session_id]
            if not good:
                return self._event("checkout.session.async_payment_failed", session)
            session["payment_intent"] = self._take_payment(session, None, None)
            session["payment_status"] = "paid"
            return self._event("checkout.session.async_payment_succeeded", session)

    def expire(self, session_id: str) -> Thing:
        with self.lock:
            session = self.objects[session_id]
            session |= {"status": "expired", "url": None}
            return self._event("checkout.session.expired", session)

    def refund_in_dashboard(self, session_id: str, cents: int) -> Thing:
        """Somebody at our side pays back by hand, past our own books; the event."""
        with self.lock:
            charge = self.charge_of(session_id)
            self._refund(charge, cents, {})
            return self.events[-1]

    def fail_refund(self, refund_id: str) -> Thing:
        """The card's bank sends the money of a refund back days later."""
        with self.lock:
            refund = self.objects[refund_id]
            refund |= {"status": "failed", "failure_reason": "expired_or_canceled_card"}
            self.objects[refund["charge"]]["amount_refunded"] -= refund["amount"]
            return self._event("refund.failed", refund)

    def dispute(
        self, session_id: str, *, cents: int | None = None, status: str = "needs_response"
    ) -> tuple[str, Thing]:
        """The cardholder's bank takes the money back; the dispute's id and the event."""
        with self.lock:
            charge = self.charge_of(session_id)
            dispute = {
                "id": self._id("du"),
                "object": "dispute",
                "amount": cents or charge["amount"],
                "currency": charge["currency"],
                "charge": charge["id"],
                "payment_intent": charge["payment_intent"],
                "status": status,
                "reason": "fraudulent",
                "balance_transactions": [],
                "evidence_details": {"due_by": int(self.clock()) + 7 * 86_400},
            }
            self.objects[dispute["id"]] = dispute
            return dispute["id"], self._event("charge.dispute.created", dispute)

    def dispute_moves(self, dispute_id: str, *, status: str, kind: str) -> Thing:
        """`kind` is what follows "charge.dispute."."""
        with self.lock:
            dispute = self.objects[dispute_id]
            dispute["status"] = status
            if kind == "funds_withdrawn":
                entry = {"id": self._id("txn"), "fee": self.dispute_fee_cents, "currency": "usd"}
                dispute["balance_transactions"] = [*dispute["balance_transactions"], entry]
            return self._event(f"charge.dispute.{kind}", dispute)

    def charge_of(self, session_id: str) -> Thing:
        return self.objects[self.objects[self.objects[session_id]["payment_intent"]]["latest_charge"]]

    def sign(self, event: Thing, *, secret: str = WEBHOOK_SECRET, age_s: float = 0) -> tuple[bytes, str]:
        """Body and `Stripe-Signature` of the event's delivery."""
        body = json.dumps(event)
        header = WebhookSignature.generate_signature_header(body, secret, int(time.time() - age_s))
        return body.encode(), header

    def made(self, prefix: str) -> list[Thing]:
        with self.lock:
            return [thing for key, thing in self.objects.items() if key.startswith(prefix)]

    # What we may ask ----------------------------------------------------------------------------------------------

    def answer(self, method: str, path: str, form: dict[str, str]) -> Thing:
        parts = path.strip("/").split("/")[1:]
        if (method, parts) == ("POST", ["checkout", "sessions"]):
            return self._create_session(form)
        if method == "GET" and parts[:2] == ["checkout", "sessions"] and len(parts) == 3:
            return self._expanded(self._known(parts[2], "cs_"))
        if (method, parts) == ("POST", ["refunds"]):
            return self._create_refund(form)
        if (method, parts) == ("GET", ["refunds"]):
            found = [each for each in self.made("re_") if each["payment_intent"] == form["payment_intent"]]
            return {"object": "list", "data": found[::-1], "has_more": False, "url": "/v1/refunds"}
        if (method, parts) == ("GET", ["events"]):
            return self._list_events(form)
        raise StripeRefusal(404, "invalid_request_error", f"Unrecognized request URL ({method}: {path})")

    def _create_session(self, form: dict[str, str]) -> Thing:
        cents = int(form["line_items[0][price_data][unit_amount]"])
        if cents < 50 or form["line_items[0][price_data][currency]"] != "usd":
            raise StripeRefusal(400, "invalid_request_error", "amount too small", code="amount_too_small")
        if not 30 * 60 <= int(form["expires_at"]) - self.clock() <= 24 * 3_600:
            raise StripeRefusal(
                400,
                "invalid_request_error",
                "The `expires_at` timestamp must be at least 30 minutes from Checkout Session creation.",
                param="expires_at",
            )
        session_id = self._id("cs_test")
        self.objects[session_id] = {
            "id": session_id,
            "object": "checkout.session",
            "amount_total": cents,
            "currency": "usd",
            "client_reference_id": form["client_reference_id"],
            "metadata": {"raymart_deposit": form["metadata[raymart_deposit]"]},
            "mode": form["mode"],
            "payment_intent": None,
            "payment_status": "unpaid",
            "status": "open",
            "expires_at": int(form["expires_at"]),
            "customer_details": {"email": "cardholder@example.com", "name": "Card Holder"},
            "url": f"https://checkout.stripe.com/c/pay/{session_id}",
        }
        return self.objects[session_id]

    def _create_refund(self, form: dict[str, str]) -> Thing:
        payment = self._known(form["payment_intent"], "pi_")
        charge = self.objects[payment["latest_charge"]]
        cents = int(form["amount"])
        left = charge["amount"] - charge["amount_refunded"]
        if left == 0:
            raise StripeRefusal(
                400,
                "invalid_request_error",
                f"Charge {charge['id']} has already been refunded.",
                code="charge_already_refunded",
            )
        if cents > left:
            message = f"Refund amount ({cents}) is greater than unrefunded amount on charge ({left})"
            raise StripeRefusal(400, "invalid_request_error", message, param="amount")
        metadata = {key[9:-1]: value for key, value in form.items() if key.startswith("metadata[")}
        return self._refund(charge, cents, metadata)

    def _list_events(self, form: dict[str, str]) -> Thing:
        kinds = {value for key, value in form.items() if key.startswith("types[")}
        found = [
            event
            for event in self.events[::-1]
            if event["type"] in kinds
            and int(form["created[gte]"]) <= event["created"] <= int(form["created[lte]"])
        ]
        if "starting_after" in form:
            ids = [event["id"] for event in found]
            found = found[ids.index(form["starting_after"]) + 1 :]
        page = found[: int(form["limit"])]
        return {"object": "list", "data": page, "has_more": len(page) < len(found), "url": "/v1/events"}

    # Parts --------------------------------------------------------------------------------------------------------

    def _take_payment(self, session: Thing, amount: int | None, currency: str | None) -> str:
        payment_id, charge_id = self._id("pi"), self._id("ch")
        if amount is not None:
            session["amount_total"] = amount
        if currency is not None:
            session["currency"] = currency
        entry = {
            "id": self._id("txn"),
            "object": "balance_transaction",
            "fee": self.fee_cents,
            "currency": "usd",
            "amount": session["amount_total"],
        }
        charge = {
            "id": charge_id,
            "object": "charge",
            "amount": session["amount_total"],
            "amount_refunded": 0,
            "currency": session["currency"],
            "payment_intent": payment_id,
            "balance_transaction": entry["id"],
            "billing_details": {"name": "Card Holder"},
        }
        payment = {
            "id": payment_id,
            "object": "payment_intent",
            "amount": session["amount_total"],
            "currency": session["currency"],
            "latest_charge": charge_id,
        }
        self.objects |= {entry["id"]: entry, charge_id: charge, payment_id: payment}
        return payment_id

    def _refund(self, charge: Thing, cents: int, metadata: dict[str, str]) -> Thing:
        charge["amount_refunded"] += cents
        refund = {
            "id": self._id("re"),
            "object": "refund",
            "amount": cents,
            "currency": charge["currency"],
            "charge": charge["id"],
            "payment_intent": charge["payment_intent"],
            "status": "succeeded",
            "metadata": metadata,
        }
        self.objects[refund["id"]] = refund
        self._event("refund.created", refund)
        self._event("charge.refunded", charge)
        return refund

    def _expanded(self, session: Thing) -> Thing:
        """With `payment_intent.latest_charge.balance_transaction`, which is all that we ever ask for."""
        payment = self.objects.get(session["payment_intent"] or "")
        if payment is None:
            return session
        charge = dict(self.objects[payment["latest_charge"]])
        charge["balance_transaction"] = self.objects[charge["balance_transaction"]]
        return {**session, "payment_intent": {**payment, "latest_charge": charge}}

    def _known(self, thing_id: str, prefix: str) -> Thing:
        if not thing_id.startswith(prefix) or thing_id not in self.objects:
            raise StripeRefusal(
                404, "invalid_request_error", f"No such object: {thing_id!r}", code="resource_missing"
            )
        return self.objects[thing_id]

    def _event(self, kind: str, thing: Thing) -> Thing:
        event = {
            "id": self._id("evt"),
            "object": "event",
            "api_version": "2026-06-24",
            "type": kind,
            "created": int(self.clock()),
            "livemode": False,
            # As it was at this moment: later changes of the object are not seen in this event.
            "data": {"object": json.loads(json.dumps(thing))},
        }
        self.events.append(event)
        return event

    def _id(self, prefix: str) -> str:
        with self.lock:
            self._number += 1
            return f"{prefix}_{self._name}{self._number:06d}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, stripe: FakeStripe) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.stripe = stripe


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        self._serve("GET", urlsplit(self.path).query)

    def do_POST(self) -> None:
        self._serve("POST", self.rfile.read(int(self.headers.get("content-length", 0))).decode())

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def _serve(self, method: str, text: str) -> None:
        stripe, path = self.server.stripe, urlsplit(self.path).path
        form = dict(parse_qsl(text, keep_blank_values=True))
        with stripe.lock:
            stripe.calls.append(f"{method} {path}")
            fault = stripe.faults.popleft() if stripe.faults else None
        if fault == "drop_before":
            self._drop()
            return
        try:
            status, body, headers = self._respond(method, path, form, fault)
        except StripeRefusal as refusal:
            status, body, headers = refusal.status, _json(refusal.body), {}
        if fault == "drop_after":
            self._drop()
        else:
            self._send(status, body, headers)

    def _respond(
        self, method: str, path: str, form: dict[str, str], fault: Fault | None
    ) -> tuple[int, bytes, dict[str, str]]:
        if self.headers.get("authorization") != f"Bearer {API_KEY}":
            raise StripeRefusal(401, "invalid_request_error", "Invalid API Key provided")
        if fault == "busy":
            raise StripeRefusal(429, "invalid_request_error", "Too many requests", code="rate_limit")
        if fault == "error":
            raise StripeRefusal(500, "api_error", "An unknown error occurred")
        key = self.headers.get("idempotency-key") if method == "POST" else None
        stripe = self.server.stripe
        with stripe.lock:
            if key is None:
                return *self._work(method, path, form, fault), {}
            request = (path, tuple(sorted(form.items())))
            saved = stripe.saved.get(key)
            if saved is None:
                status, body = self._work(method, path, form, fault)
                stripe.saved[key] = Saved(request, status, body)
                return status, body, {}
        if saved.request != request:
            message = "Keys for idempotent requests can only be used with the same parameters"
            raise StripeRefusal(400, "idempotency_error", message)
        return saved.status, saved.body, {"Idempotent-Replayed": "true"}

    def _work(self, method: str, path: str, form: dict[str, str], fault: Fault | None) -> tuple[int, bytes]:
        try:
            if fault == "declined":
                raise StripeRefusal(400, "invalid_request_error", "Your account cannot do this.")
            return 200, _json(self.server.stripe.answer(method, path, form))
        except StripeRefusal as refusal:
            return refusal.status, _json(refusal.body)
        except (KeyError, ValueError) as error:
            body = {"error": {"type": "invalid_request_error", "message": f"Missing or wrong: {error}"}}
            return 400, _json(body)

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        with suppress(ConnectionError):
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Request-Id", "req_fake")
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    def _drop(self) -> None:
        """End the connection without an answer."""
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(2)


def _json(body: Thing) -> bytes:
    return json.dumps(body).encode()
