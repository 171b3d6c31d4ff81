-- include: packed clock outbox
-- Outboxes of other shards let activities go.
-- KEYS  the tags of the activities' shards; one, where each shard has a slot of its own
-- ARGV  for each: how many, then for each activity: id, outbox
local at = 1
for i = 1, #KEYS do
  use(KEYS[i])
  local last = at + 2 * tonumber(ARGV[at])
  for first = at + 1, last, 2 do release_body(ARGV[first], ARGV[first + 1]) end
  at = last + 1
end
