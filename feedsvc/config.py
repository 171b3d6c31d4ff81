"""Configuration: frozen dataclasses, validated when they are made. No repr shows a secret.

The metadata of a field are what ``--help`` and docs/settings.md show: ``group``, ``help``, the
bounds ``low`` and ``high``, and the ``unit`` of a number. If the flag of a field is not the field's
name, ``flag`` is the flag's name, and ``former_flag`` its name in earlier versions.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple


class Mention(NamedTuple):
    """A setting as a message mentions it. Its text is its name."""

    name: str
    value: str

    def __str__(self) -> str:
        return self.name


class ConfigError(ValueError):
    """A setting breaks its rule; the message names the setting and the rule."""

    def __init__(self, rule: str, **values: Any) -> None:
        """Say a rule, a format string that mentions settings: ``{port}`` or ``{port.value}``."""
        self._rule, self._values = rule, values
        super().__init__(self.worded(lambda name, value: Mention(name, str(value))))

    def worded(self, mention: Callable[[str, Any], Mention]) -> str:
        """Return the message with other names of settings, which ``mention`` returns."""
        return self._rule.format(
            **{name: mention(name, value) for name, value in self._values.items()}
        )


class Group(StrEnum):
    """A group of settings, in the order of ``--help``."""

    EVERYDAY = "Everyday options"
    FEEDS = "Feeds"
    DELIVERIES = "Deliveries"
    RESUMES = "Resumes and retries"
    STREAMS = "Streams"
    CALLERS = "Limits of callers and connections"
    FOREVER = "Once and for ever"

    @property
    def is_shared(self) -> bool:
        """True if all servers and workers of a store need the same values."""
        return self in {Group.FEEDS, Group.DELIVERIES, Group.RESUMES, Group.FOREVER}


class Unit(StrEnum):
    """The unit of a number."""

    NONE = ""
    SECONDS = "seconds"
    BYTES = "bytes"


def _number(  # noqa: PLR0913 - a setting has these sides
    default: float,
    low: float,
    high: float,
    group: Group,
    help_text: str,
    *,
    unit: Unit = Unit.NONE,
    flag: str | None = None,
    former_flag: str | None = None,
) -> int:
    """Return a number field from ``low`` to ``high``."""
    metadata = {"low": low, "high": high, "group": group, "help": help_text, "unit": unit}
    if flag:
        metadata |= {"flag": flag, "former_flag": former_flag}
    number: int = field(default=int(default), metadata=metadata)
    return number


class _Validated:
    def __post_init__(self) -> None:
        for setting in dataclasses.fields(self):  # type: ignore[arg-type]
            if "low" not in setting.metadata:
                continue
            value = getattr(self, setting.name)
            low, high = setting.metadata["low"], setting.metadata["high"]
            if not low <= value <= high:
                rule = f"{{{setting.name}}} must be {low} to {high}, not {value}"
                raise ConfigError(rule, **{setting.name: value})


@dataclass(frozen=True, slots=True)
class Limits(_Validated):
    """The limits of the core. All servers and workers of a store must use the same ones."""

    feed_cap: int = _number(
        800,
        10,
        4_000,
        Group.FEEDS,
        "Newest activities that the store keeps ready for each feed (a warm feed); pages of "
        "these are the fastest. Raise it if users often scroll further: every feed then takes "
        "more memory. Older activities can be read in any case, only more slowly.",
    )
    feed_slack: int = _number(
        50,
        0,
        1_000,
        Group.FEEDS,
        "Activities that a warm feed may hold beyond --feed-cap before the store cuts it back. A "
        "larger number saves cuts and takes a little more memory. The default suits almost every "
        "service.",
    )
    outbox_cap: int = _number(
        1_000,
        10,
        10_000,
        Group.FEEDS,
        "Newest activities that the store keeps of each user, repository or topic (its outbox); "
        "an activity that no outbox keeps any more is deleted. Raise it for a longer history, "
        "which takes more memory. At least --feed-cap plus --feed-slack.",
    )
    feed_ttl: int = _number(
        30 * 86_400,
        1,
        366 * 86_400,
        Group.FEEDS,
        "Time after its last read until the store drops a warm feed and frees its memory. The "
        "next read makes the feed warm again, which takes longer. Lower it to save memory; raise "
        "it if users come back rarely.",
        unit=Unit.SECONDS,
    )
    max_followees: int = _number(
        10_000,
        1,
        100_000,
        Group.FEEDS,
        "Users, repositories or topics that one user may follow; the server refuses further "
        "follows. Raise it if your users need more: their feeds then take longer to make warm.",
    )
    read_work: int = _number(
        2_000,
        100,
        100_000,
        Group.FEEDS,
        "Activities that the server looks at to fill one page, deleted activities included. A "
        "page that needs more ends early, with a token for the next page. Raise it if clients "
        "get short pages because much was deleted; such reads then take longer.",
    )
    max_builds: int = _number(
        1_000,
        1,
        100_000,
        Group.FEEDS,
        "Feeds that one process makes warm at a time, for example when many users come back at "
        "once. Reads of further feeds are complete too, but slower. Lower it if such a rush "
        "slows down the store.",
    )
    build_ttl: int = _number(
        10,
        1,
        300,
        Group.FEEDS,
        "Time after which another read makes a feed warm, if the process that began to do so "
        "died. Raise it only if the store is so slow that making a feed warm takes longer than "
        "this.",
        unit=Unit.SECONDS,
    )
    inline_audience: int = _number(
        1_000,
        1,
        100_000,
        Group.DELIVERIES,
        "Followers that a publish delivers to before it returns; workers deliver to the others a "
        "little later. Raise it to reach more followers at once; publishes of popular authors "
        "then take longer.",
    )
    step_audience: int = _number(
        500,
        0,
        1_000,
        Group.DELIVERIES,
        "Number of followers up to which the store delivers an activity in the same step that "
        "stores it. This is the fastest way, but all other calls wait for the step: lower it if "
        "publishes delay other calls. 0: never.",
    )
    push_chunk: int = _number(
        500,
        1,
        1_000,
        Group.DELIVERIES,
        "Most followers that one call to the store delivers to. A larger number makes deliveries "
        "faster; with a smaller number, other callers wait less.",
    )
    celebrity_threshold: int = _number(
        10_000,
        0,
        1_000_000_000,
        Group.DELIVERIES,
        "Number of followers from which an author is a celebrity: its activities are not written "
        "to its followers' feeds, and followers read them from its outbox. Lower it if popular "
        "authors delay deliveries; reads then take longer. 0: no celebrities.",
    )
    celebrity_lower_percent: int = _number(
        80,
        1,
        99,
        Group.DELIVERIES,
        "Percent of --celebrity-threshold: a celebrity with fewer followers than this becomes an "
        "ordinary author again. Lower it if authors often change between the two.",
    )
    max_jobs: int = _number(
        10_000,
        1,
        10_000_000,
        Group.DELIVERIES,
        "Unfinished deliveries in one of the --shards from which the server refuses publishes "
        "with FANOUT_OVERLOADED; one author may have half of them. Raise it to accept longer "
        "bursts; feeds may then be further behind.",
    )
    job_lease: int = _number(
        10,
        1,
        600,
        Group.DELIVERIES,
        "Time after which a worker takes over a delivery from a process that died or hangs. "
        "Lower it to repair sooner. If it is too short, workers take deliveries from slow "
        "workers and repeat work; nothing is lost.",
        unit=Unit.SECONDS,
    )
    job_tries: int = _number(
        8,
        1,
        100,
        Group.DELIVERIES,
        "Failed attempts after which a delivery is set aside as a dead letter, for you to replay "
        "or discard with `feedsvc dead-letters`. An attempt that makes progress starts the count "
        "again. Raise it to retry for longer before you have to act.",
    )
    delivery_ttl: int = _number(
        600,
        1,
        86_400,
        Group.DELIVERIES,
        "Time for which a publisher can ask how a delivery by workers ended. Raise it if "
        "publishers ask later; each of these deliveries then takes memory for longer.",
        unit=Unit.SECONDS,
    )
    log_cap: int = _number(
        1_000,
        10,
        100_000,
        Group.RESUMES,
        "Newest events that the store keeps at least for each feed with live streams. A client "
        "that misses more events while it is away has to read the feed again. Raise it if that "
        "happens often; each such feed then takes more memory.",
    )
    log_lease: int = _number(
        900,
        1,
        86_400,
        Group.RESUMES,
        "Time for which the store keeps these events at least after the last stream of a feed "
        "has ended. A client that comes back later has to read the feed again. Raise it if "
        "clients are often away for longer; the events then take memory for longer.",
        unit=Unit.SECONDS,
    )
    request_ttl: int = _number(
        86_400,
        1,
        30 * 86_400,
        Group.RESUMES,
        "Time for which a client can repeat a request: the same request_id gets the first answer "
        "again and changes nothing. Raise it if clients retry for longer; each request_id then "
        "takes memory for longer.",
        unit=Unit.SECONDS,
    )
    shards: int = _number(
        16,
        1,
        256,
        Group.FOREVER,
        "Parts into which the store divides its data; a power of two. Keep the default: more "
        "parts only cost more calls for each delivery, because a store is one node today. A "
        "server or worker with another number than the store's does not start.",
    )

    def __post_init__(self) -> None:
        _Validated.__post_init__(self)
        if self.shards & (self.shards - 1):
            raise ConfigError(
                "{shards} must be a power of two, not {shards.value}", shards=self.shards
            )
        if self.outbox_cap < self.feed_cap + self.feed_slack:
            raise ConfigError(
                "{outbox_cap} ({outbox_cap.value}) must be at least {feed_cap} + {feed_slack} "
                f"({self.feed_cap + self.feed_slack}): a warm feed must not keep an activity that "
                "its outbox has dropped",
                outbox_cap=self.outbox_cap,
                feed_cap=self.feed_cap,
                feed_slack=self.feed_slack,
            )

    @property
    def celebrity_lower(self) -> int:
        """Follower count below which a celebrity becomes an ordinary entity again."""
        return self.celebrity_threshold * self.celebrity_lower_percent // 100


@dataclass(frozen=True, slots=True)
class Config(_Validated):
    """The settings of ``feedsvc serve``."""

    host: str = field(
        default="127.0.0.1",
        metadata={
            "group": Group.EVERYDAY,
            "help": "Address to listen on. The service has no authentication: choose an address "
            "that only trusted programs can reach.",
        },
    )
    port: int = _number(
        50051,
        0,
        65_535,
        Group.EVERYDAY,
        "TCP port to listen on. 0: any free port, which the log names.",
    )
    redis_url: str | None = field(
        default=None,
        repr=False,  # it may hold a password
        metadata={
            "group": Group.EVERYDAY,
            "help": "Address of your store: redis://, rediss:// or unix://, or "
            "redis+sentinel://host,host/service for the primary that Sentinels name. Put an "
            "address with a password into the variable FEEDSVC_REDIS_URL: other users of the "
            "machine can read command lines.",
        },
    )
    """Address of the store. None: an embedded store in ``data_dir``."""
    data_dir: Path = field(
        default=Path("data"),
        metadata={
            "group": Group.EVERYDAY,
            "help": "Directory of the embedded store, which the server starts if you give no "
            "--redis-url. Created if it does not exist.",
        },
    )
    workers: int = _number(
        2,
        0,
        16,
        Group.EVERYDAY,
        "Calls to the store that the background workers of this server make at a time; workers "
        "deliver to large audiences. Raise it if deliveries lag (see `feedsvc fanout`) and the "
        "store is not busy. 0: no workers here, so start `feedsvc worker` as well.",
    )
    drain_seconds: int = _number(
        10,
        0,
        600,
        Group.EVERYDAY,
        "Longest time that a stopping server waits for the calls under way. Keep it below the "
        "time after which your supervisor kills the process.",
        unit=Unit.SECONDS,
        flag="drain_timeout",
        former_flag="drain_seconds",
    )
    max_streams: int = _number(
        20_000,
        1,
        1_000_000,
        Group.STREAMS,
        "Streams that this server has open at a time; it refuses further streams with "
        "TOO_MANY_STREAMS. Raise it if the server has memory to spare; otherwise start another "
        "server.",
    )
    max_subscriptions: int = _number(
        10_000,
        1,
        1_000_000,
        Group.STREAMS,
        "Users whose feeds one SubscribeFeeds stream may follow. Raise it for a gateway that "
        "serves more users over one stream; the stream then takes more memory of the server.",
    )
    checkpoint_seconds: float = _number(
        15,
        0.01,
        3_600,
        Group.STREAMS,
        "Time between two heartbeats on a stream without events; each heartbeat has a new resume "
        "token. Keep it below the idle timeout of your load balancers. At most a third of "
        "--log-lease.",
        unit=Unit.SECONDS,
        flag="heartbeat_interval",
        former_flag="checkpoint_seconds",
    )
    stream_seconds: float = _number(
        3_600,
        1,
        7 * 86_400,
        Group.STREAMS,
        "Age at which the server ends a stream, so that its client reconnects, perhaps to "
        "another server; the server varies the age a little. Lower it to spread clients over new "
        "servers sooner, at the cost of more reconnections.",
        unit=Unit.SECONDS,
        flag="max_stream_age",
        former_flag="stream_seconds",
    )
    write_seconds: float = _number(
        30,
        0.1,
        3_600,
        Group.STREAMS,
        "Time after which the server ends a stream whose client does not read. Raise it for "
        "clients that pause for longer; each may take about 1 MB of the server's memory "
        "meanwhile.",
        unit=Unit.SECONDS,
        flag="write_timeout",
        former_flag="write_seconds",
    )
    max_calls: int = _number(
        4_096,
        8,
        1_000_000,
        Group.CALLERS,
        "Calls that the server accepts at a time, streams not counted; one connection may have "
        "half of them. The server refuses others with SERVER_OVERLOADED. Raise it to let callers "
        "wait longer instead.",
    )
    caller_work: int = _number(
        32,
        1,
        10_000,
        Group.CALLERS,
        "Calls of one connection that the server works on at a time; a batch counts as 16. The "
        "connection's other calls wait. Raise it for a few callers that send much; the calls of "
        "others then wait longer.",
    )
    max_request_bytes: int = _number(
        4 * 1024 * 1024,
        65_536,
        64 * 1024 * 1024,
        Group.CALLERS,
        "Bytes of the largest request that the server accepts. Raise it for larger batches, "
        "which take more memory of the server.",
        unit=Unit.BYTES,
    )
    max_held_bytes: int = _number(
        128 * 1024 * 1024,
        1024 * 1024,
        1 << 40,
        Group.CALLERS,
        "Bytes of requests in memory from which the server refuses batches with "
        "SERVER_OVERLOADED. Lower it on a machine with little memory; raise it if imports are "
        "refused and memory is free.",
        unit=Unit.BYTES,
    )
    keepalive_seconds: float = _number(
        60,
        1,
        7_200,
        Group.CALLERS,
        "Time of silence after which the server pings a connection; it closes a connection that "
        "does not answer. Keep it below the idle timeout of the firewalls between clients and "
        "server.",
        unit=Unit.SECONDS,
        flag="keepalive_interval",
        former_flag="keepalive_seconds",
    )
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        _Validated.__post_init__(self)
        if self.checkpoint_seconds * 3 > self.limits.log_lease:
            raise ConfigError(
                "{checkpoint_seconds} ({checkpoint_seconds.value}) must be at most a third of "
                "{log_lease} ({log_lease.value}): a quiet stream keeps its log by reading it at "
                "each heartbeat",
                checkpoint_seconds=self.checkpoint_seconds,
                log_lease=self.limits.log_lease,
            )
