-- include: packed latest
-- Merges what was read of a followee's outbox into the warm feed and flips the edge from PULL to PUSH, unless
-- the edge has changed since, or how the followee's are to be.
-- KEYS  the tag of the follower's shard
-- ARGV  follower, followee, position of the edge, what CELEBRITIES said of the followee before the outbox was read,
--       floor of the outbox, then its newest ids, ascending
-- Returns 1 if the edge is PUSH now, else 0
local follower, followee = ARGV[1], ARGV[2]
local feed, pulled = cache_key(FEED, follower), key(PULLED, follower)
if redis.call('HGET', key(EDGES, follower), followee) ~= ARGV[3] then return 0 end
if redis.call('SISMEMBER', pulled, followee) == 0 then return 1 end
local celebrity = redis.call('HGET', CELEBRITIES, followee) or ''
if celebrity ~= ARGV[4] or celebrity:sub(1, 1) == 'P' then return 0 end
local stored = redis.call('LRANGE', feed, 0, -1)
-- Cold or being built: whoever builds it reads the outbox.
if stored[1] and stored[1]:byte() ~= MARKER and #ARGV > 5 then
  local head = table.remove(stored, 1)
  local floor = ARGV[5] > head and ARGV[5] or head
  local merged = packed_merge(stored, arguments(6), floor)
  latest_raise(ARGV[#ARGV])
  if #merged > #stored or floor ~= head then
    local ttl = redis.call('PTTL', feed)
    redis.call('DEL', feed)
    redis.call('RPUSH', feed, floor)
    packed_append(feed, merged)
    if #merged > FEED_MOST then packed_trim(feed, FEED_CAP) end
    redis.call('PEXPIRE', feed, ttl > 0 and ttl or FEED_TTL_MS)
  end
end
redis.call('SREM', pulled, followee)
-- What its outbox holds is not in there.
redis.call('DEL', cache_key(DEEP, follower))
return 1
