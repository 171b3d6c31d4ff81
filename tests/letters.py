"""Dead letters, as jobs that failed for good leave them."""

from feedsvc.core import ids, keys
from feedsvc.core.job import Job, Kind
from tests.serving import Service

ERROR = "ResponseError: it was not to be"
SINCE_MS = 1_700_000_000_123
#: An activity that is not there, in the first shard.
SUBJECT = 1_898_765_432_109_876_480


async def plant(service: Service, count: int, *jobs: Job) -> list[str]:
    """Stores so many dead letters, the last of these jobs; their ids, as they are listed."""
    shards = service.server.config.limits.shards
    plain = [Job(Kind.DELIVER, SUBJECT + n % 3, "alice") for n in range(count - len(jobs))]
    found = []
    for number, job in enumerate((*plain, *jobs)):
        flips = job.kind is Kind.FLIP
        shard = ids.shard_for(job.actor, shards) if flips else ids.shard_of(job.subject)
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
        found.append((shard, number, f"{shard}-{entry.decode()}"))
    return [letter for _, _, letter in sorted(found)]
