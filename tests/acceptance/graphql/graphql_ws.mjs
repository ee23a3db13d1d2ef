// graphql-transport-ws with its reference client: a query, a subscription, credentials that are wrong.
import { createClient } from "graphql-ws";
import WebSocket from "ws";
import { CHAT, CHAT_VARIABLES, VIEWER, assert, authorization, checkChat, email, within, wsUrl } from "./stack.mjs";

const client = createClient({
  url: wsUrl,
  webSocketImpl: WebSocket,
  connectionParams: { Authorization: authorization },
  retryAttempts: 0,
});
const results = async (payload) => {
  const found = [];
  for await (const result of client.iterate(payload)) {
    assert.equal(result.errors, undefined);
    found.push(result.data);
  }
  return found;
};
const [viewer] = await within(30, results({ query: VIEWER }));
assert.equal(viewer.viewer.user.email, email);
checkChat(await within(60, results({ query: CHAT, variables: CHAT_VARIABLES })));
await client.dispose();

const stranger = createClient({
  url: wsUrl,
  webSocketImpl: WebSocket,
  connectionParams: { Authorization: "Bearer wrong" },
  retryAttempts: 0,
});
await assert.rejects(within(30, stranger.iterate({ query: VIEWER }).next()), (error) => error.code === 4403);
console.log("graphql-ws: query, subscription, refusal");
