"""docs/rest.md lists what the bodies ignore and what they refuse, neither more nor less."""

import re
from pathlib import Path

import msgspec

from raymart_marketplace.gateway.completions.llama_body import LlamaBody
from raymart_marketplace.gateway.completions.openai_body import CompletionBody
from raymart_marketplace.gateway.openai_body import ENGINE_FIELDS, UNSET, ChatBody
from raymart_marketplace.gateway.provider_object import ProviderObject

TEXT = (Path(__file__).parents[2] / "docs" / "rest.md").read_text()
NAME = re.compile(r"`([a-z_0-9]+)`")


def listed_after(sentence: str) -> list[str]:
    """The names of the paragraph behind the one that begins so."""
    return NAME.findall(TEXT.split(sentence, 1)[1].split("\n\n")[1])


def ignored(body: type[msgspec.Struct]) -> set[str]:
    """Fields that are any JSON and that nobody looks at."""
    raw = {field.name for field in msgspec.structs.fields(body) if field.default is UNSET}
    return raw - {"json_schema"}


class TestLists:
    def test_what_openais_bodies_ignore(self):
        listed = listed_after("Read and without effect")
        assert listed == sorted(set(listed))
        assert set(listed) == ignored(ChatBody) | ignored(CompletionBody)

    def test_what_llama_cpps_body_ignores_beside_that(self):
        listed = listed_after("and of llama.cpp's")
        assert set(listed) == ignored(LlamaBody) - ignored(ChatBody)

    def test_what_is_refused_by_name(self):
        assert listed_after("Refused by name") == sorted(ENGINE_FIELDS)

    def test_every_wish_of_routing(self):
        table = TEXT.split("## Which providers")[1].split("## Parameters")[0]
        rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
        assert {name for row in rows for name in NAME.findall(row)} == set(ProviderObject.__struct_fields__)
