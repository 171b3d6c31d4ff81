"""The state of this server, which GetServerStatus reports."""

import socket
import time
from importlib.metadata import version

from feedsvc.admission import Admission
from feedsvc.config import Config
from feedsvc.core.engine import Engine
from feedsvc.core.health import Condition
from feedsvc.core.store_facts import FactsReader

#: Version of the package, like "0.1.0".
VERSION = version("feedsvc")


class ServerStatus:
    """The state of a server and of its store; nothing in it waits for the store."""

    def __init__(
        self, config: Config, engine: Engine, admission: Admission, facts: FactsReader
    ) -> None:
        self.config = config
        self.facts = facts
        """The reader of facts about the store."""
        self.host_name = socket.gethostname()
        self.start_time = time.time()
        """Unix time in seconds at which the server began to serve."""
        self.condition = Condition.READY
        """The condition of the store at its last check; a store that was opened is ready."""
        self.condition_time = self.start_time
        """Unix time in seconds since which the store has this condition."""
        self._engine = engine
        self._admission = admission

    async def note_condition(self, condition: Condition) -> None:
        """Note the condition of the store at a check."""
        if condition is not self.condition:
            self.condition, self.condition_time = condition, time.time()

    @property
    def is_embedded(self) -> bool:
        """True if the server itself runs the store."""
        return self.config.redis_url is None

    @property
    def is_draining(self) -> bool:
        """True if the server is stopping."""
        return self._admission.is_draining

    @property
    def calls(self) -> int:
        """Number of calls under way, waiting ones included."""
        return self._admission.calls

    @property
    def streams(self) -> int:
        """Number of open streams."""
        return self._engine.live.streams
