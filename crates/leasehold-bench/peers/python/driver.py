"""Drives PyPI python-dynamodb-lock for leasehold's benchmarks.

    python driver.py init    URL TABLE                creates the table, with the package's own helper
    python driver.py cycle   URL TABLE KEY            acquires and releases once
    python driver.py refused URL TABLE KEY DIRECT     tries once while another client, at DIRECT, holds it
    python driver.py drive   URL TABLE SETTINGS       jobs on standard input, as src/drive/work.rs says

All settings are the package's defaults, unless SETTINGS say otherwise; `retry_timeout` is one millisecond for the refused
try only, the nearest that it has to a try without waiting.
"""

import datetime
import json
import os
import sys
import threading
import time

import boto3
import botocore.config
from python_dynamodb_lock.python_dynamodb_lock import DynamoDBLockClient, DynamoDBLockError

PLACE = {
    "region_name": "eu-west-1",
    "aws_access_key_id": "test",
    "aws_secret_access_key": "test",
}


def client(url, table, connections=None, **settings):
    config = connections and botocore.config.Config(max_pool_connections=connections)
    resource = boto3.resource("dynamodb", endpoint_url=url, config=config, **PLACE)
    return DynamoDBLockClient(resource, table_name=table, **settings)


# --- jobs ---


class Log:
    def __init__(self):
        self.guard = threading.Lock()
        self.kept = []

    def add(self, line):
        with self.guard:
            self.kept.append(line)

    def flush(self):
        with self.guard:
            lines, self.kept = self.kept, []
        if lines:
            sys.stdout.write("\n".join(lines) + "\n")
            sys.stdout.flush()

    def flush_for_ever(self):
        while True:
            time.sleep(0.25)
            self.flush()


def work(job, task, locks, waiting, log):
    key = job["key"] if job["keys"] <= 1 else f"{job['key']}/{task % job['keys']}"
    hold = (job["hold_us"] + task * job["hold_step_us"]) / 1e6
    ahead = job["start_ns"] + task * job["start_step_us"] * 1_000 - time.monotonic_ns()
    if ahead > 0:
        time.sleep(ahead / 1e9)
    for turn in range(job["rounds"]):
        asked = time.monotonic_ns()
        try:
            lock = locks.acquire_lock(key, **waiting)
            log.add(f"g {task} {turn} {asked} {time.monotonic_ns()}")
            if job["hold_us"] < 0:
                # Its client keeps it; no thread needs to wait for that.
                return
            if hold > 0:
                time.sleep(hold)
            letting = time.monotonic_ns()
            # Not "best effort", or a failure would not be told.
            lock.release(best_effort=False)
            log.add(f"r {task} {turn} {letting} {time.monotonic_ns()}")
        except Exception as error:
            message = str(error).replace("\n", " ")
            log.add(f"f {task} {turn} {asked} {time.monotonic_ns()} {message}")


def run(job, lockers, waiting, log):
    todo = iter(range(job["tasks"]))
    guard = threading.Lock()

    def worker():
        while True:
            with guard:
                task = next(todo, None)
            if task is None:
                return
            work(job, task, lockers[task % len(lockers)], waiting, log)

    threads = [threading.Thread(target=worker, daemon=True) for _ in range(job["at_once"] or job["tasks"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if job["hold_us"] < 0:
        log.flush()
        threading.Event().wait()
    log.add("done")
    log.flush()


def drive(url, table, settings):
    seconds = lambda name: datetime.timedelta(milliseconds=settings[name])
    names = {"lease_ms": "lease_duration", "heartbeat_ms": "heartbeat_period", "safe_ms": "safe_period"}
    options = {option: seconds(name) for name, option in names.items() if name in settings}
    waits = {"poll_ms": "retry_period", "wait_ms": "retry_timeout"}
    waiting = {option: seconds(name) for name, option in waits.items() if name in settings}
    make = lambda: client(url, table, settings.get("connections"), **options)
    lockers = [make()]
    log = Log()
    threading.Thread(target=log.flush_for_ever, daemon=True).start()
    print("ready", flush=True)

    def serve(line):
        job = json.loads(line)
        while len(lockers) < (job["tasks"] if settings.get("each") else 1):
            lockers.append(make())
        run(job, lockers, waiting, log)

    # In a thread, so that the end of standard input is seen at once.
    for line in sys.stdin:
        threading.Thread(target=serve, args=(line,), daemon=True).start()
    os._exit(0)


def main(mode, url, table, key=None, direct=None):
    if mode == "init":
        DynamoDBLockClient.create_dynamodb_table(
            boto3.client("dynamodb", endpoint_url=url, **PLACE), table_name=table
        )
        return
    if mode == "drive":
        drive(url, table, json.loads(key))
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
