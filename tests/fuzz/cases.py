"""Cases made from the OpenAPI and GraphQL schemas, good and bad ones: none may be a 5xx, every refusal has a code.

Runs in an environment of its own (`requirements.txt`). Usage: cases.py READY_JSON COUNT. Half of the cases are REST,
half GraphQL; the operations take turns, each as everybody who might ask it.
"""

import collections
import contextlib
import itertools
import json
import random
import string
import sys
import time
from pathlib import Path

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

TIMEOUT_S = 30
NO_ENDPOINT = "no_endpoint"
"""503 that is an answer of the market: nobody sells what was asked for, with reasons."""


class Tally:
    """What came back."""

    def __init__(self):
        self.cases = 0
        self.statuses = collections.Counter()
        self.nobody_sells = 0
        self.slowest_s = 0.0
        self.faults = []

    def take(self, name, response, problem):
        self.cases += 1
        self.statuses[response.status_code // 100] += 1
        elapsed = response.elapsed  # schemathesis has seconds where requests has a timedelta.
        self.slowest_s = max(
            self.slowest_s, elapsed if isinstance(elapsed, float) else elapsed.total_seconds()
        )
        if problem:
            fault = f"{name}: {problem}"
            if fault not in self.faults:
                print(f"       {fault}", flush=True)
            self.faults.append(fault)


def rest_problem(response):
    """What is wrong with a REST answer; None when nothing is, and `NO_ENDPOINT` for a 503 of the market."""
    if response.status_code < 400:
        return None
    try:
        error = response.json()["error"]
        coded = (
            all(error.get(name) for name in ("message", "type", "code")) and error["metadata"]["request_id"]
        )
    except (ValueError, KeyError, TypeError):
        return f"{response.status_code} without a coded error: {response.text[:200]!r}"
    if not coded:
        return f"{response.status_code} without a code: {response.text[:200]!r}"
    if response.status_code == 503 and error["code"] == NO_ENDPOINT:
        return NO_ENDPOINT
    return f"{response.status_code}: {response.text[:300]!r}" if response.status_code >= 500 else None


def graphql_problem(response):
    """What is wrong with a GraphQL answer."""
    try:
        body = response.json()
    except ValueError:
        return f"{response.status_code} without JSON: {response.text[:200]!r}"
    codes = [error.get("extensions", {}).get("code") for error in body.get("errors", [])]
    if not all(codes):
        return f"an error without a code: {json.dumps(body)[:300]}"
    if "INTERNAL_SERVER_ERROR" in codes or response.status_code >= 500:
        return f"{response.status_code}: {json.dumps(body)[:400]}"
    return None


def drive(strategy, send, count):
    """Send `count` cases of `strategy`."""

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy)
    def each(case):
        send(case)

    with contextlib.suppress(Unsatisfiable):  # What has no input cannot have a wrong one.
        each()


