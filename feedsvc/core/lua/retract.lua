-- include: clock live
-- Tells the logs of an entity's feed and outbox, if they are live, that an activity left them.
-- KEYS  the tag of the entity's shard
-- ARGV  entity, activity id, what the outbox's log says of it: its actor, a NUL and its external id
local entity, id, about = ARGV[1], ARGV[2], ARGV[3]
if leased(entity) then log_removed(entity, id) end
if leased(OUTBOX_LOG .. entity) then log_removed(OUTBOX_LOG .. entity, id, about) end
