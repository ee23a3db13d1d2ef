"""GraphiQL for browsers: from this host's own files, where it is switched on."""

import gzip
import re

import pytest

from raymart_graphql.ide import ASSETS_DIR
from support.api_server import Api, api_server, control_settings

BROWSER = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


class TestPage:
    async def test_browser_gets_it_and_all_that_it_loads(self, api: Api) -> None:
        page = await api.client.get("/graphql", headers=BROWSER)
        assert page.status_code == 200
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert loaded == ["/graphql/assets/graphiql.css", "/graphql/assets/graphiql.js"]
        for path in (*loaded, "/graphql/assets/editor.worker.js", "/graphql/assets/graphql.worker.js"):
            asset = await api.client.get(path)
            assert asset.status_code == 200
            assert asset.headers["content-encoding"] == "gzip"
            assert len(asset.content) > 100_000
            plain = await api.client.get(path, headers={"accept-encoding": "identity"})
            assert plain.content == asset.content

    async def test_nothing_comes_from_elsewhere(self, api: Api) -> None:
        page = await api.client.get("/graphql", headers=BROWSER)
        assert "http" not in page.text
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "http" not in policy
        assert "unsafe-eval" not in policy
        css = gzip.decompress((ASSETS_DIR / "graphiql.css.gz").read_bytes()).decode()
        assert not re.search(r"url\(\s*[\"']?(?!data:|#)[^)]", css)
        assert "@import" not in css
        for script in ("graphiql.js", "editor.worker.js", "graphql.worker.js", "json.worker.js"):
            text = gzip.decompress((ASSETS_DIR / f"{script}.gz").read_bytes()).decode()
            assert not re.search(r"(unpkg|jsdelivr|esm\.sh|cdnjs|googleapis)", text), script

    @pytest.mark.parametrize(
        ("path", "headers"),
        [
            ("/graphql?query={__typename}", BROWSER),
            ("/graphql", {"accept": "*/*"}),
            ("/graphql", {"accept": "application/json"}),
        ],
    )
    async def test_clients_get_graphql(self, api: Api, path: str, headers: dict[str, str]) -> None:
        answer = await api.client.get(path, headers=headers)
        assert answer.headers["content-type"].startswith("application/json")

    async def test_outside_development_it_is_not_there_unless_switched_on(self, database_url: str) -> None:
        for is_on in (False, True):
            settings = control_settings(database_url, development=False, graphiql=is_on)
            async with api_server(settings) as api:
                page = await api.client.get("/graphql", headers=BROWSER)
                assert (page.status_code == 200) is is_on

    @pytest.mark.parametrize("name", ["nothing.js", "..%2fide.py", "graphiql.js.gz", "%00"])
    async def test_other_files_are_not_served(self, api: Api, name: str) -> None:
        assert (await api.client.get(f"/graphql/assets/{name}")).status_code == 404


class TestAssets:
    def test_they_are_small_and_name_their_licences(self) -> None:
        assert sum(path.stat().st_size for path in ASSETS_DIR.iterdir()) < 2_000_000
        licences = gzip.decompress((ASSETS_DIR / "licences.txt.gz").read_bytes()).decode()
        for package in ("graphiql 5.", "react 19.", "monaco-editor 0.52", "graphql 16.", "prettier 3."):
            assert f"{package}" in licences
        assert "UNLICENSED" not in licences
