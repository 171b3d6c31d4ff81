-- include: packed
-- Ends materialising a feed: what was merged from the outboxes, and what was delivered since it began.
-- KEYS  the tag of the user's shard
-- ARGV  user, nonce, edge generation at the beginning, floor, how many pulled followees were merged, these each with
--       what CELEBRITIES said of it before, then the merged ids above the floor, ascending
-- Returns the number of ids stored, or -1: another build, an expiry or a changed edge came between
local feed, pulled = cache_key(FEED, ARGV[1]), key(PULLED, ARGV[1])
local generation = redis.call('HGET', key(EDGES, ARGV[1]), GENERATION)
local stored = redis.call('LRANGE', feed, 0, -1)
if stored[1] ~= '!' .. ARGV[2] then return -1 end
redis.call('DEL', feed)
if (generation or '') ~= ARGV[3] then return -1 end
table.remove(stored, 1)
local floor, flips = ARGV[4], tonumber(ARGV[5])
local merged = packed_merge(stored, arguments(6 + 2 * flips), floor)
redis.call('RPUSH', feed, floor)
packed_append(feed, merged)
if #merged > FEED_MOST then packed_trim(feed, FEED_CAP) end
redis.call('PEXPIRE', feed, FEED_TTL_MS)
for i = 6, 4 + 2 * flips, 2 do
  local celebrity = redis.call('HGET', CELEBRITIES, ARGV[i]) or ''
  if celebrity == ARGV[i + 1] and celebrity:sub(1, 1) ~= 'P' then redis.call('SREM', pulled, ARGV[i]) end
end
return #merged
