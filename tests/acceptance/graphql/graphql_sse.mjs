// Server-sent events, distinct connections mode, with its reference client.
import { createClient } from "graphql-sse";
import { CHAT, CHAT_VARIABLES, VIEWER, assert, authorization, checkChat, email, url, within } from "./stack.mjs";

const client = createClient({ url, headers: { Authorization: authorization }, retryAttempts: 0 });
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

const refused = await within(30, client.iterate({ query: "subscription { nothing }" }).next());
assert.equal(refused.value.errors[0].extensions.code, "GRAPHQL_VALIDATION_FAILED");
client.dispose();
console.log("graphql-sse: query, subscription, refusal");
