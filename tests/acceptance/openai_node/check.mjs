// OpenAI's own client for JavaScript: answers, streams, tools, JSON schema by zod, vectors, pictures, typed errors.
import OpenAI from "openai";
import { zodFunction, zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

import { ANSWER, CHAT, EMBED, IMAGE, PERSON, QUESTION, STORY, TOO_LONG, WEATHER, apiKey, assert, baseURL, user } from "../shared/demo.mjs";

const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const Person = z.object({ name: z.string(), age: z.number().int() });
const tool = zodFunction({ name: "get_weather", description: "Weather of a city", parameters: z.object({ city: z.string() }) });

async function checkAnswers() {
  const asked = { model: CHAT, messages: user(QUESTION), temperature: 0 };
  const reply = await client.chat.completions.create(asked);
  assert.equal(reply.choices[0].message.content, ANSWER);
  const chunks = [];
  for await (const chunk of await client.chat.completions.create({ ...asked, stream: true, stream_options: { include_usage: true } })) {
    chunks.push(chunk);
  }
  assert.equal(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join(""), ANSWER);
  assert.equal(chunks.at(-1).usage.total_tokens, reply.usage.total_tokens);
  const helper = client.chat.completions.stream(asked);
  assert.equal(await helper.finalContent(), ANSWER);
}

async function checkLeaving() {
  const stream = await client.chat.completions.create({
    model: CHAT, messages: user(STORY), stream: true,
  });
  let pieces = 0;
  for await (const _ of stream) {
    if (++pieces === 5) break; // The client closes the connection; that must not break the next request.
  }
  assert.equal(pieces, 5, "the story came in one piece");
  assert.equal((await client.models.list()).data.some((model) => model.id === CHAT), true);
}

async function checkStructured() {
  const parsed = await client.chat.completions.parse({
    model: CHAT, messages: user(PERSON), temperature: 0, response_format: zodResponseFormat(Person, "person"),
  });
  assert.deepEqual(parsed.choices[0].message.parsed, { name: "Ada", age: 36 });
}

async function checkTools() {
  const asked = { model: CHAT, messages: user(WEATHER), temperature: 0, tools: [tool] };
  const parsed = await client.chat.completions.parse(asked);
  assert.equal(parsed.choices[0].finish_reason, "tool_calls");
  assert.deepEqual(parsed.choices[0].message.tool_calls[0].function.parsed_arguments, { city: "Oslo" });
  const final = await client.chat.completions.stream(asked).finalChatCompletion();
  assert.deepEqual(final.choices[0].message.tool_calls[0].function.parsed_arguments, { city: "Oslo" });
  // `runTools` calls the function itself and sends its result back.
  const called = [];
  const runner = client.chat.completions.runTools(
    {
      model: CHAT, messages: user(WEATHER), temperature: 0, max_tokens: 40,
      tools: [{
        type: "function",
        function: {
          name: "get_weather", description: "Weather of a city", parse: JSON.parse,
          function: ({ city }) => { called.push(city); return "sunny, 20 degrees"; },
          parameters: { type: "object", properties: { city: { type: "string" } } },
        },
      }],
    },
    { maxChatCompletions: 2 },
  );
  await runner.done();
  assert.equal(called[0], "Oslo");
  assert.ok(runner.messages.some((message) => message.role === "tool" && message.content.startsWith("sunny")));
}

async function checkVectorsAndPictures() {
  const made = await client.embeddings.create({ model: EMBED, input: ["ping", "pong"] });
  assert.deepEqual(made.data.map((one) => one.embedding.length), [128, 128]);
  const numbers = await client.embeddings.create({ model: EMBED, input: "ping", encoding_format: "float" });
  made.data[0].embedding.forEach((value, at) => assert.ok(Math.abs(value - numbers.data[0].embedding[at]) < 1e-5));
  const image = await client.images.generate({
    model: IMAGE, prompt: "a large red circle on a white background", size: "64x64", response_format: "b64_json",
  });
  assert.equal(Buffer.from(image.data[0].b64_json, "base64").subarray(1, 4).toString(), "PNG");
}

async function checkErrors() {
  const asked = { model: CHAT, messages: user("ping") };
  await assert.rejects(new OpenAI({ baseURL, apiKey: "rm_live_wrong", maxRetries: 0 }).models.list(), OpenAI.AuthenticationError);
  await assert.rejects(client.chat.completions.create({ ...asked, model: "raymart/nothing" }), OpenAI.NotFoundError);
  for (const [wrong, param] of [[{ temperature: 9 }, "temperature"], [{ messages: user(TOO_LONG) }, "messages"]]) {
    await assert.rejects(client.chat.completions.create({ ...asked, ...wrong }), (error) => {
      assert.ok(error instanceof OpenAI.BadRequestError);
      assert.equal(error.param, param);
      assert.match(error.requestID, /^req_/);
      return true;
    });
  }
}

await checkAnswers();
await checkLeaving();
await checkStructured();
await checkTools();
await checkVectorsAndPictures();
await checkErrors();
console.log("answers, streams, tools, JSON schema, vectors, pictures, typed errors");
