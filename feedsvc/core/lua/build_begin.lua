-- include: packed
-- Begins to materialise a feed: from here on deliveries land in it.
-- KEYS  the tag of the user's shard
-- ARGV  user, nonce, '1' to throw away what is stored
-- Returns {state that was found, edge generation}: the build has begun only if the state was cold
local feed = cache_key(FEED, ARGV[1])
if ARGV[3] == '1' then redis.call('DEL', feed) end
local head = redis.call('LINDEX', feed, 0)
local state = not head and 'cold' or head:byte() == MARKER and 'building' or 'warm'
if state == 'cold' then
  redis.call('RPUSH', feed, '!' .. ARGV[2])
  redis.call('PEXPIRE', feed, BUILD_MS)
  -- It missed what was delivered while there was no warm feed. Not before the first write, which a full store refuses.
  redis.call('DEL', cache_key(DEEP, ARGV[1]))
end
return {state, redis.call('HGET', key(EDGES, ARGV[1]), GENERATION) or ''}
