// Azurite that ends with whoever started it, however that one ends: the other end of stdin closes with it.
process.stdin.on("error", () => {}).on("close", () => {
  process.kill(process.pid, "SIGTERM");
  setTimeout(() => process.exit(), 2000).unref();
}).resume();
process.stdin.unref();

// Compiling Azurite takes a third of its start. What was compiled is kept beside it.
const { enableCompileCache, flushCompileCache } = require("node:module");
enableCompileCache(`${__dirname}/node_modules/.compiled`);

require("azurite/dist/src/azurite.js");

flushCompileCache();
