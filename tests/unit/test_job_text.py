"""Lua and Python read and write the text of a job alike."""

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from feedsvc.core import scripts
from feedsvc.core.job import Job, Kind

LIBRARY = scripts.libraries()["job_text"]
WRITE = """
    local kind, subject, actor, is_addressed, external_id = unpack(ARGV, 1, 5)
    local RECIPIENTS = 6
    return job_text(kind, subject, actor, is_addressed == '1', ARGV, RECIPIENTS,
      external_id ~= '' and external_id or nil)
"""
WRITE_FLIP = "return job_flip_text(ARGV[1], tonumber(ARGV[2]))"
READ = """
    local text = ARGV[1]
    local entity, epoch = job_flip(text)
    return {job_kind(text), job_name(text), job_author(text), job_addressee(text),
      job_has_outboxes(text) and 1 or 0, entity or '', epoch or 0}
"""
ID = 1_700_000_000_000_000_000
JOBS = [
    Job(Kind.DELIVER, ID, "alice"),
    Job(Kind.DELIVER, ID, "alice", to=("repo:x", "repo:é")),
    Job(Kind.DELIVER, ID, "", to=("repo:x",), publisher="alice"),
    Job(Kind.RETRACT, ID, "alice"),
    Job(Kind.RETRACT, ID, "alice", to=("repo:x",), external_id="cc/7"),
    Job(Kind.RETRACT, ID, "", to=("repo:x",), publisher="alice", external_id="7"),
]
FLIP = Job(Kind.FLIP, 12, "alice")


@pytest.fixture
def client(store_url: str) -> Iterator["redis.Redis"]:
    with redis.Redis.from_url(store_url, protocol=2) as client:
        yield client


def call(client: "redis.Redis", script: str, *arguments: Any) -> Any:
    return client.eval(scripts.assembled(script, LIBRARY, {}), 0, *arguments)


@pytest.mark.parametrize("job", JOBS)
def test_lua_writes_the_text_that_python_reads(client: "redis.Redis", job: Job) -> None:
    text = call(
        *(client, WRITE, job.kind.value, job.subject, job.author, int(bool(job.actor))),
        *(job.external_id, *job.to),
    )
    assert text.decode() == job.encode()
    assert Job.decode(text) == job


@pytest.mark.parametrize("job", [*JOBS, FLIP])
def test_lua_reads_the_text_that_python_writes(client: "redis.Redis", job: Job) -> None:
    kind, name, author, addressee, has_outboxes, entity, epoch = call(client, READ, job.encode())
    assert kind.decode() == job.kind.value
    assert name.decode() == job.name
    assert author.decode() == job.author
    assert (addressee.decode() == job.author) == bool(job.actor)
    assert has_outboxes == bool(job.to or job.external_id)
    is_flip = job.kind is Kind.FLIP
    assert (entity.decode(), epoch) == ((job.actor, job.subject) if is_flip else ("", 0))


def test_lua_writes_the_text_of_a_flip(client: "redis.Redis") -> None:
    assert call(client, WRITE_FLIP, FLIP.actor, FLIP.subject).decode() == FLIP.encode()
