// urql: it names every media type in each request, reads JSON for queries, parts for @defer, events for subscriptions.
import { Client, fetchExchange, gql } from "@urql/core";
import { CHAT, CHAT_VARIABLES, DEFERRED, VIEWER, assert, authorization, checkChat, email, url, within } from "./stack.mjs";

const client = new Client({
  url,
  exchanges: [fetchExchange],
  fetchSubscriptions: true,
  preferGetMethod: false,
  fetchOptions: { headers: { authorization } },
});
const results = (source) =>
  new Promise((resolve, reject) => {
    const found = [];
    source.subscribe((result) => {
      if (result.error) reject(result.error);
      found.push(result);
      if (!result.hasNext) resolve(found);
    });
  });

const viewer = await within(30, client.query(gql(VIEWER), {}).toPromise());
assert.equal(viewer.error, undefined);
assert.equal(viewer.data.viewer.user.email, email);

const parts = await within(30, results(client.query(gql(DEFERRED), {})));
assert.ok(parts.length > 1, "@defer came in one piece");
assert.equal(parts[0].data.viewer.user.email, email);
assert.ok(parts.at(-1).data.viewer.organizations.nodes.length > 0);

const chunks = await within(60, results(client.subscription(gql(CHAT), CHAT_VARIABLES)));
checkChat(chunks.map((result) => result.data).filter(Boolean));
console.log("urql: query, @defer, subscription over server-sent events");
