"""A node of Oban for Python that a test tells what to do: a JSON object a line in, one a line out."""

import asyncio
import json
import sys

from oban import Cancel, Job, Oban, worker
from oban._notifier import decode_payload, encode_payload
from oban.schema import install

def say(**what):
    print(json.dumps(what), flush=True)


@worker(queue="python", max_attempts=3)
class Echo:
    async def process(self, job):
        say(event="started", id=job.id)
        while job.args.get("do") == "hold":
            if job.cancelled():
                say(event="cancelled", id=job.id)
                return Cancel("asked to")
            await asyncio.sleep(0.02)
        say(event="finished", id=job.id, args=job.args)


async def answer(oban, command):
    match command["do"]:
        case "enqueue":
            job = Job(worker=command["worker"], queue=command["queue"], args=command["args"])
            return {"id": (await oban.enqueue(job)).id}
        case "cancel":
            await oban.cancel_job(command["id"])
        case "pause":
            await oban.pause_queue(command["queue"])
        case "resume":
            await oban.resume_queue(command["queue"])
        case "scale":
            await oban.scale_queue(queue=command["queue"], limit=command["limit"])
        case "check":
            check = oban.check_queue("python")
            return {"paused": check.paused, "limit": check.limit}
        case "encode":
            return {"payload": encode_payload(command["json"])}
        case "decode":
            return {"json": decode_payload(command["payload"])}
    return {}


async def main(dsn):
    pool = await Oban.create_pool(dsn)
    await install(pool)
    # No poll: what is not told is not found.
    options = {"queues": {"python": 5}, "metrics": True, "stager": {"interval": 3600.0}, "node": "python-1"}
    async with Oban(pool=pool, **options) as oban:
        say(event="ready")
        while line := await asyncio.to_thread(sys.stdin.readline):
            try:
                say(event="answer", **await answer(oban, json.loads(line)))
            except Exception as error:  # told to the test, which fails with it
                say(event="answer", error=repr(error))
    await pool.close()


asyncio.run(main(sys.argv[1]))
