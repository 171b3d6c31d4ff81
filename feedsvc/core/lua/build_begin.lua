-- include: packed
-- Begin to build a feed: from now on deliveries land in the list that is being built.
-- KEYS  the tag of the user's shard
-- ARGV  user, nonce, '1' to delete the stored feed first
-- Returns {state before: cold, building or warm; edge generation}. The build has begun only if the
--         state was cold
-- Repeat: finds the state building and changes nothing. The caller gives up and the marker expires;
--         with '1' the build begins again.
local user, nonce, is_forced = ARGV[1], ARGV[2], ARGV[3] == '1'
local feed = cache_key(FEED, user)

if is_forced then redis.call('DEL', feed) end
local state = packed_state(redis.call('LINDEX', feed, 0))
if state == 'cold' then
  redis.call('RPUSH', feed, '!' .. nonce)
  redis.call('PEXPIRE', feed, BUILD_TTL_MS)
  -- The deep segment missed the deliveries while the feed was cold. Delete it after the first
  -- write: a full store refuses that write and must keep the segment.
  redis.call('DEL', cache_key(DEEP, user))
end
return {state, redis.call('HGET', key(EDGES, user), GENERATION) or ''}
