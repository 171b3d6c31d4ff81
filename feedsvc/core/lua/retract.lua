-- include: live
-- Announce to the logs of an entity's feed and outbox, if they are live, that an activity left
-- them.
-- KEYS  the tag of the entity's shard
-- ARGV  entity, activity id, route in the outbox's log: actor, NUL, external id
-- Returns nothing
-- Repeat: a log announces a removal once.
local entity, id, route = ARGV[1], ARGV[2], ARGV[3]

if leased(entity) then announce_removed(entity, id) end
if leased(OUTBOX_LOG .. entity) then announce_removed(OUTBOX_LOG .. entity, id, route) end
