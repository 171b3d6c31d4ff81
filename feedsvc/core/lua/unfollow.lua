-- include: clock live requests followers
-- Ends an edge. The feed goes cold in the same step: its next read builds it without what the edge brought. A deep
-- segment is not read while the feed is cold, and the build drops it.
-- KEYS  the tag of the follower's shard
-- ARGV  follower, followee, digest, request name, seconds to keep it
-- Returns {outcome, '1' if there was an edge, '1' if the followee is read by its followers, but may be a crowd no more}. Outcomes: done, replayed;
--         reused: refused
local follower, followee, digest, request = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local edges = key(EDGES, follower)
local known = request_result(request, digest)
if known then return {'replayed', known, '0'} end
if known == false then return {'reused', '', '0'} end
local left = '0'
local there = tostring(redis.call('HDEL', edges, followee))
if there == '1' then
  redis.call('HINCRBY', edges, GENERATION, 1)
  followers_remove(followee, follower)
  local celebrity = redis.call('HGET', CELEBRITIES, followee)
  if celebrity and celebrity:sub(1, 1) == 'P' then left = '1' end
  redis.call('SREM', key(PULLED, follower), followee)
  redis.call('DEL', cache_key(FEED, follower))
  if leased(follower) then log_write(follower, 'u', followee) end
end
request_keep(request, digest, there, ARGV[5])
return {'done', there, left}
