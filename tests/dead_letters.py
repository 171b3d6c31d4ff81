"""Dead letters as jobs leave them that failed for good."""

from feedsvc.core import ids, keys
from feedsvc.core.job import Job, Kind
from tests.serving import Service

ERROR = "ResponseError: it was not to be"
SINCE_MS = 1_700_000_000_123
#: The id of an activity that does not exist, in the first shard.
MISSING_ACTIVITY_ID = 1_898_765_432_109_876_480


async def store_dead_letters(service: Service, count: int, *jobs: Job) -> list[str]:
    """Store `count` dead letters, the last of them of the given jobs.

    Return their ids in the order in which the service lists them.
    """
    shards = service.server.config.limits.shards
    deliveries = [
        Job(Kind.DELIVER, MISSING_ACTIVITY_ID + number % 3, "alice")
        for number in range(count - len(jobs))
    ]
    letters = []
    for number, job in enumerate((*deliveries, *jobs)):
        is_flip = job.kind is Kind.FLIP
        shard = ids.shard_for(job.actor, shards) if is_flip else ids.shard_of(job.subject)
        fields: dict[str, object] = {
            "job": job.encode(),
            "since": SINCE_MS,
            "at": "",
            "feeds": number,
            "cold": 2,
            "seen": number + 2,
            "audience": 50,
            "tries": 8,
            "error": ERROR,
        }
        key = keys.dead(keys.tags(shards)[shard])
        entry = await service.store.xadd(key, fields)  # type: ignore[arg-type]
        letters.append((shard, number, f"{shard}-{entry.decode()}"))
    return [letter_id for _, _, letter_id in sorted(letters)]
