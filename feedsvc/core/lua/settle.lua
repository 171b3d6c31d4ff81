-- include: arrays feed latest modes packed
-- Settle an edge: merge a followee's outbox into the warm feed, and turn the edge from PULL to
-- PUSH, unless the edge or the followee's mode has changed since the caller read the outbox.
-- KEYS  the tag of the follower's shard
-- ARGV  follower, followee, position of the edge, mode of the followee in CELEBRITIES before the
--       outbox was read, floor of the outbox, then the newest ids of the outbox, ascending
-- Returns 1 if the edge is PUSH now, else 0
-- Repeat: finds the edge PUSH and returns 1.
local follower, followee, position, mode_before = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local outbox_floor = ARGV[5]
local IDS_FROM = 6
local newest_id = #ARGV >= IDS_FROM and ARGV[#ARGV]
local feed, pulled = cache_key(FEED, follower), key(PULLED, follower)

if redis.call('HGET', key(EDGES, follower), followee) ~= position then return 0 end
if redis.call('SISMEMBER', pulled, followee) == 0 then return 1 end
local mode = redis.call('HGET', CELEBRITIES, followee) or ''
if mode ~= mode_before or is_pulled(mode) then return 0 end
local stored = redis.call('LRANGE', feed, 0, -1)
-- A build reads the outbox itself: a feed that is cold or being built needs no merge.
if packed_state(stored[1]) == 'warm' and newest_id then
  local head = table.remove(stored, 1)
  local floor = outbox_floor > head and outbox_floor or head
  local merged = packed_merge(stored, slice(ARGV, IDS_FROM), floor)
  latest_raise(newest_id)
  if #merged > #stored or floor ~= head then
    local ttl_ms = redis.call('PTTL', feed)
    feed_rewrite(follower, merged, floor, ttl_ms > 0 and ttl_ms or FEED_TTL_MS)
  end
end
redis.call('SREM', pulled, followee)
-- The deep segment lacks what the outbox holds.
redis.call('DEL', cache_key(DEEP, follower))
return 1
