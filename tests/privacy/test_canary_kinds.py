"""Promise 21 for pictures and vectors: nothing of what was asked or made is kept, unless a picture's address is asked for."""

import json
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from raymart_core.ids import new_id
from raymart_core.units import Fault
from raymart_core.wire.embedding import EmbedReply, RerankReply
from raymart_local.postgres import EmbeddedPostgres
from raymart_local.redis import EmbeddedRedis
from raymart_marketplace.catalog.models import Modality
from support.api_server import Api, Seller, Tenant, api_server, control_settings
from support.canary import Search, all_logs
from support.completions import until_settled
from support.own_database import database_url, owner_url
from support.painting import painting
from support.scripted_images import picture
from support.scripted_replica import Exchange, ScriptedReplica
from support.vector_market import unit

__all__ = ["database_url", "owner_url"]

CREATE = """
mutation ($input: CreateImageInput!) {
  createImage(input: $input) { generation { images { %s } } userErrors { code message } }
}
"""
EMBED = """
mutation ($input: CreateEmbeddingInput!) {
  createEmbedding(input: $input) { embedding { requestId } userErrors { code message } }
}
"""


class Traffic:
    """One customer, and providers that serve well or badly; the canary is in all that they say."""

    def __init__(self, api: Api, tenant: Tenant, key: str) -> None:
        self.api, self.tenant = api, tenant
        self.canary = f"canary-{new_id().hex}"
        self._headers = {"authorization": f"Bearer {key}"}
        self.seller: Seller

    @asynccontextmanager
    async def served(self, modality: Modality, script: Any) -> AsyncIterator[None]:
        self.seller = await self.api.seller(modality=modality)
        async with ScriptedReplica(script(self.seller)) as replica:
            await self.api.serve(self.seller, replica)
            yield
            self.api.retire(self.seller)

    async def post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        whole = {"model": self.seller.model_slug} | body
        return await self.api.client.post(path, json=whole, headers=self._headers)

    def wish(self, **changes: Any) -> dict[str, Any]:
        size = {"width": 32, "height": 16, "steps": 4}
        return {"model": self.seller.model_slug, "prompt": self.canary} | size | changes

    async def pictures(self, status: int) -> None:
        """By every way to pictures that keeps none."""
        asked = {"prompt": self.canary, "size": "32x16", "steps": 4}
        assert (await self.post("/v1/images/generations", asked)).status_code == status
        await self.post("/v1/images/generations", asked | {"stream": True})
        form = {"model": self.seller.model_slug, "prompt": self.canary, "size": "32x16"}
        files = {"image": (f"{self.canary}.png", picture(32, 16), "image/png")}
        edited = await self.api.client.post("/v1/images/edits", data=form, files=files, headers=self._headers)
        drawn = {"prompt": self.canary, "negative_prompt": self.canary, "width": 32, "height": 16, "steps": 4}
        drawn["override_settings"] = {"sd_model_checkpoint": self.seller.model_slug}
        answers = [await self.post("/sdapi/v1/txt2img", drawn)]
        source = b64encode(picture(32, 16, text=self.canary)).decode()
        answers.append(await self.post("/sdapi/v1/img2img", drawn | {"init_images": [source]}))
        created = (await self.api(CREATE % "base64 parameters", self.tenant.owner, input=self.wish())).data
        if status == 200:  # Else the provider is left alone after its first failure.
            assert [answer.status_code for answer in (edited, *answers)] == [200] * 3
            assert created["createImage"]["generation"] is not None

    async def malformed(self) -> None:
        """Refused, with the canary in the very thing that is wrong."""
        for body in (
            {"prompt": self.canary, "size": self.canary},
            {"prompt": [self.canary]},
            {"prompt": self.canary, "n": self.canary},
        ):
            assert (await self.post("/v1/images/generations", body)).status_code == 400, body
        broken = {"prompt": self.canary, "init_images": [self.canary], "sampler_name": self.canary}
        assert (await self.post("/sdapi/v1/img2img", broken)).status_code == 400
        await self.api(CREATE % "index", self.tenant.owner, input=self.wish(scheduler=self.canary))

    async def vectors(self, status: int) -> None:
        """Embeddings and scores, well formed and not."""
        assert (await self.post("/v1/embeddings", {"input": self.canary})).status_code == status
        reranked = {"query": self.canary, "documents": [self.canary]}
        assert (await self.post("/v1/rerank", reranked)).status_code == status
        assert (await self.post("/v1/embeddings", {"input": {"a": self.canary}})).status_code == 400
        given = {"model": self.seller.model_slug, "input": [self.canary]}
        await self.api(EMBED, self.tenant.owner, input=given)

    # What providers do, besides serving.

    def refuses(self, _: Seller) -> Any:
        async def script(exchange: Exchange) -> None:
            exchange.refuse(500, f"cannot serve {self.canary}", Fault.PROVIDER)

        return script

    def blames_the_customer(self, _: Seller) -> Any:
        async def script(exchange: Exchange) -> None:
            exchange.refuse(400, f"cannot read {self.canary}", Fault.CUSTOMER, self.canary[:60])

        return script

    def fails_later(self, seller: Seller) -> Any:
        return painting(seller, then=lambda exchange: exchange.fail(self.canary))

    def talks_nonsense(self, _: Seller) -> Any:
        async def script(exchange: Exchange) -> None:
            exchange.head()
            exchange.line(json.dumps({"e": self.canary[:60], self.canary: 1}).encode())

        return script


