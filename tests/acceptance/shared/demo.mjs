// The running stack and what its demo model answers, for the clients of JavaScript.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

const credentials = JSON.parse(readFileSync(process.argv[2], "utf8"));

export { assert };
export const baseURL = `${credentials.base_url.replace(/\/$/, "")}/v1`;
export const apiKey = credentials.customer.api_key;
export const CHAT = "raymart/demo-chat";
export const EMBED = "raymart/demo-embed";
export const IMAGE = "raymart/demo-image";
export const QUESTION = "What is the capital of Norway?";
export const ANSWER = "The capital of Norway is Oslo.";
export const WEATHER = "What is the weather in Oslo?";
export const STORY = "Please tell a story with a cat named Nora.";
export const PERSON = "Return JSON with name and age for Ada, 36.";
export const TOO_LONG = "word ".repeat(3_000);
export const user = (content) => [{ role: "user", content }];
