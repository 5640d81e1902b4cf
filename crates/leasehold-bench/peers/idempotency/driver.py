"""Calls a function once through PyPI aws-lambda-powertools or idemkit, for leasehold's benchmarks.

    python driver.py WHO URL TABLE KEY WORK_MS EFFECTS AHEAD_S KEEP_S LEASE_S

WHO is `powertools` or `idemkit`. The function appends a line to the file EFFECTS and works for WORK_MS. The clocks of this
process are AHEAD_S ahead. The result is kept for KEEP_S. LEASE_S is idemkit's lease, with its heartbeat, and what is left of
the Lambda invocation for Powertools, which replaces a dead run after that. Prints one JSON object.
"""

import asyncio
import json
import os
import sys
import time

import boto3
import botocore.config
import time_machine

who, url, table, key, work_ms, effects, ahead, keep, lease = sys.argv[1:]
PLACE = {
    "region_name": "eu-west-1",
    "aws_access_key_id": "test",
    "aws_secret_access_key": "test",
}


def work():
    with open(effects, "a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(int(work_ms) / 1e3)
    return f"by {os.getpid()}"


def powertools():
    from aws_lambda_powertools.utilities.idempotency import (
        DynamoDBPersistenceLayer,
        IdempotencyConfig,
        idempotent_function,
    )

    class Invocation:
        function_name = "bench"
        aws_request_id = "1"

        def get_remaining_time_in_millis(self):
            return int(float(lease) * 1e3)

    os.environ.setdefault("AWS_LAMBDA_FUNCTION_NAME", "bench")
    store = DynamoDBPersistenceLayer(
        table_name=table,
        boto3_client=boto3.client("dynamodb", endpoint_url=url, **PLACE),
    )
    config = IdempotencyConfig(expires_after_seconds=int(float(keep)))
    config.register_lambda_context(Invocation())

    @idempotent_function(data_keyword_argument="key", persistence_store=store, config=config)
    def once(key):
        return work()

    return lambda: once(key=key)


def idemkit():
    from idemkit.backends.dynamodb import DynamoBackend
    from idemkit.core.events import EventEmitter
    from idemkit.core.runner import IdempotentCore, RunStatus, StoredResult

    async def call():
        backend = DynamoBackend(table=table, endpoint_url=url, create_table=False, **PLACE)
        core = IdempotentCore(
            backend,
            emitter=EventEmitter([]),
            backend_name="dynamodb",
            lease_ttl_seconds=float(lease),
            expires_after_seconds=float(keep),
        )

        async def handler():
            return await asyncio.to_thread(work)

        def encode(value):
            return StoredResult(blob=value.encode(), meta={}, marker=200)

        result = await core.run_once(key, "same", handler, encode=encode, heartbeat=True)
        await backend.aclose()
        if result.status in (RunStatus.EXECUTED, RunStatus.REPLAYED):
            return result.stored.blob.decode()
        raise RuntimeError(result.status.value)

    return lambda: asyncio.run(call())


def main():
    call = {"powertools": powertools, "idemkit": idemkit}[who]()
    started = time.monotonic()
    try:
        answer = {"result": call()}
    except Exception as error:  # Whatever the caller would get.
        answer = {"error": f"{type(error).__name__}: {error}"[:120]}
    answer["own"] = answer.get("result") == f"by {os.getpid()}"
    answer["ms"] = round((time.monotonic() - started) * 1e3)
    print(json.dumps(answer), flush=True)


if float(ahead):
    with time_machine.travel(time.time() + float(ahead), tick=True):
        main()
else:
    main()
