"""Configuration: frozen dataclasses, validated when they are made. No repr shows a secret."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path


class ConfigError(ValueError):
    """A setting breaks its rule; the message names the setting and the rule."""


def _bounded(default: float, low: float, high: float, help_text: str) -> int:
    """Return a number field from ``low`` to ``high``. ``--help`` shows ``help_text``."""
    bounded: int = field(
        default=int(default), metadata={"low": low, "high": high, "help": help_text}
    )
    return bounded


class _Validated:
    def __post_init__(self) -> None:
        for setting in dataclasses.fields(self):  # type: ignore[arg-type]
            if "low" not in setting.metadata:
                continue
            value = getattr(self, setting.name)
            low, high = setting.metadata["low"], setting.metadata["high"]
            if not low <= value <= high:
                raise ConfigError(f"{setting.name} must be {low} to {high}, not {value}")


@dataclass(frozen=True, slots=True)
class Limits(_Validated):
    """The limits of the core. All servers and workers of a store must use the same ones."""

    shards: int = _bounded(
        16,
        1,
        256,
        "Groups into which the store divides entities; a power of two. Cannot be changed once the "
        "store is created, so keep the default: a store is one node today, and more than 16 shards "
        "only cost more calls for each delivery.",
    )
    feed_cap: int = _bounded(
        800,
        10,
        4_000,
        "Newest activities of a feed that the store keeps ready to read (a warm feed). Readers can "
        "go on to older activities, which take longer to read.",
    )
    feed_slack: int = _bounded(
        50,
        0,
        1_000,
        "Activities by which a warm feed may exceed --feed-cap before it is trimmed back to "
        "--feed-cap.",
    )
    outbox_cap: int = _bounded(
        1_000,
        10,
        10_000,
        "Newest activities that the outbox of an entity keeps; an activity that no outbox keeps is "
        "deleted. At least --feed-cap plus --feed-slack.",
    )
    feed_ttl: int = _bounded(
        30 * 86_400,
        1,
        366 * 86_400,
        "Seconds after its last read until a warm feed is dropped. The next read makes it again.",
    )
    max_followees: int = _bounded(
        10_000, 1, 100_000, "Entities that one entity may follow. Further follows are refused."
    )
    request_ttl: int = _bounded(
        86_400,
        1,
        30 * 86_400,
        "Seconds for which a repeated request_id gets the answer of the first request and changes "
        "nothing.",
    )
    build_ttl: int = _bounded(
        10,
        1,
        300,
        "Seconds until an unfinished attempt to make a feed warm counts as abandoned, for example "
        "because its process died. A later read then tries again.",
    )
    push_chunk: int = _bounded(
        500,
        1,
        1_000,
        "Followers that one call to the store delivers to at most. Smaller calls delay other "
        "callers less.",
    )
    inline_audience: int = _bounded(
        1_000,
        1,
        100_000,
        "Followers that a publish delivers to before it returns. Workers deliver to the others.",
    )
    step_audience: int = _bounded(
        500,
        0,
        1_000,
        "Followers up to which an activity is delivered in the same step that stores it, which is "
        "the fastest way. 0: never.",
    )
    max_jobs: int = _bounded(
        10_000,
        1,
        10_000_000,
        "Unfinished deliveries of a shard from which a publish is refused with FANOUT_OVERLOADED. "
        "One author alone may have half of them.",
    )
    job_lease: int = _bounded(
        10, 1, 600, "Seconds until a worker takes over a delivery from a process that died."
    )
    job_tries: int = _bounded(
        8,
        1,
        100,
        "Failed attempts without any progress after which a delivery becomes a dead letter: see "
        "`feedsvc dead-letters`.",
    )
    delivery_ttl: int = _bounded(
        600,
        1,
        86_400,
        "Seconds for which the service can say how a delivery by workers ended.",
    )
    celebrity_threshold: int = _bounded(
        10_000,
        0,
        1_000_000_000,
        "Follower count from which an entity is a celebrity: followers read its outbox instead of "
        "being pushed to. 0: no entity is a celebrity.",
    )
    celebrity_lower_percent: int = _bounded(
        80,
        1,
        99,
        "Percent of --celebrity-threshold: a celebrity with fewer followers becomes an ordinary "
        "entity again.",
    )
    max_builds: int = _bounded(
        1_000,
        1,
        100_000,
        "Feeds that one process makes warm at a time. Reads of further feeds merge the outboxes "
        "instead.",
    )
    read_work: int = _bounded(
        2_000,
        100,
        100_000,
        "Activity ids that the server looks at for one page, deleted ones included. A page that "
        "needs more ends early, with a token for the next page.",
    )
    log_cap: int = _bounded(
        1_000,
        10,
        100_000,
        "Events that a live log, from which streams resume, keeps at least. A client that missed "
        "more events has to read the feed again.",
    )
    log_lease: int = _bounded(
        900,
        1,
        86_400,
        "Seconds for which a live log is kept at least after its last stream has ended. A client "
        "that resumes later has to read the feed again.",
    )

    def __post_init__(self) -> None:
        _Validated.__post_init__(self)
        if self.shards & (self.shards - 1):
            raise ConfigError(f"shards must be a power of two, not {self.shards}")
        if self.outbox_cap < self.feed_cap + self.feed_slack:
            raise ConfigError(
                f"outbox_cap ({self.outbox_cap}) must be at least feed_cap + feed_slack "
                f"({self.feed_cap + self.feed_slack}): a warm feed must not keep an activity that "
                "its outbox has dropped"
            )

    @property
    def celebrity_lower(self) -> int:
        """Follower count below which a celebrity becomes an ordinary entity again."""
        return self.celebrity_threshold * self.celebrity_lower_percent // 100


@dataclass(frozen=True, slots=True)
class Config(_Validated):
    """The settings of ``feedsvc serve``."""

    host: str = "127.0.0.1"
    """Address to listen on. Defaults to loopback: the service has no authentication of its own."""
    port: int = _bounded(50051, 0, 65_535, "TCP port to listen on. 0: any free port.")
    redis_url: str | None = field(default=None, repr=False)
    """Address of the store; may hold a password. None: an embedded store in ``data_dir``."""
    data_dir: Path = Path("data")
    """Directory of the embedded store."""
    checkpoint_seconds: float = _bounded(
        15,
        0.01,
        3_600,
        "Seconds between heartbeats on a stream without events; each heartbeat has a new resume "
        "token. At most a third of --log-lease.",
    )
    stream_seconds: float = _bounded(
        3_600,
        1,
        7 * 86_400,
        "Seconds after which the server ends a stream so that its client reconnects; the server "
        "varies them a little.",
    )
    write_seconds: float = _bounded(
        30, 0.1, 3_600, "Seconds after which the server ends a stream whose client does not read."
    )
    max_streams: int = _bounded(
        20_000,
        1,
        1_000_000,
        "Streams that the server serves at a time. It refuses others with TOO_MANY_STREAMS.",
    )
    max_subscriptions: int = _bounded(
        10_000, 1, 1_000_000, "Subscriptions that one SubscribeFeeds stream may have."
    )
    max_request_bytes: int = _bounded(
        4 * 1024 * 1024, 65_536, 64 * 1024 * 1024, "Bytes that one request message may have."
    )
    max_calls: int = _bounded(
        4_096,
        8,
        1_000_000,
        "Calls, without streams, that the server has at a time; one connection may have half of "
        "them. The server refuses others with SERVER_OVERLOADED.",
    )
    caller_work: int = _bounded(
        32,
        1,
        10_000,
        "Calls of one connection that the server works on at a time; a batch counts as 16. The "
        "connection's other calls wait.",
    )
    max_held_bytes: int = _bounded(
        128 * 1024 * 1024,
        1024 * 1024,
        1 << 40,
        "Bytes of requests in memory from which the server refuses batches with SERVER_OVERLOADED.",
    )
    keepalive_seconds: float = _bounded(
        60,
        1,
        7_200,
        "Seconds of silence after which the server pings a connection. It closes a connection that "
        "does not answer.",
    )
    workers: int = _bounded(
        2,
        0,
        16,
        "Calls to the store that the workers in this process make at a time; workers deliver to "
        "large audiences. 0: no workers here, so start `feedsvc worker` as well.",
    )
    drain_seconds: int = _bounded(
        10, 0, 600, "Seconds that a stopping server waits for the calls under way."
    )
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        _Validated.__post_init__(self)
        if self.checkpoint_seconds * 3 > self.limits.log_lease:
            raise ConfigError(
                f"checkpoint_seconds ({self.checkpoint_seconds}) must be at most a third of "
                f"log_lease ({self.limits.log_lease}): a quiet stream keeps its log by reading it "
                "at each checkpoint"
            )
