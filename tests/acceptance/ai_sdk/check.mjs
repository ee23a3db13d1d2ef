// Vercel's AI SDK with its OpenAI-compatible provider: text, streams, a loop of tools, objects, vectors, errors.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, embedMany, generateObject, generateText, stepCountIs, streamObject, streamText, tool } from "ai";
import { z } from "zod";

import { ANSWER, CHAT, EMBED, PERSON, QUESTION, STORY, TOO_LONG, WEATHER, apiKey, assert, baseURL } from "../shared/demo.mjs";

const provider = createOpenAICompatible({
  name: "raymart", baseURL, apiKey, includeUsage: true, supportsStructuredOutputs: true,
});
const model = provider(CHAT);
const schema = z.object({ name: z.string(), age: z.number().int() });
const common = { model, temperature: 0, maxRetries: 0 };

async function checkText() {
  const reply = await generateText({ ...common, prompt: QUESTION });
  assert.equal(reply.text, ANSWER);
  assert.equal(reply.finishReason, "stop");
  const stream = streamText({ ...common, prompt: QUESTION });
  const pieces = [];
  for await (const piece of stream.textStream) {
    pieces.push(piece);
  }
  assert.equal(pieces.join(""), ANSWER);
  let of = 0;
  for await (const _ of streamText({ ...common, prompt: STORY, maxOutputTokens: 80 }).textStream) of++;
  assert.ok(of > 4, `the story came in ${of} pieces`);
  const usage = await stream.usage;
  assert.equal(usage.inputTokens, reply.usage.inputTokens);
  assert.equal(usage.outputTokens, reply.usage.outputTokens);
  assert.ok(usage.outputTokens > 0);
}

async function checkTools() {
  const called = [];
  const tools = {
    get_weather: tool({
      description: "Weather of a city",
      inputSchema: z.object({ city: z.string() }),
      execute: async ({ city }) => { called.push(city); return "sunny, 20 degrees"; },
    }),
  };
  const reply = await generateText({ ...common, prompt: WEATHER, tools, stopWhen: stepCountIs(2), maxOutputTokens: 40 });
  assert.equal(called[0], "Oslo");
  assert.equal(reply.steps[0].finishReason, "tool-calls");
  assert.equal(reply.steps.length, 2, "its result was not sent back");
  const stream = streamText({ ...common, prompt: WEATHER, tools });
  const found = [];
  for await (const part of stream.fullStream) {
    if (part.type === "tool-call") found.push(part.input);
    assert.notEqual(part.type, "error", String(part.error));
  }
  assert.deepEqual(found, [{ city: "Oslo" }]);
}

async function checkObjects() {
  const made = await generateObject({ ...common, prompt: PERSON, schema });
  assert.deepEqual(made.object, { name: "Ada", age: 36 });
  const stream = streamObject({ ...common, prompt: PERSON, schema });
  let last;
  for await (const partial of stream.partialObjectStream) last = partial;
  assert.deepEqual(last, { name: "Ada", age: 36 });
  assert.deepEqual(await stream.object, { name: "Ada", age: 36 });
}

async function checkVectors() {
  const { embeddings } = await embedMany({ model: provider.textEmbeddingModel(EMBED), values: ["ping", "pong"] });
  assert.deepEqual(embeddings.map((one) => one.length), [128, 128]);
}

async function checkErrors() {
  for (const [wrong, status] of [[{ model: provider("raymart/nothing") }, 404], [{ prompt: TOO_LONG }, 400]]) {
    await assert.rejects(generateText({ ...common, prompt: "ping", ...wrong }), (error) => {
      assert.ok(APICallError.isInstance(error));
      assert.equal(error.statusCode, status);
      assert.equal(error.isRetryable, false);
      assert.ok(JSON.parse(error.responseBody).error.message);
      return true;
    });
  }
}

await checkText();
await checkTools();
await checkObjects();
await checkVectors();
await checkErrors();
console.log("text, streams, a loop of tools, objects, vectors, typed errors");
