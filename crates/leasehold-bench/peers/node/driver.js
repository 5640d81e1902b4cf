// Drives npm dynamodb-lock-client for `cargo xtask bench units`.
//
//   node driver.js cycle   URL TABLE KEY           acquires and releases once
//   node driver.js refused URL TABLE KEY DIRECT    tries once while another client, at DIRECT, holds it
//
// Settings are those of the package's README ("fail open" with heartbeats); `retryCount: 0`, "no
// retries", only for the refused try, the nearest that it has to a try without waiting.
"use strict";

const { promisify } = require("node:util");
const AWS = require("aws-sdk");
const DynamoDBLockClient = require("dynamodb-lock-client");

const [mode, url, lockTable, key, direct] = process.argv.slice(2);

function client(endpoint, settings) {
  const dynamodb = new AWS.DynamoDB.DocumentClient({
    region: "eu-west-1",
    endpoint,
    accessKeyId: "test",
    secretAccessKey: "test",
  });
  const locks = new DynamoDBLockClient.FailOpen({
    dynamodb,
    lockTable,
    partitionKey: "id",
    heartbeatPeriodMs: 3e3,
    leaseDurationMs: 1e4,
    ...settings,
  });
  return promisify(locks.acquireLock.bind(locks));
}

const release = (lock) => promisify(lock.release.bind(lock))();

async function main() {
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
