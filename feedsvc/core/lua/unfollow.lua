-- include: followers live modes requests
-- End an edge. The feed goes cold in the same step: its next read builds it without what the edge
-- brought. No reader uses a deep segment while the feed is cold, and the build drops the segment.
-- KEYS  the tag of the follower's shard
-- ARGV  follower, followee, digest, request name, seconds to keep the request
-- Returns {outcome, '1' if there was an edge, '1' if the followee is pulled but may not be a
--         celebrity any more}. Outcomes: done, replayed; refused: reused
-- Repeat: the request record makes the second call 'replayed', with the result of the first.
local follower, followee, digest, request, request_ttl = unpack(ARGV, 1, 5)
local edges = key(EDGES, follower)

local known = request_result(request, digest)
if known then return {'replayed', known, '0'} end
if known == false then return {'reused', '', '0'} end
local is_shrinking = '0'
local was_there = tostring(redis.call('HDEL', edges, followee))
if was_there == '1' then
  redis.call('HINCRBY', edges, GENERATION, 1)
  followers_remove(followee, follower)
  if is_pulled(redis.call('HGET', CELEBRITIES, followee) or '') then is_shrinking = '1' end
  redis.call('SREM', key(PULLED, follower), followee)
  redis.call('DEL', cache_key(FEED, follower))
  if leased(follower) then log_append(follower, 'u', followee) end
end
request_keep(request, digest, was_there, request_ttl)
return {'done', was_there, is_shrinking}
