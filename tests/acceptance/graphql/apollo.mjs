// Apollo Client: queries, persisted queries, @defer in both drafts' formats, subscriptions over graphql-transport-ws.
import { createHash } from "node:crypto";
import { ApolloClient, ApolloLink, HttpLink, InMemoryCache, gql } from "@apollo/client";
import { Defer20220824Handler, GraphQL17Alpha9Handler } from "@apollo/client/incremental";
import { PersistedQueryLink } from "@apollo/client/link/persisted-queries";
import { GraphQLWsLink } from "@apollo/client/link/subscriptions";
import { createClient } from "graphql-ws";
import WebSocket from "ws";
import {
  CHAT, CHAT_VARIABLES, DEFERRED, VIEWER, assert, authorization, checkChat, email, url, within, wsUrl,
} from "./stack.mjs";

const http = (fetcher = fetch) => new HttpLink({ uri: url, headers: { authorization }, fetch: fetcher });
const make = (link, incrementalHandler) =>
  new ApolloClient({ link, cache: new InMemoryCache(), ...(incrementalHandler && { incrementalHandler }) });

const plain = make(http());
const viewer = await within(30, plain.query({ query: gql(VIEWER) }));
assert.equal(viewer.data.viewer.user.email, email);

const sent = [];
const watching = (input, init) => {
  sent.push(JSON.parse(init.body));
  return fetch(input, init);
};
const hashed = make(
  ApolloLink.from([
    new PersistedQueryLink({ sha256: (text) => createHash("sha256").update(text).digest("hex") }),
    http(watching),
  ]),
);
const unique = `query Persisted${Date.now()} { viewer { user { id email } } }`;
for (let time = 0; time < 2; time += 1) {
  const found = await within(30, hashed.query({ query: gql(unique), fetchPolicy: "network-only" }));
  assert.equal(found.data.viewer.user.email, email);
}
// Asked by hash, sent whole because it was not known, asked by hash again.
assert.deepEqual(sent.map((body) => "query" in body), [false, true, false]);

for (const handler of [new GraphQL17Alpha9Handler(), new Defer20220824Handler()]) {
  const client = make(http(), handler);
  const states = await within(
    30,
    new Promise((resolve, reject) => {
      const seen = [];
      client.watchQuery({ query: gql(DEFERRED), fetchPolicy: "network-only" }).subscribe({
        next: (result) => {
          if (result.error) reject(result.error);
          seen.push(result);
          if (result.dataState === "complete") resolve(seen);
        },
        error: reject,
      });
    }),
  );
  const first = states.find((state) => state.dataState === "streaming");
  assert.ok(first, "no part came before the whole");
  assert.equal(first.data.viewer.user.email, email);
  assert.equal(first.data.viewer.organizations, undefined);
  assert.ok(states.at(-1).data.viewer.organizations.nodes.length > 0);
}

const socket = createClient({ url: wsUrl, webSocketImpl: WebSocket, connectionParams: { Authorization: authorization } });
const live = make(new GraphQLWsLink(socket));
const chunks = await within(
  60,
  new Promise((resolve, reject) => {
    const found = [];
    live.subscribe({ query: gql(CHAT), variables: CHAT_VARIABLES }).subscribe({
      next: (result) => (result.error ? reject(result.error) : found.push(result.data)),
      error: reject,
      complete: () => resolve(found),
    });
  }),
);
checkChat(chunks);
await socket.dispose();
console.log("Apollo Client: query, persisted query, @defer in two formats, subscription");
