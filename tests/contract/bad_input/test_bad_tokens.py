"""Page tokens and resume tokens that are damaged, or belong to another request."""

import asyncio
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from activityfeed.admin.v1 import admin_service_pb2 as admin
from activityfeed.v1 import activity_service_pb2 as activities
from activityfeed.v1 import feed_service_pb2 as feeds
from activityfeed.v1 import follow_service_pb2 as follows
from activityfeed.v1 import subscription_service_pb2 as subscriptions

from feedsvc.tokens import Tokens
from tests.contract.bad_input.requests import ID
from tests.contract.bad_input.sending import INTERNALS, check_refused, check_unharmed, send
from tests.dead_letters import store_dead_letters
from tests.serving import Service, expect_refusal

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def requests_with_page_tokens(
    service: Service, user: str, viewer: str
) -> dict[str, tuple[str, Any]]:
    """Return a request of each kind of list, with a page token that belongs to it."""
    authors = [f"{user} {number}" for number in range(3)]
    for author in authors:
        await service.follow(user, author)
        await service.follow(author, user)
        await service.post_many(author, 2, to=[user])
    await service.post_many(user, 3)
    requests: dict[str, tuple[str, Any]] = {
        "feed": ("GetFeed", feeds.GetFeedRequest(user=user, viewer=viewer)),
        "outbox": (
            "ListActivities",
            activities.ListActivitiesRequest(entity=user, viewer=viewer),
        ),
        "own": (
            "ListActivities",
            activities.ListActivitiesRequest(entity=user, viewer=viewer, own_only=True),
        ),
        "followers": ("ListFollowers", follows.ListFollowersRequest(entity=user, viewer=viewer)),
        "following": ("ListFollowing", follows.ListFollowingRequest(entity=user, viewer=viewer)),
    }
    for rpc, request in requests.values():
        request.page_size = 1
        answer = await send(service, rpc, request)
        request.page_token = getattr(answer, "page", answer).next_page_token
        assert request.page_token
        await send(service, rpc, request)
    return requests


async def test_page_token_of_another_list_is_refused(service: Service) -> None:
    """Send every token in every request that it does not belong to."""
    requests = {
        f"{user}/{viewer}/{name}": request
        for user in ("u", "u2")
        for viewer in ("", "u", "v")
        for name, request in (await requests_with_page_tokens(service, user, viewer)).items()
    }
    assert len(requests) == 30
    await service.warm("u", "u2")
    stored_before = await service.dump()
    for own_name, (rpc, request) in requests.items():
        for other_name, (_, other_request) in requests.items():
            attempt = type(request)()
            attempt.CopyFrom(request)
            attempt.page_token = other_request.page_token
            if own_name == other_name:
                await send(service, rpc, attempt)
                continue
            refusal = await expect_refusal(send(service, rpc, attempt))
            assert refusal.reason == "PAGE_TOKEN_INVALID", (own_name, other_name)
            assert set(refusal.rules) == {"page_token"}
    assert await service.dump() == stored_before
    await check_unharmed(service)


def damage(token: str) -> Iterator[str]:
    """Yield every cut, every changed character, and other spellings of the same bytes."""
    for index in range(1, len(token)):
        yield token[:index]
        yield token[index:]
    for index, character in enumerate(token):
        for replacement in "A_-z9+/=\n\0\u00e9":
            if replacement != character:
                yield token[:index] + replacement + token[index + 1 :]
        yield token[:index] + " " + token[index:]
    yield from (token + "=", token + "==", token + "A", token + "\n", " " + token, token * 2)
    yield token.swapcase()
    yield token[::-1]
    yield from ("\0", "=", "====", "0", "A" * 20, "-1", "null", ID, "x" * 512, "x" * 1_000_000)


async def request_with_letters_token(service: Service) -> tuple[str, Any]:
    """Return a request for a page of dead letters, with a page token that belongs to it."""
    await store_dead_letters(service, 2)
    request = admin.ListDeadLettersRequest(page_size=1)
    request.page_token = (await service.admin.ListDeadLetters(request)).next_page_token
    assert request.page_token
    return "ListDeadLetters", request


