// The running stack, and what each check needs of it.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

const credentials = JSON.parse(readFileSync(process.argv[2], "utf8"));
const base = credentials.base_url.replace(/\/$/, "");

export { assert };
export const url = `${base}/graphql`;
export const wsUrl = url.replace(/^http/, "ws");
export const email = credentials.customer.email;
export const authorization = `Bearer ${credentials.customer.token}`;
export const VIEWER = "query Viewer { viewer { user { id email } } }";
export const DEFERRED = `
  query Deferred {
    viewer {
      user { id email }
      ... @defer(label: "later") { organizations(first: 5) { nodes { id name } } }
    }
  }
`;
export const CHAT = `
  subscription Chat($input: ChatCompletionInput!) {
    chatCompletion(input: $input) {
      delta
      finishReason
      usage { tokensPrompt tokensCompletion }
      cost { amount currency }
      userErrors { code message }
    }
  }
`;
export const CHAT_VARIABLES = {
  input: {
    model: "raymart/demo-chat",
    messages: [{ role: "USER", content: "What is the capital of Norway?" }],
    temperature: 0,
  },
};

/** The chunks of one whole answer say what the demo model says, and what it cost. */
export function checkChat(results) {
  const chunks = results.map((result) => result.chatCompletion);
  assert.equal(chunks.map((chunk) => chunk.delta).join(""), "The capital of Norway is Oslo.");
  assert.ok(chunks.length > 3, "the answer came in one piece");
  const last = chunks.at(-1);
  assert.equal(last.finishReason, "STOP");
  assert.ok(last.usage.tokensCompletion > 0);
  assert.ok(Number(last.cost.amount) > 0);
  assert.deepEqual(chunks.flatMap((chunk) => chunk.userErrors), []);
}

/** Fails when `promise` does not settle in time; the clients below would wait for ever. */
export async function within(seconds, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${seconds} s`)), seconds * 1000);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
