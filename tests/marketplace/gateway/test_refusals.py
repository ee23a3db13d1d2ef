"""What is refused, with which status and shape, and that a refusal costs nobody anything."""

import json

import httpx
import pytest

from raymart_core.ports import Prices
from raymart_core.units import Fault
from raymart_marketplace.accounts.service import revoke_api_key
from raymart_marketplace.catalog.models import Modality
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.supply.breaker import BreakerState
from raymart_marketplace.supply.pace import KnownPace, Percentiles


def error_of(response: httpx.Response, status: int, code: str) -> dict:
    """The error object, checked for the shape that every error has."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code", "metadata"}
    assert error["code"] == error["metadata"]["error_type"] == code
    assert error["metadata"]["request_id"] == response.headers["x-request-id"]
    return error


class TestAuthentication:
    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize(
        "authorization", [None, "Bearer rm_live_" + "a" * 43, "Basic eDp5", "Bearer", "x" * 5000]
    )
    async def test_a_wrong_key_is_401_and_touches_nothing(self, market, authorization, stream):
        await market.books.fund(1_000_000)
        replica = await market.add_endpoint()
        headers = {"authorization": authorization} if authorization else {}
        async with httpx.AsyncClient(base_url=market.client.base_url) as stranger:
            response = await stranger.post(
                "/v1/chat/completions", json=market.body(stream=stream), headers=headers
            )
        error = error_of(response, 401, "invalid_api_key")
        assert error["type"] == "authentication_error"
        assert replica.exchanges == []
        assert await market.requests() == []

    async def test_a_revoked_key_is_401_and_writes_no_row(self, market):
        await market.books.fund(1_000_000)
        await market.add_endpoint()
        assert (await market.chat()).status_code == 200
        async with session_scope(market.sessions) as session:
            await revoke_api_key(session, api_key_id=market.key_id)
        market.authenticator.forget(market.key_id)
        before = await market.requests()
        error_of(await market.chat(), 401, "invalid_api_key")
        assert await market.requests() == before

    @pytest.mark.parametrize("path", ["/v1/models", "/v1/models/x", "/v1/models/x/endpoints"])
    async def test_models_need_a_key(self, market, path):
        async with httpx.AsyncClient(base_url=market.client.base_url) as stranger:
            error_of(await stranger.get(path), 401, "invalid_api_key")


class TestFunds:
    @pytest.mark.parametrize("fund", [0, 10])
    async def test_too_little_money_is_402_before_any_engine_is_touched(self, market, fund):
        if fund:
            await market.books.fund(fund)
        replica = await market.add_endpoint()
        error = error_of(await market.chat(), 402, "insufficient_funds")
        assert error["type"] == "insufficient_quota"
        assert replica.exchanges == []
        assert replica.connections == 0
        assert await market.requests() == []
        assert await market.balance() == (fund, 0)

    async def test_the_dearest_endpoint_that_may_serve_decides_what_is_held(self, market):
        """A retry must not cost more than was held."""
        await market.add_endpoint(prices=Prices(token_prompt=0, token_completion=1))
        await market.add_endpoint(prices=Prices(token_prompt=0, token_completion=100))
        await market.books.fund(399)
        error_of(await market.chat(max_tokens=4), 402, "insufficient_funds")
        await market.books.fund(1)
        assert (await market.chat(max_tokens=4)).status_code == 200

    async def test_a_price_cap_leaves_the_dear_endpoint_out_of_the_hold(self, market):
        await market.add_endpoint(prices=Prices(token_prompt=0, token_completion=1))
        await market.add_endpoint(prices=Prices(token_prompt=0, token_completion=100))
        await market.books.fund(4)
        assert (await market.chat(provider={"max_price": {"completion": "0.001"}})).status_code == 200

    async def test_what_is_free_needs_no_balance(self, market):
        await market.add_endpoint(prices=Prices(token_prompt=0, token_completion=0))
        response = await market.chat()
        assert response.headers["x-raymart-cost"] == "0.000000000"
        await market.settle()
        assert await market.usage() == [(3, 4, 0)]


class TestModel:
    async def test_an_unknown_model_is_404_and_names_the_nearest(self, market):
        wrong = market.slug[:-1] + "?"
        error = error_of(await market.chat(model=wrong), 404, "model_not_found")
        assert repr(market.slug) in error["message"]
        assert error["metadata"]["nearest"] == market.slug
        assert error["param"] == "model"
        assert await market.requests() == []

    async def test_a_model_nobody_serves_is_503_and_kept(self, market):
        error = error_of(await market.chat(), 503, "no_endpoint")
        assert error["metadata"]["reasons"] == [f"no provider serves {market.slug} at the moment"]
        [(_, state, finish, code)] = await market.requests()
        assert (state, finish, code) == ("failed", None, "no_endpoint")

    async def test_endpoints_that_all_failed_a_moment_ago_are_tried_all_the_same(self, market):
        """Our own breaker never empties the market."""
        await market.books.fund(1_000_000)
        await market.add_endpoint(provider="worse", quarantined=True, rests_until=9.0)
        await market.add_endpoint(provider="better", quarantined=True, rests_until=2.0)
        response = await market.chat()
        assert response.status_code == 200
        assert response.headers["x-raymart-provider"] == "better"

    async def test_503_says_of_every_endpoint_why(self, market):
        await market.books.fund(1_000_000)
        await market.add_endpoint(provider="north", crowded=True)
        await market.add_endpoint(provider="south")
        error = error_of(await market.chat(provider={"ignore": ["south"]}), 503, "no_endpoint")
        reasons = sorted(error["metadata"]["reasons"])
        assert len(reasons) == 2
        assert reasons[0].startswith("north (ep_")
        assert reasons[0].endswith("has as many requests of this gateway under way as its provider may have")
        assert reasons[1].endswith("is in provider.ignore")
        assert await market.balance() == (1_000_000, 0)

    async def test_more_than_every_context_is_400_with_the_limit(self, market):
        await market.books.fund(1_000_000)
        replica = await market.add_endpoint()
        error = error_of(await market.chat(max_tokens=1024), 400, "invalid_request")
        assert error["param"] == "max_tokens"
        assert "1024" in error["message"]
        assert replica.exchanges == []
        assert await market.requests() == []


class TestReplicaRefusal:
    async def test_a_prompt_over_the_context_is_400_with_param_and_held_nothing(self, market):
        await market.books.fund(1_000_000)

        async def too_long(exchange):
            exchange.refuse(
                400, "the prompt has 2000 tokens; the context is 1024", Fault.CUSTOMER, "messages"
            )

        first, second = await market.add_endpoint(), await market.add_endpoint()
        first.script = second.script = too_long
        error = error_of(await market.chat(stream=True), 400, "invalid_request")
        assert error["param"] == "messages"
        assert "2000 tokens" in error["message"]
        assert len(first.exchanges) + len(second.exchanges) == 1, "a customer's fault is not retried"
        assert market.directory.failures == []
        assert await market.requests() == []
        await market.wait_for_no_hold()

    async def test_a_refusal_that_blames_the_customer_with_another_status_is_the_providers(self, market):
        await market.books.fund(1_000_000)

        async def shifty(exchange):
            exchange.refuse(500, "your fault", Fault.CUSTOMER)

        (await market.add_endpoint()).script = shifty
        error_of(await market.chat(), 502, "upstream_failed")
        assert (await market.attempts())[0][:2] == ("failed", "provider")

    async def test_busy_everywhere_is_503_and_quarantines_nobody(self, market):
        await market.books.fund(1_000_000)

        async def busy(exchange):
            exchange.refuse(503, "draining", Fault.PROVIDER)

        (await market.add_endpoint()).script = busy
        error = error_of(await market.chat(), 503, "no_endpoint")
        assert "refused with 503" in error["metadata"]["reasons"][0]
        assert market.directory.failures == []
        await market.wait_for_no_hold()


class TestHttp:
    async def test_a_body_over_the_limit_is_413(self, market):
        client = await market.serve(market.inference, body_bytes_max=1_000)
        error_of(await market.chat(client, user="x" * 1_000), 413, "payload_too_large")

        async def pieces():
            for _ in range(50):
                yield b" " * 100

        response = await client.post("/v1/chat/completions", content=pieces())
        error_of(response, 413, "payload_too_large")

    @pytest.mark.parametrize(
        ("method", "path", "status", "code"),
        [
            ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
            ("POST", "/v1/models", 405, "method_not_allowed"),
            ("POST", "/v1/embeddings", 404, "not_found"),
            ("GET", "/v1/", 404, "not_found"),
        ],
    )
    async def test_other_paths_and_methods_have_the_same_shape(self, market, method, path, status, code):
        error_of(await market.client.request(method, path), status, code)

    async def test_a_bug_is_500_with_the_requests_id_and_no_detail(self, market):
        class Buggy:
            def live(self, model_slug):
                raise RuntimeError("secret detail")

        client = await market.serve(market.make_inference(directory=Buggy()))
        error = error_of(await market.chat(client), 500, "internal_error")
        assert "secret" not in json.dumps(error)

    async def test_a_clients_own_request_id_is_not_taken_over(self, market):
        response = await market.client.get("/v1/nothing", headers={"x-request-id": "mine"})
        assert response.headers["x-request-id"].startswith("req_")


class TestModels:
    async def test_list_has_openais_shape_with_prices_per_token(self, market):
        await market.add_endpoint(prices=Prices(token_prompt=3, token_completion=9))
        await market.add_endpoint(prices=Prices(token_prompt=2, token_completion=5))
        body = (await market.client.get("/v1/models")).json()
        assert body["object"] == "list"
        [model] = [each for each in body["data"] if each["id"] == market.slug]
        assert model["object"] == "model"
        assert model["owned_by"] == "test"
        assert model["context_length"] == 1024
        assert model["pricing"] == {
            "prompt": "0.000000002",
            "completion": "0.000000005",
            "request": "0.000000000",
            "input_cache_read": "0.000000000",
        }
        assert model["endpoints"] == 2

    async def test_one_model_by_its_slug(self, market):
        model = (await market.client.get(f"/v1/models/{market.slug}")).json()
        assert (model["id"], model["pricing"]) == (market.slug, None)

    @pytest.mark.parametrize("more", ["", "/endpoints"])
    async def test_an_unknown_one_is_404(self, market, more):
        error_of(await market.client.get(f"/v1/models/{market.slug}x{more}"), 404, "model_not_found")

    async def test_its_endpoints_show_prices_state_and_live_figures(self, market):
        await market.add_endpoint(provider="dear", prices=Prices(token_prompt=9, token_completion=9))
        await market.add_endpoint(
            provider="cheap",
            breaker=BreakerState.OPEN,
            first_token_ms=12.34567,
            error_rate=0.25,
            observations=3.0,
            pace=KnownPace(first_token_ms=Percentiles(10.0, 20.0, 30.12345, 90.0)),
        )
        data = (await market.client.get(f"/v1/models/{market.slug}/endpoints")).json()["data"]
        assert (data["id"], data["name"]) == (market.slug, "Test")
        cheap, dear = data["endpoints"]
        assert (cheap["provider_name"], cheap["status"], cheap["breaker"]) == ("cheap", -2, "open")
        assert (dear["provider_name"], dear["status"], dear["breaker"]) == ("dear", 0, "closed")
        assert cheap["pricing"]["completion"] == "0.000000005"
        assert cheap["live"] == {
            "first_token_ms": 12.346, "inter_token_ms": None, "tokens_per_second": None, "error_rate": 0.25,
            "observations": 3.0,
        }  # fmt: skip
        assert cheap["latency_last_30m"] == {"p50": 10.0, "p75": 20.0, "p90": 30.123, "p99": 90.0}
        assert (cheap["throughput_last_30m"], dear["latency_last_30m"]) == (None, None)
        assert (cheap["trust"], cheap["data_policy"], cheap["region"]) == ("probed", "unstated", "here")
        assert cheap["load"] == {"capacity": 1000, "running": 0}

    async def test_a_model_that_nobody_serves_has_no_endpoints(self, market):
        data = (await market.client.get(f"/v1/models/{market.slug}/endpoints")).json()["data"]
        assert data["endpoints"] == []


class TestOtherModels:
    @pytest.mark.parametrize("stream", [False, True])
    async def test_a_model_that_paints_holds_no_conversation_and_its_endpoint_is_not_blamed(
        self, market, stream
    ):
        await market.books.fund(1_000_000)
        replica = await market.add_endpoint(modality=Modality.IMAGE)
        response = await market.client.post("/v1/chat/completions", json=market.body(stream=stream))
        error = error_of(response, 400, "invalid_request")
        assert error["param"] == "model"
        assert error["message"].endswith("is a model for image, not for chat")
        assert (replica.exchanges, market.directory.failures) == ([], [])
