-- include: outbox
-- Carry the notes of trimmed activities to the activities' bodies: outboxes of other shards do not
-- hold these activities any more.
-- KEYS  the tags of the activities' shards; one where each shard has a slot of its own
-- ARGV  for each shard: number of notes, then for each note: activity id, outbox
-- Returns nothing
-- Repeat: an outbox is taken from the holders once, and a tombstone stays a tombstone.
local FIELDS = 2

local count_index = 1
for _, tag in ipairs(KEYS) do
  use(tag)
  local last = count_index + FIELDS * tonumber(ARGV[count_index])
  for first = count_index + 1, last, FIELDS do
    local id, outbox = ARGV[first], ARGV[first + 1]
    release_body(id, outbox)
  end
  count_index = last + 1
end
