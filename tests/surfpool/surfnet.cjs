// Runs surfpool, offline, until standard input ends. Prints one line of JSON: where it answers.
const { Surfnet } = require("@solana/surfpool-linux-x64-gnu");

const slotTimeMs = Number(process.argv[2] ?? 400);
const surfnet = Surfnet.startWithConfig({ offline: true, blockProductionMode: "clock", slotTimeMs });
console.log(JSON.stringify({ rpc: surfnet.rpcUrl, ws: surfnet.wsUrl }));

// Its events go into a channel of fixed size: undrained, it stops answering after about a thousand slots.
const drain = setInterval(() => surfnet.drainEvents(), 50);
process.stdin.resume();
process.stdin.on("end", () => {
  clearInterval(drain);
  surfnet.stop();
  process.exit(0);
});
