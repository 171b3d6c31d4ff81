-- include: feed latest live outbox
-- Write an activity to the outbox of an entity that it was published to, and to the entity's own
-- feed.
-- KEYS  the tag of the entity's shard
-- ARGV  entity, activity id
-- Returns {bitmap of the shards with followers of the entity, its mode}; nothing if the activity is
--         too old for the outbox, and so for the entity's followers
-- Repeat: the lists have the id, and the logs the entry: nothing changes.
local entity, id = ARGV[1], ARGV[2]

latest_raise(id)
if not outbox_insert(entity, id) then return {} end
feed_insert(entity, id, entity)
if leased(entity) then announce_added(entity, id, entity) end
if leased(OUTBOX_LOG .. entity) then announce_added(OUTBOX_LOG .. entity, id) end
local bitmap, mode = unpack(redis.call('HMGET', key(EDGES, entity), SHARDS, MODE))
return {bitmap or '', mode or ''}
