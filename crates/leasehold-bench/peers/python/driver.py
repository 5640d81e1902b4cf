"""Drives PyPI python-dynamodb-lock for `cargo xtask bench units`.

    python driver.py init    URL TABLE                creates the table, with the package's own helper
    python driver.py cycle   URL TABLE KEY            acquires and releases once
    python driver.py refused URL TABLE KEY DIRECT     tries once while another client, at DIRECT, holds it

All settings are the package's defaults; `retry_timeout` is one millisecond for the refused try only, the nearest that it
has to a try without waiting.
"""

import datetime
import sys

import boto3
from python_dynamodb_lock.python_dynamodb_lock import DynamoDBLockClient, DynamoDBLockError

PLACE = {
    "region_name": "eu-west-1",
    "aws_access_key_id": "test",
    "aws_secret_access_key": "test",
}


def client(url, table):
    resource = boto3.resource("dynamodb", endpoint_url=url, **PLACE)
    return DynamoDBLockClient(resource, table_name=table)


def main(mode, url, table, key=None, direct=None):
    if mode == "init":
        DynamoDBLockClient.create_dynamodb_table(
            boto3.client("dynamodb", endpoint_url=url, **PLACE), table_name=table
        )
        return
    locks = client(url, table)
    if mode == "cycle":
        lock = locks.acquire_lock(key)
        lock.release()
    else:
        holder = client(direct, table)
        held = holder.acquire_lock(key)
        try:
            locks.acquire_lock(key, retry_timeout=datetime.timedelta(milliseconds=1))
            raise SystemExit("acquired a lock that is held")
        except DynamoDBLockError as error:
            if error.code != DynamoDBLockError.ACQUIRE_TIMEOUT:
                raise
        held.release()
        holder.close()
    locks.close()


main(*sys.argv[1:])