def fuzz_rest(ready, count, tally):
    """Cases of the OpenAPI document, good and bad, as everybody."""
    schema = schemathesis.openapi.from_dict(
        requests.get(f"{ready['url']}/openapi.json", timeout=TIMEOUT_S).json()
    )
    operations = [found.ok() for found in schema.get_all_operations()]
    credentials = [*ready["credentials"].values(), None, "rm_live_" + "x" * 43]
    each = -(-count // (len(operations) * 2))
    goal = tally.cases + count
    session = requests.Session()
    # Round and round: what takes no input has few cases, and leaves more to the others.
    for operation, mode in itertools.cycle(itertools.product(operations, GenerationMode)):
        if tally.cases >= goal:
            return
        name = f"{operation.method.upper()} {operation.path} ({mode.value})"

        def send(case, operation=operation, name=name):
            if isinstance(case.body, dict) and "model" in case.body and random.random() < 0.7:
                case.body["model"] = ready["model"]
            credential = random.choice(credentials)
            headers = {"Authorization": f"Bearer {credential}"} if credential else {"Authorization": ""}
            try:
                response = case.call(
                    base_url=ready["url"], session=session, headers=headers, timeout=TIMEOUT_S
                )
            except requests.exceptions.InvalidHeader:
                return  # The client itself cannot send it.
            problem = rest_problem(response)
            if problem == NO_ENDPOINT or (operation.path == "/ready" and response.status_code == 503):
                tally.nobody_sells += 1
                problem = None
            tally.take(name, response, problem)

        drive(operation.as_strategy(generation_mode=mode), send, each)


def scalars(ready):
    """Values of the schema's own scalars: real ids among invented ones, and numbers and times at their edges."""
    words = st.text(string.ascii_letters + string.digits + "_-%\u00e9\u4e2d", max_size=40)
    ids = (
        st.sampled_from(ready["ids"])
        | st.sampled_from(ready["ids"]).map(lambda text: text[:-1] + "0")
        | words
    )
    nodes = schemathesis.graphql.nodes
    numbers = st.integers(-(2**70), 2**70) | st.sampled_from([0, 1, 2**63 - 1, 2**63, 10**18, 9 * 10**18])
    decimals = st.decimals(allow_nan=False, allow_infinity=False).map(str) | st.sampled_from(
        ["0", "-1", "1e400", "NaN"]
    )
    times = st.datetimes().map(lambda moment: moment.isoformat() + "Z") | words
    text = {
        "ID": ids,
        "DateTime": times,
        "Date": st.dates().map(str) | words,
        "Decimal": decimals,
        "BigInt": numbers.map(str),
        "UUID": st.uuids().map(str) | words,
        "JSON": words,
    }
    for name, strategy in text.items():
        schemathesis.graphql.scalar(name, strategy.map(nodes.String))


def fuzz_graphql(ready, count, tally):
    """Operations made from the GraphQL schema, as everybody."""
    scalars(ready)
    url = f"{ready['url']}/graphql"
    schema = schemathesis.graphql.from_url(url)
    operations = [found.ok() for found in schema.get_all_operations()]
    credentials = [*(ready["credentials"][who] for who in ("customer", "seller", "admin", "key")), None]
    each = -(-count // len(operations))
    goal = tally.cases + count
    session = requests.Session()
    for operation in itertools.cycle(operations):
        if tally.cases >= goal:
            return

        def send(case, name=operation.label):
            credential = random.choice(credentials)
            headers = {"authorization": f"Bearer {credential}"} if credential else {}
            body = case.body if isinstance(case.body, dict) else {"query": case.body}
            response = session.post(url, json=body, headers=headers, timeout=TIMEOUT_S)
            tally.take(name, response, graphql_problem(response))

        drive(operation.as_strategy(), send, each)


def main(ready_file, count):
    """Run both halves and print what came back."""
    ready = json.loads(Path(ready_file).read_text())
    begun, tally = time.monotonic(), Tally()
    fuzz_rest(ready, count // 2, tally)
    rest = tally.cases
    fuzz_graphql(ready, count - count // 2, tally)
    statuses = ", ".join(f"{status}xx: {number:,}" for status, number in sorted(tally.statuses.items()))
    print(
        f"{tally.cases:,} cases ({rest:,} REST, {tally.cases - rest:,} GraphQL) in {time.monotonic() - begun:.0f} s: {statuses}"
    )
    print(f"503 because nobody sells what was asked for, coded and with reasons: {tally.nobody_sells:,}")
    print(f"slowest answer {tally.slowest_s * 1000:.0f} ms")
    enough = tally.cases >= count
    print(
        f"  {'yes' if not tally.faults else 'NO '}  no 5xx, every error coded: {len(tally.faults)} faults (target 0)"
    )
    print(f"  {'yes' if enough else 'NO '}  {tally.cases:,} cases (target >= {count:,})")
    return enough and not tally.faults


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1], int(sys.argv[2])) else 1)
