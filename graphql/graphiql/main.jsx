// GraphiQL for this API: same origin, credentials from its header editor, subscriptions over graphql-transport-ws.
import { createGraphiQLFetcher } from "@graphiql/toolkit";
import { GraphiQL, HISTORY_PLUGIN } from "graphiql";
import "graphiql/style.css";
import { createClient } from "graphql-ws";
import { createRoot } from "react-dom/client";

const ASSETS = "/graphql/assets";
const WORKERS = { json: "json.worker.js", graphql: "graphql.worker.js" };
globalThis.MonacoEnvironment = {
  getWorker: (_id, label) => new Worker(`${ASSETS}/${WORKERS[label] ?? "editor.worker.js"}`),
};

const url = new URL("/graphql", location.href).href;
const authorization = (headers) =>
  Object.entries(headers ?? {}).find(([name]) => name.toLowerCase() === "authorization")?.[1];

// A socket for the credentials that are in the header editor now: they are shown once, when it opens.
const sockets = new Map();
const socketOf = (headers) => {
  const credential = authorization(headers);
  if (!sockets.has(credential)) {
    const options = { url: url.replace(/^http/, "ws"), connectionParams: { Authorization: credential }, retryAttempts: 0 };
    sockets.set(credential, createClient(options));
  }
  return sockets.get(credential);
};
const fetcher = (params, options) =>
  createGraphiQLFetcher({ url, wsClient: socketOf(options?.headers), enableIncrementalDelivery: true })(params, options);

const WELCOME = `# The GraphQL API of this marketplace. Ctrl-Enter runs the operation under the cursor.
# Log in, and put the token into "Headers" below: {"Authorization": "Bearer ..."}

query Models {
  rateLimit { cost remaining }
  models(first: 10) { nodes { id slug name } }
}
`;

createRoot(document.getElementById("graphiql")).render(
  <GraphiQL
    fetcher={fetcher}
    plugins={[HISTORY_PLUGIN]}
    defaultEditorToolsVisibility="headers"
    initialQuery={WELCOME}
    shouldPersistHeaders={false}
  />,
);
