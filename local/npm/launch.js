// Azurite that ends with whoever started it, however that one ends: the other end of stdin closes with it.
process.stdin.on("error", () => {}).on("close", () => {
  process.kill(process.pid, "SIGTERM");
  setTimeout(() => process.exit(), 2000).unref();
}).resume();
process.stdin.unref();

// Compiling Azurite takes a third of its start. What was compiled is kept beside it.
const { enableCompileCache, flushCompileCache } = require("node:module");
enableCompileCache(`${__dirname}/node_modules/.compiled`);

// Every ten minutes it collects garbage, and answers nobody meanwhile: for minutes, where much was written. Here nothing
// runs for so long that it must.
for (const service of ["blob", "queue"]) {
  require(`azurite/dist/src/${service}/utils/constants`).DEFAULT_GC_INTERVAL_MS = 2 ** 31 - 1;
}

require("azurite/dist/src/azurite.js");

flushCompileCache();
