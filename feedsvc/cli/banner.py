"""The banner of a server or a worker that is ready: what it works on, and the command to try next.

The banner goes to stderr, beside the log, with one value a line. A file gets plain text.
"""

import ipaddress
import os
import shutil
import sys
from pathlib import Path

from rich.text import Text

from feedsvc import listening
from feedsvc.cli.rendering import console, plain, print_lines
from feedsvc.config import Config
from feedsvc.core import address
from feedsvc.process import Survey
from feedsvc.server_status import VERSION

#: Columns of the names of values, with the space around them.
NAME_COLUMNS = 15
#: Columns that a value may take before it goes to a line of its own, so that the banner has 60.
VALUE_COLUMNS = 60 - NAME_COLUMNS

Row = tuple[str, str]


def print_banner(doing: str, rows: list[Row]) -> None:
    """Print a banner to stderr: what the process does, and a row for each value."""
    out = console(stderr=True)
    print_lines(out, Text.assemble((f"feedsvc {VERSION}", "bold"), f" {doing}"), indent=0)
    for name, value in rows:
        line = Text.assemble((f"  {name}".ljust(NAME_COLUMNS), "dim"), plain(value))
        print_lines(out, line, indent=NAME_COLUMNS)


def server_rows(config: Config, port: int, survey: Survey) -> list[Row]:
    """Return the rows of a server's banner."""
    return [
        ("listens on", listening.address_of(config.host, port)),
        *store_rows(config, survey),
        ("shards", str(config.limits.shards)),
        ("workers", str(config.workers)),
        ("try next", f"{program()} tail alice{server_option(config.host, port)}"),
    ]


def worker_rows(config: Config, survey: Survey) -> list[Row]:
    """Return the rows of a worker's banner."""
    return [
        *store_rows(config, survey),
        ("shards", str(config.limits.shards)),
        ("workers", str(config.workers)),
        ("try next", f"{program()} fanout"),
    ]


def store_rows(config: Config, survey: Survey) -> list[Row]:
    """Return the rows about the store. They hold no password."""
    facts = survey.facts
    product = f"{facts.product} {facts.version}" if facts else "does not answer"
    if config.redis_url is None:
        rows = [("store", f"{product}, embedded"), ("data", str(config.data_dir.resolve()))]
    else:
        location = f"at {address.without_credentials(config.redis_url)}"
        line = f"{product} {location}"
        fits = len(line) <= VALUE_COLUMNS
        rows = [("store", line)] if fits else [("store", product), ("", location)]
    if facts is not None:
        policy = facts.eviction_policy
        rows += [
            ("persistence", facts.persistence.value),
            ("eviction", "none (noeviction)" if policy == "noeviction" else policy),
        ]
    return rows


def program() -> str:
    """Return the command by which a shell finds this program from its present directory."""
    started_as = Path(sys.argv[0])
    if started_as.name != "feedsvc" or shutil.which("feedsvc"):
        return "feedsvc"
    return os.path.relpath(started_as)


def server_option(host: str, port: int) -> str:
    """Return the option that client commands need to reach a server; empty if they need none."""
    reachable = host
    try:
        if ipaddress.ip_address(host).is_unspecified:  # listens on all addresses
            reachable = "::1" if ":" in host else "127.0.0.1"
    except ValueError:
        pass  # a host name
    server = listening.address_of(reachable, port)
    return "" if server == "127.0.0.1:50051" else f" --server {server}"
