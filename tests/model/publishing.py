"""Rules that publish, repeat, read and delete activities."""

import time
from typing import Any

import grpc
from activityfeed.v1.activity_pb2 import AUDIENCE_FOLLOWERS, AUDIENCE_TO_ONLY, Activity
from activityfeed.v1.activity_service_pb2 import (
    BatchPublishActivitiesRequest,
    PublishActivityRequest,
    PublishActivityResponse,
)
from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.model.machine import (
    DELIVERED,
    PULLED,
    ModelMachine,
    Request,
    addressees,
    indexes,
    names,
    pick,
    publish_times,
)
from tests.model.oracle import ModelActivity
from tests.serving import Refusal, at_ms, refusal_of


class PublishingRules(ModelMachine):
    def _activity(
        self, actor: str, to: list[str], to_only: bool, ms: int | None, external_id: str
    ) -> Activity:
        self.serial += 1
        return Activity(
            actor=actor,
            verb="post",
            content=f"number {self.serial}",
            to=to,
            audience=AUDIENCE_TO_ONLY if to_only and to else AUDIENCE_FOLLOWERS,
            publish_time=None if ms is None else at_ms(ms),
            external_id=external_id,
        )

    def _accept(self, activity: Activity, answer: PublishActivityResponse) -> ModelActivity:
        """Take a new activity into the model: learn its id, and check all else."""
        assert not answer.already_published
        assert answer.delivery.state in (DELIVERED, PULLED)
        activity_id = int(answer.activity.id)
        now_ms = int(time.time() * 1000)
        if activity.HasField("publish_time"):
            publish_ms = activity.publish_time.ToMilliseconds()
            assert answer.activity.publish_time == activity.publish_time
            if publish_ms < now_ms:
                assert publish_ms <= activity_id >> 21 < publish_ms + 1000
            else:
                assert activity_id >> 21 <= now_ms + 1000
        else:
            assert abs((activity_id >> 21) - now_ms) < 60_000
        for_followers = activity.audience == AUDIENCE_FOLLOWERS
        to = tuple(
            entity for entity in activity.to if not (for_followers and entity == activity.actor)
        )
        if for_followers:
            outbox = self.oracle.outbox(activity.actor)
            if activity.HasField("publish_time"):
                assert activity_id > outbox.refused_up_to
            elif outbox.ids:
                assert activity_id > outbox.ids[-1], "a new activity does not stand at the top"
        accepted = ModelActivity(activity_id, activity.actor, to, for_followers)
        self.oracle.publish(accepted)
        if activity.external_id:
            self.external_ids[activity.actor, activity.external_id] = (activity, activity_id)
        return accepted

    def _check_refusal(self, activity: Activity, refusal: Refusal) -> None:
        """Check that the model knows the ground of a refusal."""
        earlier = self.external_ids.get((activity.actor, activity.external_id))
        match refusal.reason:
            case "EXTERNAL_ID_EXPIRED":
                assert earlier
                assert not self.oracle.is_alive(earlier[1])
                assert not self.oracle.activities[earlier[1]].deleted
            case "BEFORE_RETENTION":
                is_to_only = activity.audience == AUDIENCE_TO_ONLY
                for entity in activity.to if is_to_only else [activity.actor]:
                    outbox = self.oracle.outbox(entity)
                    assert activity.publish_time.ToMilliseconds() <= outbox.refused_up_to >> 21
                    assert outbox.refused_up_to
            case "EXTERNAL_ID_CONFLICT":
                assert earlier
                assert refusal.metadata["activity_id"] == str(earlier[1])
            case "ACTIVITY_DELETED":
                assert earlier
                assert self.oracle.activities[earlier[1]].deleted
            case reason:
                raise AssertionError(f"the service refused without a ground: {reason}")

    @rule(
        actor=names,
        to=addressees,
        to_only=st.booleans(),
        ms=publish_times,
        external_id=st.sampled_from(["", "", "", "e1", "e2"]),
        with_request_id=st.booleans(),
    )
    def publish(
        self,
        actor: str,
        to: list[str],
        to_only: bool,
        ms: int | None,
        external_id: str,
        with_request_id: bool,
    ) -> None:
        activity = self._activity(actor, to, to_only, ms, external_id)
        message = PublishActivityRequest(
            activity=activity,
            request_id=f"p{self.serial}" if with_request_id else "",
            wait_for_delivery=True,
        )
        earlier = self.external_ids.get((actor, external_id)) if external_id else None
        try:
            answer = self.run(self._publish(message))
        except grpc.aio.AioRpcError as error:
            self._check_refusal(activity, refusal_of(error))
            return
        assert earlier is None, "the service accepted an external id twice"
        accepted = self._accept(activity, answer)
        if with_request_id:
            method = self.service.activities.PublishActivity
            self.requests.append(Request(method, message, answer, [accepted]))
        self.published.append(accepted.id)

    async def _publish(self, message: PublishActivityRequest) -> PublishActivityResponse:
        answer = await self.service.activities.PublishActivity(message)
        return await self.wait_for_followers_of_celebrities(answer, [answer])

    @rule(
        entries=st.lists(st.tuples(names, publish_times, addressees), min_size=1, max_size=4),
        copies=st.sampled_from([1, 1, 5, 20]),
    )
    def publish_batch(self, entries: list[tuple[str, int | None, list[str]]], copies: int) -> None:
        activities = [
            self._activity(actor, to, False, ms, "")
            for actor, ms, to in entries
            for _ in range(copies)
        ]
        answer = self.run(self._publish_batch(activities))
        assert len(answer.results) == len(activities)
        accepted_ids = []
        # Concurrent entries take effect in any order. The model takes them by id, so that it
        # refuses none of them.
        for activity, result in sorted(
            zip(activities, answer.results, strict=True),
            key=lambda pair: int(pair[1].response.activity.id or 0),
        ):
            if result.HasField("error"):
                assert Refusal.from_status(result.error).reason == "BEFORE_RETENTION"
            else:
                accepted_ids.append(self._accept(activity, result.response).id)
        self.published += accepted_ids[-2:]

    async def _publish_batch(self, activities: list[Activity]) -> Any:
        requests = [
            PublishActivityRequest(activity=activity, wait_for_delivery=True)
            for activity in activities
        ]
        answer = await self.service.activities.BatchPublishActivities(
            BatchPublishActivitiesRequest(requests=requests)
        )
        return await self.wait_for_followers_of_celebrities(
            answer, [result.response for result in answer.results]
        )

    @rule(index=indexes)
    def import_again(self, index: int) -> None:
        """Publish an external id again with the same body: the service returns the stored one."""
        if not self.external_ids:
            return
        activity, activity_id = pick(list(self.external_ids.values()), index)
        try:
            answer = self.run(self._publish(PublishActivityRequest(activity=activity)))
        except grpc.aio.AioRpcError as error:
            self._check_refusal(activity, refusal_of(error))
            return
        assert answer.already_published
        assert answer.activity.id == str(activity_id)
        self.oracle.deliver_again(self.oracle.activities[activity_id])

    @rule(index=indexes)
    def retry(self, index: int) -> None:
        """Send an earlier request again: the answer is the same and nothing changes."""
        if not self.requests:
            return
        request = pick(self.requests, index)

        async def send() -> Any:
            answer = await request.method(request.message)
            is_publish = isinstance(answer, PublishActivityResponse)
            published = [answer] if is_publish else []
            return await self.wait_for_followers_of_celebrities(answer, published)

        answer = self.run(send())
        if isinstance(answer, PublishActivityResponse):
            assert answer.already_published
            assert answer.activity.id == request.answer.activity.id
            for activity in request.activities:
                self.oracle.deliver_again(activity)
        else:
            assert answer == request.answer

    @rule(index=indexes)
    def get_delivery(self, index: int) -> None:
        if not self.published:
            return
        activity_id = pick(self.published, index)
        self.run(self.carry_retention())
        try:
            delivery = self.run(self.service.delivery(str(activity_id)))
        except grpc.aio.AioRpcError as error:
            assert refusal_of(error).reason == "ACTIVITY_NOT_FOUND"
            assert not self.oracle.is_alive(activity_id)
        else:
            assert delivery.state in (DELIVERED, PULLED)
            assert self.oracle.is_alive(activity_id)

    @rule(index=indexes, with_request_id=st.booleans())
    def delete(self, index: int, with_request_id: bool) -> None:
        if not self.published:
            return
        activity_id = pick(self.published, index)
        activity = self.oracle.activities[activity_id]
        self.run(self.carry_retention())
        was_alive = self.oracle.is_alive(activity_id)
        self.serial += 1
        request_id = f"d{self.serial}" if with_request_id else ""
        try:
            self.run(self.service.delete(str(activity_id), activity.actor, request_id))
        except grpc.aio.AioRpcError as error:
            assert refusal_of(error).reason == "ACTIVITY_NOT_FOUND"
            assert not was_alive
        else:
            assert was_alive
            self.oracle.delete(activity)
            # Workers would announce the delete also to a log that begins before they have ended.
            self.run(self.service.wait_for_deliveries())

    @rule(index=indexes)
    def get(self, index: int) -> None:
        if not self.published:
            return
        activity_id = pick(self.published, index)
        self.run(self.carry_retention())
        try:
            activity = self.run(self.service.get(str(activity_id)))
        except grpc.aio.AioRpcError as error:
            assert refusal_of(error).reason == "ACTIVITY_NOT_FOUND"
            assert not self.oracle.is_alive(activity_id)
        else:
            assert activity.actor == self.oracle.activities[activity_id].actor
            assert self.oracle.is_alive(activity_id)
