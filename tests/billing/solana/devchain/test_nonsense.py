"""Whatever is sent, the chain answers, and nothing of it lands that nobody signed."""

import base64
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raymart_billing.solana.devchain.node import METHODS
from support.dev_chain import Market

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=90),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=20), inner, max_size=3),
    max_leaves=6,
)
_ids = count()


@pytest.fixture(scope="module")
def scene():
    market = Market.funded()
    return market, market.wallet()


def respond(market, method, params):
    response = market.chain.first_node.respond(
        {"jsonrpc": "2.0", "id": next(_ids), "method": method, "params": params}
    )
    assert ("result" in response) != ("error" in response)
    return response


class TestNonsense:
    @given(method=st.sampled_from(sorted(METHODS)), params=ANYTHING)
    @settings(max_examples=60)
    def test_any_parameters_are_answered(self, scene, method, params):
        response = respond(scene[0], method, params)
        if "error" in response:
            assert response["error"]["code"] in range(-32_700, -32_000)

    @given(data=st.data(), version=st.sampled_from(["v0", "v1"]))
    @settings(max_examples=60)
    def test_a_spoiled_transaction_is_answered_and_moves_nothing(self, scene, data, version):
        market, payee = scene
        paying = market.transfer(market.treasury, payee.pubkey(), micro_usdc=1)
        raw = bytearray(getattr(market, version)(market.treasury, paying, paying))
        at = data.draw(st.integers(0, len(raw) - 1))
        match data.draw(st.sampled_from(["change", "cut", "insert", "end"])):
            case "change":
                raw[at] ^= data.draw(st.integers(1, 255))
            case "cut":
                del raw[at]
            case "insert":
                raw.insert(at, data.draw(st.integers(0, 255)))
            case "end":
                del raw[at:]
        encoded = base64.b64encode(bytes(raw)).decode()
        options = {"encoding": "base64", "skipPreflight": True, "replaceRecentBlockhash": True}
        respond(market, "simulateTransaction", [encoded, options])
        respond(market, "sendTransaction", [encoded, options])
        assert market.balance(payee.pubkey()) == 0
