"""The users of a run: their names, their followees, and how often each user acts."""

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate, islice

from feedsvc.cli.load_test.plan import Plan

#: Random picks for each followee that a user needs; some of them are the same.
PICKS_A_FOLLOWEE = 4


class Population:
    """The users of a plan. Each process makes the same users; runs differ only in the prefix."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._users = range(plan.users)
        self._weights = (
            list(accumulate((user + 1) ** -plan.skew for user in self._users))
            if plan.skew
            else None
        )

    def name(self, user: int) -> str:
        """Return the entity id of a user."""
        return f"{self._plan.prefix}:u{user}"

    @property
    def names(self) -> list[str]:
        """Return the names of all users."""
        return [self.name(user) for user in self._users]

    def pick(self, rng: random.Random) -> int:
        """Pick a user who acts. Popular users are picked more often."""
        return self._picks(rng, 1)[0]

    def follows(self) -> dict[int, list[int]]:
        """Return the followees of each user: different others, popular users more often."""
        rng = random.Random(f"{self._plan.seed}/follows")
        return {user: list(self._followees(rng, user)) for user in self._users}

    def streams(self) -> dict[int, int]:
        """Return the user of each stream. Streams are spread evenly over the users."""
        order = list(self._users)
        random.Random(f"{self._plan.seed}/streams").shuffle(order)
        return {stream: order[stream % len(order)] for stream in range(self._plan.subscriptions)}

    def _picks(self, rng: random.Random, count: int) -> list[int]:
        if self._weights is None:
            return [rng.randrange(self._plan.users) for _ in range(count)]
        return rng.choices(self._users, cum_weights=self._weights, k=count)

    def _followees(self, rng: random.Random, user: int) -> Iterator[int]:
        count = self._plan.follows
        picked = dict.fromkeys(self._picks(rng, PICKS_A_FOLLOWEE * count))
        picked.pop(user, None)
        # Where the picks do not give enough different users, the most popular users are added.
        unpicked = (other for other in self._users if other not in picked and other != user)
        yield from islice(picked, count)
        yield from islice(unpicked, max(0, count - len(picked)))


def reached(
    follows: Mapping[int, Iterable[int]], streams: Mapping[int, int]
) -> dict[int, frozenset[int]]:
    """Return the streams that each author's activities reach: its followers', and its own."""
    streams_of = defaultdict(set)
    for stream, user in streams.items():
        for author in (user, *follows[user]):
            streams_of[author].add(stream)
    return {author: frozenset(numbers) for author, numbers in streams_of.items()}
