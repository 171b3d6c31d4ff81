-- include: packed clock latest feed outbox live
-- Writes an activity to the outbox of an entity that it was published to, and to that entity's own feed.
-- KEYS  the tag of the entity's shard
-- ARGV  entity, activity id
-- Returns {bitmap of the shards with followers of the entity, its mode}, nothing if the activity is too old for the outbox,
--         and so for its followers. Doing it again changes nothing.
local entity, id = ARGV[1], ARGV[2]
latest_raise(id)
if not outbox_insert(entity, id) then return {} end
feed_insert(entity, id, entity)
if leased(entity) then log_added(entity, id, entity) end
if leased(OUTBOX_LOG .. entity) then log_added(OUTBOX_LOG .. entity, id) end
local found = redis.call('HMGET', key(EDGES, entity), SHARDS, MODE)
return {found[1] or '', found[2] or ''}
