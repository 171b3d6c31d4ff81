-- include: followers
-- Counts the followers of an entity in some shards.
-- KEYS  the tags of the shards; one, where each shard has a slot of its own
-- ARGV  followee
local count = 0
for i = 1, #KEYS do
  use(KEYS[i])
  count = count + followers_count(ARGV[1])
end
return count
