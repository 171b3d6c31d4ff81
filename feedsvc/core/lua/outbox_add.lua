-- include: packed outbox live
-- Writes an activity to the outbox of an entity that it was published to, and to that entity's own feed.
-- KEYS  the tag of the entity's shard
-- ARGV  entity, activity id
-- Returns the bitmap of the shards with followers of the entity; '' if the activity is too old for the outbox,
--       and so for its followers. Doing it again changes nothing.
local entity, id = ARGV[1], ARGV[2]
if not outbox_insert(entity, id) then return '' end
packed_insert(key(FEED, entity), id, FEED_CAP, FEED_MOST)
if is_live(entity) then log_added(entity, id) end
return redis.call('HGET', key(EDGES, entity), SHARDS) or ''
