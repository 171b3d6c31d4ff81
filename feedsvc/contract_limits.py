"""The limits of the contract: what a request may hold, and how long an answer may be.

The protos state these limits, most of them as rules for machines. ``tests/unit/test_rules.py``
compares the server with those rules. Limits that an operator may change are settings: see
``config.py``.

A request beyond a limit is refused with INVALID_ARGUMENT, reason INVALID_FIELD, and the path of the
field, unless the limit says otherwise. An answer never exceeds a limit: the service cuts it.
"""

from typing import Final

# Requests as a whole.

#: Bytes of a serialised request that is no batch. INVALID_FIELD with an empty path. The operator's
#: ``max_request_bytes`` bounds every request, batches included.
REQUEST_BYTES: Final = 1_048_576
#: Bytes of UTF-8 in ``request_id`` of every mutation.
REQUEST_ID_BYTES: Final = 128
#: Bytes of UTF-8 in ``subscription_id`` of SubscribeFeedsRequest's ``add`` and ``remove``. The
#: subscription alone fails, not the stream.
SUBSCRIPTION_ID_BYTES: Final = 128

# Entities and activities.

#: Bytes of UTF-8 in an entity id: ``Activity.actor``, ``to`` and ``mentions``, ``Ref.entity``, and
#: ``user``, ``entity``, ``follower``, ``followee``, ``others`` and ``viewer`` of requests.
ENTITY_BYTES: Final = 256
#: Bytes of a serialised ``PublishActivityRequest.activity``.
ACTIVITY_BYTES: Final = 32_768
#: Bytes of UTF-8 in ``Activity.verb``.
VERB_BYTES: Final = 64
#: Bytes of UTF-8 in ``Activity.external_id``.
EXTERNAL_ID_BYTES: Final = 256
#: Entities in ``Activity.to``, and in ``Activity.mentions``.
ADDRESSEES: Final = 32
#: Bytes of UTF-8 in ``Activity.content``.
CONTENT_BYTES: Final = 16_384
#: Attachments in ``Activity.attachments``.
ATTACHMENTS: Final = 16
#: Bytes of a serialised ``Activity.extra``.
EXTRA_BYTES: Final = 16_384
#: Levels of Structs and lists in ``Activity.extra``, which is the first level itself.
EXTRA_DEPTH: Final = 16
#: Bytes of UTF-8 in ``Ref.id``.
REF_ID_BYTES: Final = 1_024
#: Bytes of UTF-8 in ``type`` of Ref and Attachment.
TYPE_BYTES: Final = 64
#: Bytes of UTF-8 in ``name`` of Ref and Attachment.
NAME_BYTES: Final = 512
#: Bytes of UTF-8 in ``url`` of Ref and Attachment.
URL_BYTES: Final = 2_048
#: Bytes of UTF-8 in ``Attachment.media_type``.
MEDIA_TYPE_BYTES: Final = 255
#: Seconds of Unix time in ``Activity.publish_time``: 9999-12-31T23:59:59Z, the last that a
#: ``google.protobuf.Timestamp`` may hold. The first is ``core.ids.FIRST_MS``.
LAST_SECOND: Final = 253_402_300_799
#: Nanoseconds in ``Activity.publish_time``, as in every ``google.protobuf.Timestamp``.
LAST_NANO: Final = 999_999_999

# Batches. A batch without entries, or with more than its limit, is refused as a whole.

#: Entries in ``BatchPublishActivitiesRequest.requests``.
PUBLISH_BATCH_ENTRIES: Final = 500
#: Entries in ``BatchFollowRequest.requests``.
FOLLOW_BATCH_ENTRIES: Final = 1_000
#: Bytes of a serialised BatchPublishActivitiesRequest or BatchFollowRequest. The answer to a batch
#: of publishes repeats its activities, and adds up to 1.2 KB for each of its entries.
BATCH_BYTES: Final = 3_000_000
#: Ids in ``BatchGetActivitiesRequest.ids``; entities in ``BatchGetRelationshipsRequest.others``.
BATCH_GET_ENTRIES: Final = 100
#: Ids in ``ids`` of ReplayDeadLettersRequest and DiscardDeadLettersRequest.
DEAD_LETTER_BATCH_IDS: Final = 1_000
#: Violations that the error of an entry of a batch of publishes names at most. The service leaves
#: out further violations.
BATCH_ENTRY_VIOLATIONS: Final = 8

# Pages. A ``page_size`` of 0 stands for the default, and a ``page_size`` above the limit for the
# limit. Less than 0 is INVALID_FIELD.

#: Items of a page by default: ``page_size`` of GetFeedRequest and ListActivitiesRequest.
DEFAULT_PAGE_ITEMS: Final = 20
#: Items of a page at most: ``page_size`` of GetFeedRequest and ListActivitiesRequest, and
#: ``initial_page_size`` of SubscribeFeedRequest and AddFeedSubscription. No error: clamped.
MAX_PAGE_ITEMS: Final = 100
#: Edges of a page by default: ``page_size`` of ListFollowersRequest and ListFollowingRequest.
DEFAULT_PAGE_EDGES: Final = 100
#: Edges of a page at most: ``page_size`` of the same requests. No error: clamped.
MAX_PAGE_EDGES: Final = 1_000
#: Dead letters of a page by default: ``page_size`` of ListDeadLettersRequest.
DEFAULT_PAGE_DEAD_LETTERS: Final = 100
#: Dead letters of a page at most: ``page_size`` of the same request. No error: clamped.
MAX_PAGE_DEAD_LETTERS: Final = 1_000

# Messages that the service sends. gRPC's clients refuse messages above 4 MiB by default. The
# service cuts a longer answer into several messages or pages, each with a token for the next one.

#: Bytes of a message of any RPC, as ``feed.proto`` says. The limits below keep messages within it.
MESSAGE_BYTES: Final = 3_670_016
#: Bytes of events after which a stream begins another message. An event has up to about 42 KB.
MESSAGE_EVENT_BYTES: Final = 1_048_576
#: Events of a message of a stream at most, as ``subscription_service.proto`` says.
MESSAGE_EVENTS: Final = 100
#: Bytes of stored activities, or of dead letters, on a page. Each activity of a page may need up to
#: 9 KB more: ``via`` repeats up to 32 names of ``to`` and the actor's, 256 bytes each.
PAGE_BODY_BYTES: Final = 2_621_440
