// GraphQL over HTTP: the reference audits, all of them.
import { serverAudits } from "graphql-http";
import { assert, url } from "./stack.mjs";

const AUDITS = 61;
const results = [];
for (const audit of serverAudits({ url })) results.push(await audit.fn());
for (const result of results.filter((result) => result.status !== "ok")) {
  console.error(`  ${result.status} ${result.id} ${result.name}: ${result.reason}`);
}
const passed = results.filter((result) => result.status === "ok").length;
assert.equal(results.length, AUDITS);
assert.equal(passed, AUDITS);
console.log(`graphql-http: ${passed} of ${AUDITS} audits`);
