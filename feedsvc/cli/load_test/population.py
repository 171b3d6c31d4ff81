"""The users of a run: their names, whom they follow, and who is picked how often."""

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate, islice

from feedsvc.cli.load_test.plan import Plan


class Population:
    """The same for each process of a run, and for each run of the same plan but for the prefix."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._users = range(plan.users)
        self._weights = (
            list(accumulate((user + 1) ** -plan.skew for user in self._users))
            if plan.skew
            else None
        )

    def name(self, user: int) -> str:
        """The entity id."""
        return f"{self._plan.prefix}:u{user}"

    @property
    def names(self) -> list[str]:
        return [self.name(user) for user in self._users]

    def pick(self, rng: random.Random) -> int:
        """Someone who acts: popular users more often."""
        return self._picks(rng, 1)[0]

    def follows(self) -> dict[int, list[int]]:
        """Whom each user follows: popular users more often, each once, never itself."""
        rng = random.Random(f"{self._plan.seed}/follows")
        return {user: list(self._followees(rng, user)) for user in self._users}

    def streams(self) -> dict[int, int]:
        """Whose feed each stream is: everybody's equally, from the first to the last stream."""
        order = list(self._users)
        random.Random(f"{self._plan.seed}/streams").shuffle(order)
        return {n: order[n % len(order)] for n in range(self._plan.subscriptions)}

    def _picks(self, rng: random.Random, count: int) -> list[int]:
        if self._weights is None:
            return [rng.randrange(self._plan.users) for _ in range(count)]
        return rng.choices(self._users, cum_weights=self._weights, k=count)

    def _followees(self, rng: random.Random, user: int) -> Iterator[int]:
        count = self._plan.follows
        picked = dict.fromkeys(self._picks(rng, 4 * count))
        picked.pop(user, None)
        # Where four picks for each do not give enough different ones, the most popular are added.
        more = (other for other in self._users if other not in picked and other != user)
        yield from islice(picked, count)
        yield from islice(more, max(0, count - len(picked)))


def reached(
    follows: Mapping[int, Iterable[int]], streams: Mapping[int, int]
) -> dict[int, frozenset[int]]:
    """The streams that each user's activities come through: its followers', and its own."""
    found = defaultdict(set)
    for stream, user in streams.items():
        for author in (user, *follows[user]):
            found[author].add(stream)
    return {author: frozenset(numbers) for author, numbers in found.items()}
