-- include: followers
-- Count the followers of an entity in some shards.
-- KEYS  the tags of the shards; one where each shard has a slot of its own
-- ARGV  followee
-- Returns the number of followers in all these shards
-- Repeat: only reads.
local followee = ARGV[1]

local count = 0
for _, tag in ipairs(KEYS) do
  use(tag)
  count = count + followers_count(followee)
end
return count
