-- include: arrays feed modes packed
-- End the build of a feed: store the ids that were merged from the outboxes and the ids that were
-- delivered since the build began.
-- KEYS  the tag of the user's shard
-- ARGV  user, nonce, edge generation at the beginning, floor, number of PULL followees that were
--       merged, then for each of these: followee, its mode in CELEBRITIES before the merge; then
--       the merged ids above the floor, ascending
-- Returns the number of ids stored; -1 if another build, an expiry or a changed edge came between
-- Repeat: finds no marker and returns -1. The feed is warm already.
local user, nonce, generation, floor = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local pulled_count = tonumber(ARGV[5])
local PULLED_FOLLOWEES, FIELDS = 6, 2
local ids_from = PULLED_FOLLOWEES + FIELDS * pulled_count
local feed, pulled = cache_key(FEED, user), key(PULLED, user)

local stored = redis.call('LRANGE', feed, 0, -1)
if stored[1] ~= '!' .. nonce then return -1 end
if (redis.call('HGET', key(EDGES, user), GENERATION) or '') ~= generation then
  redis.call('DEL', feed)
  return -1
end
local merged = packed_merge(slice(stored, 2), slice(ARGV, ids_from), floor)
feed_rewrite(user, merged, floor, FEED_TTL_MS)
for i = PULLED_FOLLOWEES, ids_from - 1, FIELDS do
  local followee, mode_before = ARGV[i], ARGV[i + 1]
  local mode = redis.call('HGET', CELEBRITIES, followee) or ''
  if mode == mode_before and not is_pulled(mode) then redis.call('SREM', pulled, followee) end
end
return #merged
