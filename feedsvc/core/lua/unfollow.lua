-- include: followers live modes requests
-- End an edge. The feed goes cold in the same step: its next read builds the feed without the
-- followee's outbox. No reader uses a deep segment while the feed is cold, and the build drops the
-- segment.
-- KEYS  the tag of the follower's shard
-- ARGV  follower, followee, digest, request name, seconds to keep the request
-- Returns {outcome, '1' if there was an edge, '1' if the followee is pulled but may not be a
--         celebrity any more}. Outcomes: done, replayed; refused: reused
-- Repeat: the request record makes the second call 'replayed', with the result of the first.
local follower, followee, digest, request, request_ttl = unpack(ARGV, 1, 5)
local edges = key(EDGES, follower)

local earlier = request_result(request, digest)
if earlier then return {'replayed', earlier, '0'} end
if earlier == false then return {'reused', '', '0'} end
local may_flip_back = '0'
local existed = tostring(redis.call('HDEL', edges, followee))
if existed == '1' then
  redis.call('HINCRBY', edges, GENERATION, 1)
  followers_remove(followee, follower)
  if is_pulled(redis.call('HGET', CELEBRITIES, followee) or '') then may_flip_back = '1' end
  redis.call('SREM', key(PULLED, follower), followee)
  redis.call('DEL', cache_key(FEED, follower))
  if leased(follower) then log_append(follower, 'u', followee) end
end
request_keep(request, digest, existed, request_ttl)
return {'done', existed, may_flip_back}