def answering(seller: Seller) -> Any:
    async def script(exchange: Exchange) -> None:
        about = {"tokens": (1,), "revision": seller.digest, "engine": "scripted 1"}
        if b'"query"' in exchange.body:
            exchange.reply(RerankReply(scores=(0.5,), **about))
        else:
            exchange.reply(EmbedReply(vectors=(unit(1.0, 0.0),), **about))

    return script


async def run_all(traffic: Traffic) -> None:
    async with traffic.served(Modality.IMAGE, painting):
        await traffic.pictures(200)
        await traffic.malformed()
    async with traffic.served(Modality.EMBEDDING, answering):
        await traffic.vectors(200)
    scripts = {
        traffic.refuses: 502, traffic.blames_the_customer: 400, traffic.fails_later: 502, traffic.talks_nonsense: 502,
    }  # fmt: skip
    for script, status in scripts.items():
        async with traffic.served(Modality.IMAGE, script):
            await traffic.pictures(status)
    for script, status in {traffic.refuses: 502, traffic.blames_the_customer: 400}.items():
        async with traffic.served(Modality.EMBEDDING, script):
            answer = await traffic.post("/v1/embeddings", {"input": traffic.canary})
            assert answer.status_code == status


async def test_what_is_asked_and_made_is_kept_nowhere_but_at_an_address(
    *,
    postgres: EmbeddedPostgres,
    owner_url: str,
    database_url: str,
    redis_server: EmbeddedRedis,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "objects"
    settings = control_settings(
        database_url, redis_url=redis_server.url, data_dir=tmp_path, objects_url=f"file://{folder}"
    )
    with all_logs() as logs:
        async with api_server(settings) as api:
            tenant = await api.tenant()
            await api.credit(tenant)
            _, key = await api.api_key(tenant)
            traffic = Traffic(api, tenant, key)
            search = Search(traffic.canary)
            await run_all(traffic)
            await until_settled(api, tenant)
            metrics = (await api.client.get("/metrics")).text
            texts = {"logs": logs.getvalue(), "metrics": metrics, "streams": "".join(capfd.readouterr())}
            assert "attempt.failed" in texts["logs"]
            assert [name for name, text in texts.items() if search.holds(text)] == []
            assert search.tables(owner_url) == []
            assert await search.redis(redis_server.url) == []
            assert search.files(tmp_path, postgres.log_path, redis_server.log_path) == []

            async with traffic.served(Modality.IMAGE, painting):
                await api(CREATE % "url", tenant.owner, input=traffic.wish())
            assert len(search.files(folder)) == 1  # So the search would have found one.
