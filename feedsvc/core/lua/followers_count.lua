-- include: followers
-- Counts the followers of an entity in a shard.
-- KEYS  the tag of the followers' shard
-- ARGV  followee
local many = redis.call('ZCARD', key(FOLLOWERS, ARGV[1]))
if many > 0 then return many end
local _, numbers = few_followers(ARGV[1])
return #(numbers or '') / 3