async def test_page_token_of_dead_letters_is_refused_by_other_lists(service: Service) -> None:
    """No other list accepts the token, and the list of dead letters accepts no other token."""
    rpc, letters = await request_with_letters_token(service)
    for other_rpc, request in (await requests_with_page_tokens(service, "l", "")).values():
        request.page_token, letters.page_token = letters.page_token, request.page_token
        for attempt_rpc, attempt in ((rpc, letters), (other_rpc, request)):
            refusal = await expect_refusal(send(service, attempt_rpc, attempt))
            assert refusal.reason == "PAGE_TOKEN_INVALID"
        request.page_token, letters.page_token = letters.page_token, request.page_token
        await send(service, rpc, letters)


@pytest.mark.parametrize("name", ["feed", "outbox", "own", "followers", "following", "letters"])
async def test_damaged_page_token_is_refused(service: Service, name: str) -> None:
    requests = await requests_with_page_tokens(service, "d", "v")
    rpc, request = (
        await request_with_letters_token(service) if name == "letters" else requests[name]
    )
    await service.warm("d")
    stored_before = await service.dump()

    async def check(token: str) -> None:
        attempt = type(request)()
        attempt.CopyFrom(request)
        attempt.page_token = token
        refusal = await expect_refusal(send(service, rpc, attempt))
        assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
        assert refusal.reason == "PAGE_TOKEN_INVALID", token[:100]
        assert set(refusal.rules) == {"page_token"}
        assert not INTERNALS.search(refusal.message)

    await asyncio.gather(*(check(token) for token in damage(request.page_token)))
    assert await service.dump() == stored_before
    await check_unharmed(service)


async def test_page_token_of_another_deployment_is_refused(service: Service) -> None:
    other_tokens = Tokens(b"another store's secret")
    list_name = ("feed", "bob", "", "flat")
    cursor = Tokens(service.server.engine.store.secret).read_page(
        (await service.page("bob", size=1)).next_page_token, *list_name
    )
    request = feeds.GetFeedRequest(
        user="bob", page_token=other_tokens.seal_page(cursor, *list_name)
    )
    assert (await check_refused(service, "GetFeed", request)).reason == "PAGE_TOKEN_INVALID"


def subscription(user: str, viewer: str, token: str) -> Any:
    return subscriptions.SubscribeFeedRequest(user=user, viewer=viewer, resume_token=token)


async def test_resume_token_of_another_stream_is_refused(service: Service) -> None:
    tokens = {}
    for user in ("r", "r2"):
        for viewer in ("", "r", "v"):
            page = await service.page(user, viewer=viewer, resumable=True)
            tokens[user, viewer] = page.resume_token
            tokens[user, f"{viewer} stream"] = (await service.subscribe(user, viewer=viewer)).token
    page_token = (await service.page("bob", size=1)).next_page_token
    stored_before = await service.dump()
    for user in ("r", "r2"):
        for viewer in ("", "r", "v"):
            for (token_user, token_viewer), token in tokens.items():
                if (token_user, token_viewer.removesuffix(" stream").strip()) == (user, viewer):
                    continue
                refusal = await expect_refusal(
                    send(service, "SubscribeFeed", subscription(user, viewer, token))
                )
                assert refusal.reason == "RESUME_TOKEN_INVALID"
                assert set(refusal.rules) == {"resume_token"}
    refusal = await expect_refusal(
        send(service, "SubscribeFeed", subscription("bob", "", page_token))
    )
    assert refusal.reason == "RESUME_TOKEN_INVALID"
    # A resume token is no page token either.
    for token in tokens.values():
        request = feeds.GetFeedRequest(user="r", page_token=token)
        assert (
            await expect_refusal(send(service, "GetFeed", request))
        ).reason == "PAGE_TOKEN_INVALID"
    assert await service.dump() == stored_before


async def test_damaged_resume_token_is_refused(service: Service) -> None:
    token = (await service.page("bob", resumable=True)).resume_token
    stored_before = await service.dump()

    async def check(damaged_token: str) -> None:
        refusal = await expect_refusal(
            send(service, "SubscribeFeed", subscription("bob", "", damaged_token))
        )
        assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
        assert refusal.reason == "RESUME_TOKEN_INVALID", damaged_token[:100]
        assert set(refusal.rules) == {"resume_token"}

    await asyncio.gather(*(check(damaged_token) for damaged_token in damage(token)))
    assert await service.dump() == stored_before
    await check_unharmed(service)
