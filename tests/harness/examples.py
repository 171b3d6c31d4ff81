"""Publishes and edges from which the tests of validators make histories."""

from tests.harness.history import EdgeChange, Publish


def publish(number: int, began: float, **fields: object) -> Publish:
    """Return a publish by alice, answered after 0.1 s with an id a hundred times its number."""
    defaults: dict[str, object] = {
        "actor": "alice",
        "to": (),
        "to_followers": True,
        "is_untimed": True,
        "ended": began + 0.1,
        "id": 100 * number,
    }
    return Publish(number=number, began=began, **(defaults | fields))  # type: ignore[arg-type]


def follow(began: float, ended: float | None = None, followee: str = "alice") -> EdgeChange:
    """Return a follow by bob, answered after 0.1 s if no other time is given."""
    ended = began + 0.1 if ended is None else ended
    return EdgeChange("bob", followee, is_follow=True, began=began, ended=ended, made_edge=True)


def unfollow(began: float, ended: float | None = None, followee: str = "alice") -> EdgeChange:
    """Return an unfollow by bob, answered after 0.1 s if no other time is given."""
    ended = began + 0.1 if ended is None else ended
    return EdgeChange("bob", followee, is_follow=False, began=began, ended=ended)
