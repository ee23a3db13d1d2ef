"""The whole way of an embedding but for Ray: gateway, replica's port, ONNX Runtime, the bundled model."""

from raymart_core.ids import new_id
from raymart_marketplace.catalog.models import Modality
from raymart_marketplace.gateway.http_client import DirectUpstream
from raymart_marketplace.supply.live import LiveEndpoint
from raymart_serve.replica import Replica, ReplicaConfig
from raymart_serve.settings import ReplicaSettings
from support.scripted_replica import REVISION
from support.vector_market import PRICES, VectorMarket

ANSWERS = ["The capital of Norway is Oslo.", "The opposite of hot is cold.", "A baby cat is called a kitten."]


async def test_bundled_model_is_sold_by_the_tokens_it_reads(market: VectorMarket) -> None:
    config = ReplicaConfig(
        model=market.slug, revision=REVISION, engine="onnx", source="bundled:demo-embed", context_length=512, slots=2,
        sha256="a67eaa349702fe92e8c631b6425dc2f360f5903a678ac5b1e9a860ae019093d5",
    )  # fmt: skip
    replica = Replica(config, ReplicaSettings(agent_file=None), replica_id="test")
    await replica.start()
    upstream = DirectUpstream(replica.address, replica.secret)
    market.directory.add(
        LiveEndpoint(
            id=new_id(), node_id=new_id(), node_name="n", provider_id=market.books.provider_id, provider_slug="north",
            offer_id=new_id(), revision_id=new_id(), revision_digest=REVISION, model_slug=market.slug, engine="onnx",
            quantization="fp16", region="here", context_length=512, prices=PRICES, fee_basis_points=0, capacity=2,
            running=0, quarantined=False, modality=Modality.EMBEDDING,
        ),
        upstream,
    )  # fmt: skip
    await market.books.fund(1_000_000)
    try:
        made = await market.embed(input=["Do you know the capital of Norway?", *ANSWERS], dimensions=32)
        question, *answers = (one["embedding"] for one in made.json()["data"])
        scores = [sum(a * b for a, b in zip(question, answer, strict=True)) for answer in answers]
        assert scores.index(max(scores)) == 0

        ranked = await market.rerank(query="What is the name for a baby cat?", documents=ANSWERS, top_n=1)
        assert ranked.json()["results"][0]["index"] == 2

        refused = await market.embed(input="word " * 600)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "input")
        unlike = await market.embed(input="a", dimensions=129)
        assert (unlike.status_code, unlike.json()["error"]["param"]) == (400, "dimensions")
        tokens = made.json()["usage"]["prompt_tokens"] + ranked.json()["usage"]["prompt_tokens"]
        await market.settle()
        await market.wait_for_no_hold()
        assert sum(row[0] for row in await market.usage()) == tokens
        assert await market.balance() == (1_000_000 - 2 * tokens, 0)
    finally:
        upstream.close()
        await replica.stop(timeout_s=1)
