-- include: packed live requests followers
-- Makes edges of one shard's followers. The bitmaps of the followees must name this shard already.
-- KEYS  the tag of the followers' shard
-- ARGV  for each: follower, followee, digest, request name, seconds to keep it
-- Returns for each {outcome, position, 'pull' or 'push'}. Outcomes: followed, already; reused, too_many: refused.
--         A repeated request has the outcome of the first
--
-- The position is unique among the followee's followers here and among the follower's edges, only grows, and
-- begins with the time: it orders both lists, and it is the epoch of the edge.
local results = {}
for first = 1, #ARGV, 5 do
  local follower, followee, digest, request = ARGV[first], ARGV[first + 1], ARGV[first + 2], ARGV[first + 3]
  local edges, pulled = key(EDGES, follower), key(PULLED, follower)
  local known = request_result(request, digest)
  local position = redis.call('HGET', edges, followee)
  local outcome = 'followed'
  if known then
    outcome, position = known:match('^(%a+)(%d+)$')
  elseif known == false then
    outcome, position = 'reused', ''
  elseif position then
    outcome = 'already'
  elseif edges_count(follower) >= MAX_FOLLOWEES then
    outcome, position = 'too_many', ''
  else
    position = string.format('%.0f', math.max(clock_us(), 1 + (followers_last(followee) or 0),
      1 + (redis.call('HGET', edges, GENERATION) or 0)))
    -- A warm feed lacks what the outbox holds: reads merge it until that is settled.
    local head = redis.call('LINDEX', key(FEED, follower), 0)
    if head and head:byte() ~= MARKER then redis.call('SADD', pulled, followee) end
    redis.call('HSET', edges, followee, position, GENERATION, position)
    followers_add(followee, follower, position)
    if is_live(follower) then log_write(follower, 'f', followee) end
  end
  if known == nil and outcome ~= 'too_many' then
    request_keep(request, digest, outcome .. position, ARGV[first + 4])
  end
  local mode = redis.call('SISMEMBER', pulled, followee) == 1 and 'pull' or 'push'
  results[#results + 1] = {outcome, position, mode}
end
return results
