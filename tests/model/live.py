"""Rules that subscribe to live feeds and resume their streams."""

from dataclasses import dataclass

from activityfeed.v1.subscription_service_pb2 import SUBSCRIPTION_START_RESUMED
from hypothesis.stateful import Bundle, consumes, rule

from tests.model.machine import ModelMachine, names
from tests.serving import events_of, ids_on_page


@dataclass
class Subscription:
    """A subscriber of a user's feed."""

    user: str
    token: str
    index: int
    """Number of events of the user's log that the subscriber has read."""


class LiveRules(ModelMachine):
    subscriptions: Bundle[Subscription] = Bundle("subscriptions")

    @rule(target=subscriptions, user=names)
    def subscribe(self, user: str) -> Subscription:
        async def open_and_close() -> str:
            stream = await self.service.subscribe(user)
            token = stream.token
            await stream.close()
            return token

        token = self.run(open_and_close())
        self.oracle.go_live(user)
        return Subscription(user, token, len(self.oracle.logs[user].events))

    @rule(target=subscriptions, user=names)
    def read_resumable_page(self, user: str) -> Subscription:
        page = self.run(self.service.page(user, resumable=True))
        assert [int(activity_id) for activity_id in ids_on_page(page)] == self.oracle.feed(user)[
            :20
        ]
        self.oracle.go_live(user)
        return Subscription(user, page.resume_token, len(self.oracle.logs[user].events))

    @rule(subscription=consumes(subscriptions), target=subscriptions)
    def resume(self, subscription: Subscription) -> Subscription:
        """Resume a stream: each event since the token arrives once and in order, then no more."""
        user = subscription.user

        async def read() -> tuple[list[tuple[str, str]], str]:
            await self.service.wait_for_deliveries()
            stream = await self.service.subscribe(user, subscription.token)
            received = []
            assert (await stream.read_message()).started.start == SUBSCRIPTION_START_RESUMED
            while events := events_of(await stream.read_message()):
                received += events
            await stream.close()
            return received, stream.token

        received, token = self.run(read())
        log = self.oracle.logs[user]
        self.oracle.check_received(user, log.events[subscription.index :], received)
        return Subscription(user, token, len(log.events))
