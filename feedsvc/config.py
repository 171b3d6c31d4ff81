"""Configuration: frozen dataclasses, validated when made. Secrets never appear in their repr."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path


class ConfigError(ValueError):
    """A setting breaks its rule; the message names the setting and the rule."""


def _bounded(default: float, low: float, high: float, why: str) -> int:
    """A number between ``low`` and ``high``; ``why`` says what it is, its unit and its use."""
    bounded: int = field(default=int(default), metadata={"low": low, "high": high, "help": why})
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
    """The bounds within which the core works."""

    shards: int = _bounded(
        16, 1, 256, "groups of entities; a power of two, recorded in the store at creation"
    )
    feed_cap: int = _bounded(800, 10, 4_000, "ids that a warm feed keeps")
    feed_slack: int = _bounded(50, 0, 1_000, "ids over feed_cap before a warm feed is trimmed")
    outbox_cap: int = _bounded(
        1_000, 10, 10_000, "activities an outbox keeps; at least feed_cap + feed_slack"
    )
    feed_ttl: int = _bounded(
        30 * 86_400, 1, 366 * 86_400, "seconds after its last read until a feed goes cold"
    )
    max_followees: int = _bounded(10_000, 1, 100_000, "entities that one entity may follow")
    request_ttl: int = _bounded(86_400, 1, 30 * 86_400, "seconds that a request_id is remembered")
    build_ttl: int = _bounded(10, 1, 300, "seconds after which an unfinished rebuild is given up")
    push_chunk: int = _bounded(
        500, 1, 1_000, "followers that one script call delivers to at the most"
    )
    inline_audience: int = _bounded(
        1_000, 1, 100_000, "followers about whom a publish delivers before it answers"
    )
    step_audience: int = _bounded(
        500,
        0,
        1_000,
        "an activity for up to so many followers is delivered in the step that stores it; "
        "0: none is",
    )
    max_jobs: int = _bounded(
        10_000,
        1,
        10_000_000,
        "deliveries a shard may have waiting before it refuses to publish; one author half",
    )
    job_lease: int = _bounded(
        10, 1, 600, "seconds after which a delivery is taken over from a process that died"
    )
    job_tries: int = _bounded(
        8, 1, 100, "times that a delivery may fail without getting on until it is set aside"
    )
    delivery_ttl: int = _bounded(
        600, 1, 86_400, "seconds for which the end of a delivery by workers is remembered"
    )
    celebrity_threshold: int = _bounded(
        10_000, 0, 1_000_000_000, "followers from which on an entity's are not pushed to; 0: never"
    )
    celebrity_lower_percent: int = _bounded(
        80, 1, 99, "percent of celebrity_threshold below which they are pushed to again"
    )
    max_builds: int = _bounded(
        1_000, 1, 100_000, "cold feeds that one process materialises at a time"
    )
    read_work: int = _bounded(
        2_000, 100, 100_000, "ids that one page may look at before it is cut short"
    )
    log_cap: int = _bounded(1_000, 10, 100_000, "events that a live log keeps at the least")
    log_lease: int = _bounded(
        900, 1, 86_400, "seconds that a live log is written after its last reader, at the least"
    )

    def __post_init__(self) -> None:
        _Validated.__post_init__(self)
        if self.shards & (self.shards - 1):
            raise ConfigError(f"shards must be a power of two, not {self.shards}")
        if self.outbox_cap < self.feed_cap + self.feed_slack:
            raise ConfigError(
                f"outbox_cap ({self.outbox_cap}) must be at least feed_cap + feed_slack "
                f"({self.feed_cap + self.feed_slack}): a warm feed "
                "may hold no id that its outbox has let go"
            )

    @property
    def celebrity_lower(self) -> int:
        """Followers below which a celebrity is one no more."""
        return self.celebrity_threshold * self.celebrity_lower_percent // 100


@dataclass(frozen=True, slots=True)
class Config(_Validated):
    """All that ``feedsvc serve`` can be told."""

    host: str = "127.0.0.1"
    """Address to listen on. Defaults to loopback: the service has no authentication of its own."""
    port: int = _bounded(50051, 0, 65_535, "TCP port to listen on; 0 picks a free one")
    redis_url: str | None = field(default=None, repr=False)
    """Where the store is; may hold a password. None: an embedded store in ``data_dir``."""
    data_dir: Path = Path("data")
    """Where the embedded store keeps its files."""
    checkpoint_seconds: float = _bounded(
        15, 0.01, 3_600, "seconds between checkpoints of a quiet stream"
    )
    stream_seconds: float = _bounded(
        3_600, 1, 7 * 86_400, "seconds after which a stream is ended, so that its client reconnects"
    )
    write_seconds: float = _bounded(
        30, 0.1, 3_600, "seconds after which a stream that its client does not read is ended"
    )
    max_streams: int = _bounded(
        20_000, 1, 1_000_000, "streams that this server serves at a time; more are refused"
    )
    max_subscriptions: int = _bounded(
        10_000, 1, 1_000_000, "subscriptions on one stream of SubscribeFeeds"
    )
    max_request_bytes: int = _bounded(
        4 * 1024 * 1024, 65_536, 64 * 1024 * 1024, "bytes that a request message may have"
    )
    max_calls: int = _bounded(
        4_096,
        8,
        1_000_000,
        "calls, without streams, that the server takes on at a time, half of them from one "
        "connection; it refuses others with SERVER_OVERLOADED",
    )
    caller_work: int = _bounded(
        32,
        1,
        10_000,
        "calls of one connection that the server works on at a time, a batch counted as 16; "
        "others wait for their turn",
    )
    max_held_bytes: int = _bounded(
        128 * 1024 * 1024,
        1024 * 1024,
        1 << 40,
        "bytes of requests in memory from which on the server refuses batches with "
        "SERVER_OVERLOADED",
    )
    keepalive_seconds: float = _bounded(
        60, 1, 7_200, "seconds after which the server asks a quiet connection for a sign of life"
    )
    workers: int = _bounded(
        2, 0, 16, "calls that this process's fan-out workers make at a time; 0: none"
    )
    drain_seconds: int = _bounded(10, 0, 600, "seconds that a stopping server waits for its calls")
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        _Validated.__post_init__(self)
        if self.checkpoint_seconds * 3 > self.limits.log_lease:
            raise ConfigError(
                f"checkpoint_seconds ({self.checkpoint_seconds}) must be at most a third of "
                f"log_lease ({self.limits.log_lease}): a quiet stream keeps its log by reading it"
            )
