// Drives npm dynamodb-lock-client for leasehold's benchmarks.
//
//   node driver.js cycle   URL TABLE KEY           acquires and releases once
//   node driver.js refused URL TABLE KEY DIRECT    tries once while another client, at DIRECT, holds it
//   node driver.js drive   URL TABLE SETTINGS      jobs on standard input, as src/drive/work.rs says
//
// Settings are those of the package's README ("fail open" with heartbeats), unless SETTINGS say otherwise; `retryCount: 0`,
// "no retries", only for the refused try, the nearest that it has to a try without waiting.
"use strict";

const { promisify } = require("node:util");
const readline = require("node:readline");
const AWS = require("aws-sdk");
const DynamoDBLockClient = require("dynamodb-lock-client");

const [mode, url, lockTable, key, direct] = process.argv.slice(2);

function documents(endpoint, httpOptions) {
  return new AWS.DynamoDB.DocumentClient({
    region: "eu-west-1",
    endpoint,
    accessKeyId: "test",
    secretAccessKey: "test",
    httpOptions,
  });
}

const acquireWith = (locks) => promisify(locks.acquireLock.bind(locks));

function client(endpoint, settings) {
  return acquireWith(
    new DynamoDBLockClient.FailOpen({
      dynamodb: documents(endpoint),
      lockTable,
      partitionKey: "id",
      heartbeatPeriodMs: 3e3,
      leaseDurationMs: 1e4,
      ...settings,
    }),
  );
}

const release = (lock) => promisify(lock.release.bind(lock))();

// --- jobs ---

// As `fail open` of the README; or, with `closed`, the kind that has no lease and polls with writes. `keep_alive` keeps
// connections, which this SDK does only when told to, and as many as there are tasks.
function locker(settings) {
  const agent = settings.keep_alive ? new (require("node:http").Agent)({ keepAlive: true, maxSockets: 2000 }) : undefined;
  const dynamodb = documents(url, agent && { agent });
  if (settings.closed) {
    return acquireWith(
      new DynamoDBLockClient.FailClosed({
        dynamodb,
        lockTable,
        partitionKey: "id",
        acquirePeriodMs: settings.poll_ms,
        retryCount: settings.retries,
      }),
    );
  }
  const config = {
    dynamodb,
    lockTable,
    partitionKey: "id",
    heartbeatPeriodMs: settings.heartbeat_ms ?? 3e3,
    leaseDurationMs: settings.lease_ms ?? 1e4,
  };
  if (settings.retries !== undefined) config.retryCount = settings.retries;
  if (settings.trust) config.trustLocalTime = true;
  return acquireWith(new DynamoDBLockClient.FailOpen(config));
}

const now = () => process.hrtime.bigint();
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

let kept = [];
function flush() {
  if (kept.length > 0) process.stdout.write(kept.join("\n") + "\n");
  kept = [];
}

async function work(job, task, acquire, places) {
  const name = job.keys <= 1 ? job.key : `${job.key}/${task % job.keys}`;
  const holdMs = (job.hold_us + task * job.hold_step_us) / 1e3;
  const ahead = BigInt(job.start_ns) + BigInt(task * job.start_step_us) * 1000n - now();
  if (ahead > 0n) await sleep(Number(ahead) / 1e6);
  for (let round = 0; round < job.rounds; round++) {
    await places.take();
    const asked = now();
    let inside = false;
    try {
      const lock = await acquire(name);
      inside = true;
      kept.push(`g ${task} ${round} ${asked} ${now()}`);
      places.give();
      // Without a listener a failed heartbeat would end the process.
      lock.on("error", (error) => kept.push(`f ${task} ${round} ${asked} ${now()} heartbeat: ${error.message}`));
      if (job.hold_us < 0) await new Promise(() => {});
      if (holdMs > 0) await sleep(holdMs);
      const letting = now();
      await release(lock);
      kept.push(`r ${task} ${round} ${letting} ${now()}`);
    } catch (error) {
      if (!inside) places.give();
      kept.push(`f ${task} ${round} ${asked} ${now()} ${String(error.message).replaceAll("\n", " ")}`);
    }
  }
}

function semaphore(free) {
  const waiting = [];
  return {
    take: async () => {
      if (free > 0) free--;
      else await new Promise((go) => waiting.push(go));
    },
    give: () => {
      const next = waiting.shift();
      if (next) next();
      else free++;
    },
  };
}

async function drive(settings) {
  const lockers = [locker(settings)];
  setInterval(flush, 250);
  const lines = readline.createInterface({ input: process.stdin });
  lines.on("close", () => process.exit(0));
  process.stdout.write("ready\n");
  lines.on("line", async (line) => {
    const job = JSON.parse(line);
    const wanted = settings.each ? job.tasks : 1;
    while (lockers.length < wanted) lockers.push(locker(settings));
    const places = semaphore(job.at_once || job.tasks);
    const tasks = Array.from({ length: job.tasks }, (_, task) => work(job, task, lockers[task % lockers.length], places));
    await Promise.all(tasks);
    kept.push("done");
    flush();
  });
}

async function main() {
  if (mode === "drive") {
    await drive(JSON.parse(key));
    return;
  }
  if (mode === "cycle") {
    await release(await client(url)(key));
    return;
  }
  const held = await client(direct)(key);
  try {
    const lock = await client(url, { retryCount: 0 })(key);
    await release(lock);
    throw new Error("acquired a lock that is held");
  } catch (error) {
    if (error.code !== "FailedToAcquireLock") throw error;
  }
  await release(held);
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
