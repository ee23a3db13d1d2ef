// Build GraphiQL into ../raymart_graphql/graphiql: one script, its workers and one style sheet, compressed, and the
// licences of what is in them. `npm ci && node build.mjs`; nothing else in the repository needs Node for this page.
import { build } from "esbuild";
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { basename } from "node:path";
import { gzipSync } from "node:zlib";

const OUT = new URL("../raymart_graphql/graphiql/", import.meta.url);
const shared = {
  bundle: true,
  define: { "process.env.NODE_ENV": '"production"' },
  legalComments: "none", // licences.txt has them
  loader: { ".ttf": "dataurl", ".woff2": "dataurl" },
  metafile: true,
  minify: true,
  outdir: "build",
  target: "es2022",
  write: false,
};
const WORKERS = [
  "monaco-editor/esm/vs/editor/editor.worker.js",
  "monaco-editor/esm/vs/language/json/json.worker.js",
  "monaco-graphql/esm/graphql.worker.js",
];
const results = [
  await build({ ...shared, entryPoints: { graphiql: "main.jsx" }, jsx: "automatic" }),
  ...(await Promise.all(
    WORKERS.map((worker) => build({ ...shared, entryPoints: [`node_modules/${worker}`], format: "iife" })),
  )),
];

mkdirSync(OUT, { recursive: true });
for (const file of results.flatMap((result) => result.outputFiles)) {
  // Roboto and Fira Code are most of the style sheet; the reader's own fonts do as well.
  const text = file.text.replace(/@font-face\{[^}]*font\/woff[^}]*\}/g, "");
  writeFileSync(new URL(`${basename(file.path)}.gz`, OUT), gzipSync(text, { level: 9 }));
}

const packages = new Set(
  results
    .flatMap((result) => Object.keys(result.metafile.inputs))
    .map((path) => path.match(/^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//)?.[1])
    .filter(Boolean),
);
const licences = [...packages].sort().map((folder) => {
  const { name, version, license } = JSON.parse(readFileSync(`${folder}/package.json`, "utf8"));
  const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
  const text = file && existsSync(`${folder}/${file}`) ? readFileSync(`${folder}/${file}`, "utf8").trim() : "";
  return `${name} ${version}: ${license}\n\n${text}\n`;
});
writeFileSync(new URL("licences.txt.gz", OUT), gzipSync(licences.join(`\n${"-".repeat(80)}\n\n`), { level: 9 }));
for (const file of readdirSync(OUT)) console.log(file, readFileSync(new URL(file, OUT)).length);
