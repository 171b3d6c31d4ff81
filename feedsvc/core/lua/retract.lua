-- include: clock live
-- Tells the log of an entity, if it is live, that an activity left its feed.
-- KEYS  the tag of the entity's shard
-- ARGV  entity, activity id
if is_live(ARGV[1]) then log_removed(ARGV[1], ARGV[2]) end
