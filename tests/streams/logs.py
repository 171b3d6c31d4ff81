"""The live logs of subjects: how to follow one, and what the store holds of it."""

from typing import Any

import grpc
from activityfeed.v1 import subscription_service_pb2 as pb
from activityfeed.v1.subscription_service_pb2_grpc import SubscriptionServiceStub

from feedsvc.core import ids, keys
from feedsvc.services.feed_pages import FeedQuery, outbox_resume_scope
from feedsvc.tokens import Tokens
from tests.streams.history import LogEntry, StreamHistory, Subject
from tests.streams.stage import StreamStage

#: The kinds of events, by the field of a log entry.
_KINDS = {b"c": "created", b"a": "added", b"r": "removed", b"f": "followed", b"u": "unfollowed"}


def open_stream(channel: grpc.aio.Channel, subject: Subject, token: str) -> Any:
    """Resume a stream of a subject."""
    stub = SubscriptionServiceStub(channel)
    match subject.kind:
        case "feed":
            feed = pb.SubscribeFeedRequest(user=subject.name, resume_token=token)
            return stub.SubscribeFeed(feed)
        case "outbox":
            outbox = pb.SubscribeActivitiesRequest(entity=subject.name, resume_token=token)
            return stub.SubscribeActivities(outbox)
        case "all":
            return stub.SubscribeAll(pb.SubscribeAllRequest(resume_token=token))


async def read_logs(stage: StreamStage, history: StreamHistory) -> None:
    """Note what the logs hold, and the positions in them that the tokens stand for."""
    tags = keys.tags(stage.limits["shards"])
    tokens = Tokens(await stage.redis.hget(keys.META, "secret"))
    for stream in history.streams:
        subject = stream.subject
        if subject not in history.logs:
            history.logs[subject] = [
                await _read_log(stage, tags[shard], name)
                for shard, name in _logs_of(subject, len(tags))
            ]
        log_count = len(history.logs[subject])
        for token in {stream.token, *(message.token for message in stream.messages)} - {""}:
            positions = tokens.read_log_positions(token, log_count, *_scope_of(subject))
            history.log_positions[subject, token] = positions


def _logs_of(subject: Subject, shards: int) -> list[tuple[int, str]]:
    """Return the shard and the stored name of each log of a subject."""
    match subject.kind:
        case "feed":
            return [(ids.shard_for(subject.name, shards), subject.name)]
        case "outbox":
            return [(ids.shard_for(subject.name, shards), keys.OUTBOX_LOG + subject.name)]
        case "all":
            return [(shard, keys.ALL_LOG) for shard in range(shards)]


def _scope_of(subject: Subject) -> tuple[str, ...]:
    """Return what the service seals into the tokens of a subject."""
    match subject.kind:
        case "feed":
            return FeedQuery(subject.name, "", "flat").resume_scope
        case "outbox":
            return outbox_resume_scope(subject.name, "", "flat")
        case "all":
            return ("all log", "flat")


async def _read_log(stage: StreamStage, tag: str, name: str) -> list[LogEntry]:
    """Return what a log holds in its newest incarnation."""
    incarnation = await stage.redis.hget(f"{tag}t", "incarnation") or b""
    stored = await stage.redis.xrange(f"{tag}l{incarnation.decode()}:{name}")
    entries = []
    for position, fields in stored:
        ((letter, target), *_) = fields.items()
        entries.append(LogEntry(position.decode(), _KINDS[letter], target.decode()))
    return entries
